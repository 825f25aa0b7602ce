// The series of the chosen pixels: read, plotted together by uPlot, listed with their links, and as a table.

import { $, announce, make } from "./elements.js";
import { align, instant, place, shortDate, shown } from "./numbers.js";
import { fetchJson, pointNames, seriesAddress } from "./requests.js";

const { uPlot } = globalThis;
const COLOURS = ["#d1495b", "#1f77b4", "#c27803", "#2a9d5c", "#8e5bd0", "#00a0a0", "#b5651d", "#7d8597"];
const MOST_JOINED = 200;
const MOST_ROWS = 2000;
const HEIGHT = 240;
// what is shown to either side of a single date, a day in seconds
const ALONE = 86_400;

export const colourOf = (number) => COLOURS[number % COLOURS.length];

export class SeriesPanel {
  /** `remove(index)` is called when a pixel's button is pressed, `lost(index, error)` when it has no series. */
  constructor(on) {
    this.on = on;
    this.read = new Map();
    this.failed = new Set();
    window.addEventListener("themechange", () => this.plot());
    new ResizeObserver(() => this.chart?.setSize({ width: $("chart").clientWidth, height: HEIGHT })).observe($("chart"));
  }

  /** Show the pixels of a state; what is not read yet is asked for. */
  async show(description, state) {
    this.description = description;
    this.state = state;
    const wanted = state.points.map((point) => seriesAddress(description, state, point, "json"));
    this.wanted = wanted;
    this.list();
    await Promise.all(wanted.map((url, index) => this.fetch(url, state.points[index])));
    if (this.wanted !== wanted) return;
    this.list();
    this.plot();
  }

  async fetch(url, point) {
    if (this.read.has(url)) return;
    try {
      const answer = await fetchJson(url);
      this.failed.delete(url);
      this.read.set(url, seriesOf(answer, this.state.variable));
      if (this.wanted?.includes(url)) this.tell(point, this.read.get(url));
    } catch (error) {
      if (!this.wanted?.includes(url)) return;
      this.failed.add(url);
      this.on.lost(point, error);
    }
  }

  tell(point, series) {
    const present = series.values.filter((value) => value !== null);
    const last = present.length ? `, the last is ${shown(present[present.length - 1])} ${series.units}` : "";
    announce(`Pixel ${point.join(", ")}: ${present.length} of ${series.values.length} values${last}.`);
  }

  list() {
    const { description, state } = this;
    $("series-hint").hidden = state.points.length > 0;
    const names = pointNames(description);
    $("points").replaceChildren(...state.points.map((point, index) => {
      const series = this.read.get(this.wanted[index]);
      const cell = description.resolution?.[0] ?? 1e-4;
      const where = `${names[0]} ${place(point[0], cell)}, ${names[1]} ${place(point[1], cell)}`;
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("class", "swatch");
      swatch.setAttribute("aria-hidden", "true");
      const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of [["width", "100%"], ["height", "100%"], ["fill", colourOf(index)]]) square.setAttribute(name, value);
      swatch.append(square);
      return make("li", {},
        swatch,
        make("span", {}, `${index + 1}: ${where}${series ? `: ${shownAt(series, state.datetime)}` : this.failed.has(this.wanted[index]) ? ": not read" : ": reading"}`),
        make("a", { href: seriesAddress(description, state, point, "csv"), download: `${description.id}-${index + 1}.csv`, "aria-label": `CSV of pixel ${index + 1}` }, "CSV"),
        make("button", { type: "button", "aria-label": `Remove pixel ${index + 1}`, onclick: () => this.on.remove(index) }, "×"),
      );
    }));
  }

  plot() {
    if (!this.state) return;
    this.chart?.destroy();
    this.chart = null;
    $("chart").plotted = null;
    const found = this.wanted.map((url) => this.read.get(url));
    const present = found.filter(Boolean);
    $("table-details").hidden = present.length === 0;
    $("chart").setAttribute("aria-label", chartLabel(present, this.state.variable));
    if (present.length === 0) {
      $("table").replaceChildren();
      return;
    }
    const joined = align(present);
    const numbers = found.flatMap((series, index) => (series ? [index] : []));
    this.draw(joined, present, numbers);
    this.tabulate(joined, present, numbers);
  }

  draw({ times, values }, present, numbers) {
    const style = getComputedStyle(document.documentElement);
    const [text, line] = ["--text", "--line"].map((name) => style.getPropertyValue(name).trim());
    const instants = times.map((time) => instant(time) / 1000);
    const dated = instants.every(Number.isFinite);
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
    const many = times.length > MOST_JOINED;
    const units = present[0].units;
    this.chart = new uPlot({
      width: $("chart").clientWidth,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { x: { time: dated, range: (_, low, high) => (low === high ? [low - ALONE, high + ALONE] : [low, high]) } },
      axes: [axis, { ...axis, label: units ? `${this.state.variable} (${units})` : this.state.variable, size: 70 }],
      series: [
        { label: dated ? "Time (UTC)" : "Number" },
        ...numbers.map((index) => ({
          label: `${index + 1}`,
          stroke: colourOf(index),
          fill: undefined,
          width: many ? 0 : 1.5,
          points: { show: true, size: many ? 4 : 6, fill: colourOf(index), stroke: colourOf(index) },
          value: (_, value) => (value === null ? "–" : shown(value)),
          ...(many ? { paths: () => null } : {}),
        })),
      ],
    }, [dated ? instants : times.map((_, index) => index), ...values], $("chart"));
    // what is plotted, for scripts that ask the element
    $("chart").plotted = this.chart.data;
  }

  tabulate({ times, values }, present, numbers) {
    const head = make("tr", {}, make("th", { scope: "col" }, "Time"), ...numbers.map((index) => make("th", { scope: "col" }, `Pixel ${index + 1}`)));
    const rows = times.slice(0, MOST_ROWS).map((time, row) =>
      make("tr", {}, make("td", {}, shortDate(time)), ...values.map((each) => make("td", {}, each[row] === null ? "" : String(each[row])))));
    const more = times.length > MOST_ROWS ? [make("p", {}, `The CSV has ${times.length - MOST_ROWS} more.`)] : [];
    $("table").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)), ...more);
  }
}

/** Take the times and values of one variable out of an answer of /timeseries. */
export function seriesOf(answer, name) {
  const variable = answer.variables[name];
  const times = answer.time ?? [""];
  const values = Array.isArray(variable.values) ? variable.values.flat(Infinity) : [variable.values];
  if (values.length !== times.length) throw new Error(`${name} has no one value a date here.`);
  return { times, values, units: variable.units === "1" ? "" : variable.units ?? "", label: variable.long_name ?? name };
}

function shownAt(series, datetime) {
  const index = datetime ? series.times.indexOf(datetime) : series.times.length - 1;
  const value = series.values[index] ?? null;
  return value === null ? "no value at this date" : `${shown(value)} ${series.units}`;
}

function chartLabel(present, variable) {
  if (present.length === 0) return "No series yet";
  const ends = present.map((series, index) => {
    const values = series.values.filter((value) => value !== null);
    return values.length ? `pixel ${index + 1} from ${shown(Math.min(...values))} to ${shown(Math.max(...values))} ${series.units}` : `pixel ${index + 1} has no values`;
  });
  return `Plot of ${variable} over time: ${ends.join("; ")}. The table below has the values.`;
}
