// The chosen box: its price, its downloads and its histogram.

import { $, make } from "./elements.js";
import { bytes, histogram, shown } from "./numbers.js";
import { address, boxQuery, fetchJson } from "./requests.js";

const MOST_CELLS = 4_000_000;
const BINS = 24;
const LONGEST_NAME = 40;
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
    drawHistogram(await fetchCounts(description, state, signal), unitsOf(description, state));
  }
}

/** Count the values of the box at the date shown: by the server, or here where the box has no CRS to name. */
async function fetchCounts(description, state, signal) {
  const { bbox, "bbox-crs": native, ...query } = boxQuery(description, state, state.box, "one");
  if (native && !(description.crs?.name.length < LONGEST_NAME)) {
    const coverage = await fetchJson(address(description.id, "subset", { bbox, "bbox-crs": native, ...query, f: "covjson" }), { signal });
    return histogram(coverageValues(coverage, state.variable), BINS);
  }
  const url = address(description.id, "statistics", { ...query, crs: native ? description.crs.name : "", bins: BINS, f: "json" });
  const [west, south, east, north] = state.box;
  const ring = [[west, south], [east, south], [east, north], [west, north], [west, south]];
  const body = JSON.stringify({ type: "Polygon", coordinates: [ring] });
  const answer = await fetchJson(url, { method: "POST", headers: { "Content-Type": "application/geo+json" }, body, signal });
  // an instant may be there twice
  const rows = answer.statistics.filter((row) => row.histogram);
  const cells = answer.statistics[0].cells;
  if (rows.length === 0) return { low: null, high: null, missing: cells, counts: [] };
  const [{ count, min, max, mean, median, histogram: { counts } }] = rows;
  return { low: min, high: max, missing: cells - count, counts, mean, median };
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

function drawHistogram(found, units) {
  if (found.counts.length === 0) {
    $("histogram").replaceChildren(make("p", {}, "All values in the box are missing at this date."));
    return;
  }
  const most = Math.max(...found.counts);
  const width = 100 / found.counts.length;
  const picture = document.createElementNS(SVG, "svg");
  const present = found.counts.reduce((sum, count) => sum + count, 0);
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
  const middle = found.mean === undefined ? "" : `, mean ${shown(found.mean)}, median ${shown(found.median)}`;
  $("histogram").replaceChildren(picture, make("p", {}, `${shown(found.low)} to ${shown(found.high)} ${units}${middle}; ${present.toLocaleString("en")} values, ${found.missing.toLocaleString("en")} missing.`));
}

