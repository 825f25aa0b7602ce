// Flow arrows where a cube has vx and vy: a few over what the map shows, as long as the flow is fast.

import { boxQuery, fetchJson, address } from "./requests.js";

export const MOST_CELLS = 400_000;
const ACROSS = 24;

/** Whether a cube's variables tell a flow. */
export function hasFlow(description) {
  const named = (name) => description.variables.some((each) => each.name === name);
  return named("vx") && named("vy") && description.members.length === 0;
}

/** Read vx and vy in a box at the date shown; returns arrows for the map. */
export async function fetchArrows(description, state, box, signal) {
  const query = boxQuery(description, { ...state, variable: "vx" }, box, "one", "vx,vy");
  const price = await fetchJson(address(description.id, "estimate", query), { signal });
  if (!price.fits || price.cells > MOST_CELLS) throw new Error("Zoom in to see flow arrows: here are too many cells to read.");
  const coverage = await fetchJson(address(description.id, "subset", { ...query, f: "covjson" }), { signal });
  return arrowsOf(coverage, box);
}

/** Make arrows of a CoverageJSON grid: at its first time, one for each of some blocks, of the block's middle cell. */
export function arrowsOf(coverage, box) {
  const first = coverage.type === "CoverageCollection" ? coverage.coverages[0] : coverage;
  const axes = first.domain.axes;
  const xs = axisValues(axes.x);
  const ys = axisValues(axes.y);
  const [vx, vy] = ["vx", "vy"].map((name) => first.ranges[name].values);
  const step = Math.max(1, Math.ceil(Math.max(xs.length, ys.length) / ACROSS));
  const found = [];
  for (let row = Math.floor(step / 2); row < ys.length; row += step) {
    for (let column = Math.floor(step / 2); column < xs.length; column += step) {
      const at = row * xs.length + column;
      if (vx[at] !== null && vy[at] !== null) found.push([xs[column], ys[row], vx[at], vy[at]]);
    }
  }
  const speeds = found.map(([, , u, v]) => Math.hypot(u, v)).sort((one, other) => one - other);
  const fast = speeds[Math.floor(speeds.length * 0.98)] || 1;
  const longest = (Math.max(box[2] - box[0], box[3] - box[1]) / ACROSS) * 1.3;
  return found.filter(([, , u, v]) => Math.hypot(u, v) > 0).map(([x, y, u, v]) => arrow(x, y, u, v, (longest / fast) * Math.min(1, fast / Math.hypot(u, v))));
}

function arrow(x, y, u, v, scale) {
  const head = [x + u * scale, y + v * scale];
  const wing = (angle) => {
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    return [head[0] - 0.3 * scale * (u * cos - v * sin), head[1] - 0.3 * scale * (u * sin + v * cos)];
  };
  return [[x, y], head, wing(0.5), wing(-0.5)];
}

/** The values of a CoverageJSON axis, which may be given as start, stop and num. */
export function axisValues(axis) {
  if (axis.values) return axis.values;
  const { start, stop, num } = axis;
  return Array.from({ length: num }, (_, index) => (num === 1 ? start : start + ((stop - start) * index) / (num - 1)));
}
