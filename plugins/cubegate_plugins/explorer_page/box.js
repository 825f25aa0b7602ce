// The chosen box: its price, its downloads and its histogram.

import { $, make } from "./elements.js";
import { bytes, histogram, shown } from "./numbers.js";
import { address, boxQuery, fetchJson } from "./requests.js";

const MOST_CELLS = 400_000;
const SVG = "http://www.w3.org/2000/svg";

export class BoxPanel {
  constructor() {
    this.stop = new AbortController();
  }

  /** Show the box of a state: its price first, and what may be downloaded once that is known. */
  async show(description, state) {
    this.stop.abort();
    this.stop = new AbortController();
    const { signal } = this.stop;
    $("box-details").hidden = !state.box;
    if (!state.box) return;
    $("downloads").replaceChildren();
    $("histogram").replaceChildren();
    $("price").textContent = "Asking for the price…";
    $("price").classList.remove("refused");
    try {
      await Promise.all([this.price(description, state, signal), this.count(description, state, signal)]);
    } catch (error) {
      if (error.name === "AbortError") return;
      $("price").textContent = error.message;
      $("price").classList.add("refused");
    }
  }

  async price(description, state, signal) {
    const query = boxQuery(description, state, state.box, state.boxDates);
    const price = await fetchJson(address(description.id, "estimate", query), { signal });
    $("price").textContent = priceWords(price);
    $("price").classList.toggle("refused", !price.fits);
    if (!price.fits) return;
    const link = (format, extension, label) => make("a", {
      class: "button", href: address(description.id, "subset", { ...query, f: format }), download: `${description.id}-${state.variable}.${extension}`,
    }, label);
    $("downloads").replaceChildren(link("netcdf", "nc", "NetCDF"), link("geotiff", "tif", "GeoTIFF"));
  }

  async count(description, state, signal) {
    const query = boxQuery(description, state, state.box, "one");
    const price = await fetchJson(address(description.id, "estimate", query), { signal });
    if (!price.fits || price.cells > MOST_CELLS) {
      $("histogram").replaceChildren(make("p", {}, `A histogram is drawn of up to ${MOST_CELLS.toLocaleString("en")} cells; here are ${price.cells.toLocaleString("en")}. Draw a smaller box.`));
      return;
    }
    const coverage = await fetchJson(address(description.id, "subset", { ...query, f: "covjson" }), { signal });
    drawHistogram(coverageValues(coverage, state.variable), unitsOf(description, state));
  }
}

function unitsOf(description, state) {
  return description.variables.find((each) => each.name === state.variable)?.units ?? "";
}

/** All values of one variable of a CoverageJSON document. */
export function coverageValues(coverage, name) {
  const parts = coverage.type === "CoverageCollection" ? coverage.coverages : [coverage];
  return parts.flatMap((part) => part.ranges[name].values);
}

/** Say what a query costs. */
export function priceWords(price) {
  const parts = `${price.chunks.toLocaleString("en")} chunks and ${bytes(price.bytes)} to read at most, ${price.cells.toLocaleString("en")} cells in the answer.`;
  return price.fits ? parts : `${parts} That is too much for one query. ${price.hint ?? ""}`;
}

function drawHistogram(values, units) {
  const found = histogram(values);
  if (found.counts.length === 0) {
    $("histogram").replaceChildren(make("p", {}, "All values in the box are missing at this date."));
    return;
  }
  const most = Math.max(...found.counts);
  const width = 100 / found.counts.length;
  const picture = document.createElementNS(SVG, "svg");
  const present = values.length - found.missing;
  picture.setAttribute("viewBox", "0 0 100 40");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `Histogram of ${present} values from ${shown(found.low)} to ${shown(found.high)} ${units}`);
  found.counts.forEach((count, index) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = (count / most) * 40;
    for (const [name, value] of Object.entries({ x: index * width, y: 40 - height, width: width * 0.92, height })) bar.setAttribute(name, value);
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${count}`;
    bar.append(title);
    picture.append(bar);
  });
  $("histogram").replaceChildren(picture, make("p", {}, `${shown(found.low)} to ${shown(found.high)} ${units}; ${present.toLocaleString("en")} values, ${found.missing.toLocaleString("en")} missing.`));
}

