// The list of cubes: each is described when it comes into sight, since there may be very many.

import { $, make } from "./elements.js";
import { place } from "./numbers.js";
import { address, fetchJson } from "./requests.js";

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
  const cell = Math.max(box[2] - box[0], box[3] - box[1]) / 100;
  const [west, south, east, north] = box.map((value) => place(value, cell));
  return `${west}° to ${east}° east, ${south}° to ${north}° north`;
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
      tell(entry.target.firstChild, entry.target.dataset.id);
    }
  }, { root: list });
  const items = ids.map((id) => {
    const item = make("li", { "data-id": id }, make("button", { type: "button", onclick: () => choose(id) }, id));
    seen.observe(item);
    return item;
  });
  list.replaceChildren(...(items.length ? items : [make("li", {}, "This server has no cubes yet.")]));
  $("find").addEventListener("input", () => {
    const wanted = $("find").value.trim().toLowerCase();
    for (const item of items) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  });
  return (chosen) => {
    for (const item of items) {
      const button = item.firstChild;
      if (item.dataset.id === chosen) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  };
}

async function tell(button, id) {
  try {
    const description = await describe(id);
    const times = description.time?.values ?? [];
    const dates = times.length ? `${times.length} dates, ${times[0].slice(0, 10)} to ${times[times.length - 1].slice(0, 10)}` : "no dates";
    button.replaceChildren(
      id,
      make("small", {}, description.title === id ? "" : description.title),
      make("small", {}, extentText(description)),
      make("small", {}, dates),
    );
  } catch (error) {
    button.replaceChildren(id, make("small", {}, error.message));
  }
}
