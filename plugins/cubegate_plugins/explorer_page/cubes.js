// The list of cubes: each is described when it comes into sight, since there may be very many.

import { $, make } from "./elements.js";
import { degrees } from "./graticule.js";
import { place } from "./numbers.js";
import { address, fetchJson } from "./requests.js";

const NO_CUBES = "This server has no cubes yet. Whoever runs it adds one as a file below collections: the commands cubegate build and cubegate index write such files.";

const described = new Map();

/** The description of a cube; asked for once, unless that failed. */
export function describe(id) {
  if (!described.has(id)) {
    const asked = fetchJson(address(id, "description"));
    asked.catch(() => described.delete(id));
    described.set(id, asked);
  }
  return described.get(id);
}

/** Say where a cube lies, in degrees. */
export function extentText(description) {
  const box = description.extent.lonlat;
  if (!box) return `x ${shortened(description.extent.native, 0)}, y ${shortened(description.extent.native, 1)}`;
  const ends = (first, last, letters) => {
    const step = Math.min(1, 10 ** Math.floor(Math.log10(Math.max(last - first, 1e-6) / 5)));
    return [first, last].map((value) => degrees(value, step, letters));
  };
  const [west, east] = ends(box[0], box[2], "EW");
  const [south, north] = ends(box[1], box[3], "NS");
  return `${box[2] - box[0] >= 360 ? "All longitudes" : `${west} to ${east}`}, ${south} to ${north}`;
}

function shortened(box, axis) {
  return `${place(box[axis], 1)} to ${place(box[axis + 2], 1)}`;
}

/** Fill the list with `ids`; `choose(id)` is called when one is pressed. Returns how to mark the chosen one. */
export function listCubes(ids, choose) {
  const list = $("cubes");
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      seen.unobserve(entry.target);
      tell(entry.target.firstChild, entry.target.dataset.id).then(follow);
    }
  }, { root: list });
  let current = null;
  const follow = () => current && bringIntoSight(current, list);
  for (const name of ["wheel", "pointerdown", "keydown", "touchmove"]) list.addEventListener(name, () => { current = null; }, { passive: true });
  const items = ids.map((id) => {
    const item = make("li", { "data-id": id }, make("button", { type: "button", onclick: () => choose(id) }, id));
    seen.observe(item);
    return item;
  });
  const none = make("li", { hidden: items.length > 0 }, items.length ? "No cube that was in sight is like this." : NO_CUBES);
  list.replaceChildren(...items, none);
  for (const part of document.querySelectorAll("#find, label[for=find]")) part.hidden = items.length < 2;
  if (items.length > 1) document.querySelector("label[for=find]").textContent = `Find one of ${items.length} cubes`;
  $("find").addEventListener("input", () => {
    const wanted = $("find").value.trim().toLowerCase();
    for (const item of items) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    none.hidden = items.some((item) => !item.hidden);
  });
  return (chosen) => {
    for (const item of items) {
      const button = item.firstChild;
      if (item.dataset.id === chosen) {
        button.setAttribute("aria-current", "true");
        current = item;
        follow();
      } else button.removeAttribute("aria-current");
    }
  };
}

/** Scroll a list to an item, and nothing else of the page. */
function bringIntoSight(item, list) {
  const [inner, outer] = [item, list].map((each) => each.getBoundingClientRect());
  if (inner.top < outer.top || inner.bottom > outer.bottom) list.scrollTop += inner.top - outer.top;
}

function datesText(times) {
  if (times.length === 0) return "no dates";
  const [first, last] = [times[0], times[times.length - 1]].map((time) => time.slice(0, 10));
  return times.length === 1 ? `1 date, ${first}` : `${times.length} dates, ${first} to ${last}`;
}

async function tell(button, id) {
  try {
    const description = await describe(id);
    button.replaceChildren(
      id,
      make("small", {}, description.title === id ? "" : description.title),
      make("small", {}, extentText(description)),
      make("small", {}, datesText(description.time?.values ?? [])),
    );
  } catch (error) {
    button.replaceChildren(id, make("small", {}, error.message));
  }
}
