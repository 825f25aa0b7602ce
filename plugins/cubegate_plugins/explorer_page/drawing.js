// The controls of what is drawn: variable, further dimensions, date, colours and range.

import { hasFlow } from "./arrows.js";
import { $, fillSelect, make } from "./elements.js";
import { shortDate } from "./numbers.js";
import { isTimed } from "./requests.js";

const COLORMAPS = [
  "viridis", "plasma", "inferno", "magma", "cividis", "turbo", "gray", "Blues", "YlGnBu", "YlOrRd", "terrain",
  "RdBu_r", "RdBu", "coolwarm", "seismic", "PuOr", "BrBG", "Spectral_r", "twilight", "hsv",
];
const PAUSE = 150;

/** Fill the controls for a cube; returns the state with what the cube lacks replaced by what it has. */
export function fillDrawing(description, state) {
  $("drawing").hidden = false;
  const labelled = description.variables.map((each) => [each.name, optionText(each)]);
  // masks and flags are there to be asked for
  const [timed] = [...description.variables].sort((one, other) => rank(one) - rank(other));
  const preferred = state.variable && description.variables.some((each) => each.name === state.variable) ? state.variable : timed.name;
  const variable = fillSelect($("variable"), labelled, preferred);
  fillSelect($("colormap"), [["", "automatic"], ...known(state.colormap).map((name) => [name, name])], state.colormap);
  $("low").value = state.low;
  $("high").value = state.high;
  $("arrows").checked = state.arrows;
  $("arrows-label").hidden = !hasFlow(description);
  const times = description.time?.values ?? [];
  const datetime = times.includes(state.datetime) ? state.datetime : times[times.length - 1] ?? "";
  $("time").max = String(Math.max(0, times.length - 1));
  const filled = { ...state, variable, datetime };
  showDate(description, filled);
  fillDimensions(description, filled);
  return filled;
}

function rank(variable) {
  const plain = /^(bool|u?int8)$/.test(variable.dtype) || ["", "1"].includes(variable.units);
  return (variable.timed ? 0 : 2) + (plain ? 1 : 0);
}

function known(colormap) {
  return colormap && !COLORMAPS.includes(colormap) ? [colormap, ...COLORMAPS] : COLORMAPS;
}

function optionText(variable) {
  const label = variable.label === variable.name ? variable.name : `${variable.name}: ${variable.label}`;
  return variable.units ? `${label} (${variable.units})` : label;
}

function showDate(description, state) {
  const times = description.time?.values ?? [];
  const index = Math.max(0, times.indexOf(state.datetime));
  $("times").hidden = !isTimed(description, state.variable);
  $("time").value = String(index);
  $("time").setAttribute("aria-valuetext", shortDate(times[index] ?? ""));
  $("date").textContent = times.length ? `${shortDate(times[index])} (${index + 1} of ${times.length})` : "";
  for (const id of ["earlier", "time", "later"]) $(id).hidden = times.length < 2;
  $("earlier").disabled = index === 0;
  $("later").disabled = index >= times.length - 1;
}

function fillDimensions(description, state) {
  const variable = description.variables.find((each) => each.name === state.variable);
  const names = Object.keys(description.dimensions).filter((dim) => variable.dimensions.includes(dim));
  $("dimensions").replaceChildren(...names.flatMap((dim) => {
    const { values, units } = description.dimensions[dim];
    const select = make("select", { id: `dim-${dim}`, "data-dimension": dim });
    fillSelect(select, values, state.dimensions[dim]);
    return [make("label", { for: `dim-${dim}` }, units ? `${dim} (${units})` : dim), select];
  }));
}

/** Listen to the controls; `change(part)` changes the state, `now()` gives {description, state}. */
export function bindDrawing(change, now) {
  // on a phone the map comes first
  $("drawing-details").open = !window.matchMedia("(max-width: 44rem)").matches;
  let waiting = 0;
  const goTo = (index) => {
    const { description, state } = now();
    const times = description.time?.values ?? [];
    const datetime = times[Math.min(Math.max(index, 0), times.length - 1)];
    showDate(description, { ...state, datetime });
    window.clearTimeout(waiting);
    waiting = window.setTimeout(() => now().description === description && change({ datetime }), PAUSE);
  };
  $("time").addEventListener("input", () => goTo(Number($("time").value)));
  $("earlier").addEventListener("click", () => goTo(Number($("time").value) - 1));
  $("later").addEventListener("click", () => goTo(Number($("time").value) + 1));
  $("variable").addEventListener("change", () => {
    // a range and colours suit the variable that they were chosen for
    const { description, state } = now();
    const filled = fillDrawing(description, { ...state, variable: $("variable").value, low: "", high: "", colormap: "" });
    change({ variable: filled.variable, low: "", high: "", colormap: "", dimensions: filled.dimensions });
  });
  $("dimensions").addEventListener("change", (event) => {
    change({ dimensions: { ...now().state.dimensions, [event.target.dataset.dimension]: event.target.value } });
  });
  $("colormap").addEventListener("change", () => change({ colormap: $("colormap").value }));
  for (const id of ["low", "high"]) $(id).addEventListener("change", () => takeRange(change));
  $("arrows").addEventListener("change", () => change({ arrows: $("arrows").checked }));
}

function takeRange(change) {
  const [low, high] = ["low", "high"].map((id) => $(id).value.trim());
  const numbers = low !== "" && high !== "" ? [Number(low), Number(high)] : null;
  const wrong = (low !== "" && !Number.isFinite(Number(low))) || (high !== "" && !Number.isFinite(Number(high))) || (numbers !== null && numbers[0] >= numbers[1]);
  for (const id of ["low", "high"]) {
    $(id).setAttribute("aria-invalid", String(wrong));
    $(id).setCustomValidity(wrong ? "Two numbers, the smaller one first." : "");
    if (wrong) $(id).reportValidity();
  }
  if (!wrong) change({ low, high });
}
