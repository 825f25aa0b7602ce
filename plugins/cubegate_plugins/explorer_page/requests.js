// The addresses of what the page asks of the server, and its errors in words.

import { underWay } from "./elements.js";
import { plainly } from "./state.js";

/** Build `datasets/{id}/{path}?...`, without what is empty. */
export function address(id, path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const query = given.map(([name, value]) => `${plainly(name)}=${plainly(String(value))}`).join("&");
  return `datasets/${encodeURIComponent(id)}/${path}${query ? `?${query}` : ""}`;
}

/** The names that a point's coordinates bear in a query of a cube. */
export function pointNames(description) {
  const degrees = ["EPSG:4326", "OGC:CRS84"].includes(description.crs?.name);
  return degrees ? ["lon", "lat"] : ["x", "y"];
}

/** The address of the series of one point. */
export function seriesAddress(description, state, point, format) {
  const [first, second] = pointNames(description);
  return address(description.id, "timeseries", {
    [first]: point[0],
    [second]: point[1],
    variables: state.variable,
    ...chosenDimensions(description, state),
    f: format,
  });
}

/** The query of a box, without a format: at the date shown, or at all dates. */
export function boxQuery(description, state, box, dates, variables = state.variable) {
  const degrees = pointNames(description)[0] === "lon";
  return {
    bbox: box.join(","),
    "bbox-crs": degrees ? "" : "native",
    variables,
    datetime: dates === "one" && isTimed(description, state.variable) ? state.datetime : "",
    ...chosenDimensions(description, state),
  };
}

/** Where the dimensions beyond x, y and time of the chosen variable are looked at. */
export function chosenDimensions(description, state) {
  const variable = description.variables.find((each) => each.name === state.variable);
  const others = Object.keys(description.dimensions).filter((dim) => variable?.dimensions.includes(dim));
  return Object.fromEntries(others.map((dim) => [dim, state.dimensions[dim] ?? description.dimensions[dim].values[0]]));
}

/** Whether a variable has dates. */
export function isTimed(description, name) {
  return Boolean(description.time) && (description.variables.find((each) => each.name === name)?.timed ?? false);
}

/** Ask for JSON; throws an error whose message says in words what the server said. */
export async function fetchJson(url, options = {}) {
  underWay(1);
  try {
    const response = await fetch(url, options);
    if (response.ok) return await response.json();
    throw failure(words(response.status, await response.json().catch(() => ({}))), response.status >= 500 || response.status === 429);
  } catch (error) {
    // what fetch itself throws when nobody answers
    throw error instanceof TypeError ? failure("The server did not answer. Is it running, and is the network there?", true) : error;
  } finally {
    underWay(-1);
  }
}

/** An error that says whether it may be over in a moment. */
function failure(message, temporary) {
  return Object.assign(new Error(message), { temporary });
}

/** Say a problem document in one line. */
export function words(status, problem) {
  const title = problem.title ?? `The server answered ${status}`;
  const detail = problem.detail ?? "";
  const hint = problem.hint && !detail.includes(problem.hint) ? problem.hint : "";
  return [`${title}.`, detail, hint].filter(Boolean).join(" ");
}
