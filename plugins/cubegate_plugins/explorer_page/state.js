// What the page shows, as the text behind # of its address, so that a link restores the view.

export const EMPTY = Object.freeze({
  cube: "", variable: "", datetime: "", colormap: "", low: "", high: "", dimensions: {}, view: null,
  points: [], box: null, boxDates: "one", arrows: false,
});

/** Read the text behind #; what is malformed is left out. */
export function readState(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const text = (name) => given.get(name) ?? "";
  const [low = "", high = ""] = text("rescale").split(",");
  const dimensions = {};
  for (const [name, value] of given) {
    if (name.startsWith("dim.")) dimensions[name.slice(4)] = value;
  }
  return {
    cube: text("cube"),
    variable: text("variable"),
    datetime: text("datetime"),
    colormap: text("colormap"),
    low,
    high,
    dimensions,
    view: numbers(text("view"), 3),
    points: text("points").split(";").map((part) => numbers(part, 2)).filter(Boolean),
    box: numbers(text("box"), 4),
    boxDates: text("dates") === "all" ? "all" : "one",
    arrows: text("arrows") === "1",
  };
}

/** Write a state such that `readState` gives it back. */
export function writeState(state) {
  const parts = [];
  const add = (name, value) => {
    if (value) parts.push(`${name}=${plainly(value)}`);
  };
  add("cube", state.cube);
  add("variable", state.variable);
  add("datetime", state.datetime);
  for (const [name, value] of Object.entries(state.dimensions)) add(`dim.${plainly(name)}`, value);
  add("colormap", state.colormap);
  if (state.low !== "" || state.high !== "") add("rescale", `${state.low},${state.high}`);
  add("view", state.view?.map(shorten).join(","));
  add("points", state.points.map((point) => point.join(",")).join(";"));
  add("box", state.box?.join(","));
  add("dates", state.box && state.boxDates === "all" ? "all" : "");
  add("arrows", state.arrows ? "1" : "");
  return `#${parts.join("&")}`;
}

/** Encode for a query, with the characters left readable that mean nothing in one. */
export function plainly(text) {
  return encodeURIComponent(text).replace(/%(2C|3A|2F|3B|40)/g, decodeURIComponent);
}

/** Read `count` finite numbers that commas separate; null where these are others. */
export function numbers(text, count) {
  const parts = text.split(",").map((part) => part.trim());
  const found = parts.map(Number);
  const right = parts.length === count && parts.every((part) => part !== "") && found.every(Number.isFinite);
  return right ? found : null;
}

function shorten(number) {
  return String(Number(number.toPrecision(10)));
}
