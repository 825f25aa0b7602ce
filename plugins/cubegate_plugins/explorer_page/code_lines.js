// The lines of Python and curl that give what is on the screen.

import { address, boxQuery, seriesAddress } from "./requests.js";

/** List what can be pasted, as {name, text}; `base` is the server's address with a slash at its end. */
export function codeLines(base, description, state) {
  const found = [];
  if (description.members.length === 0) found.push({ name: "Python: open the cube", text: openLines(base, description, state) });
  for (const [number, point] of state.points.entries()) {
    const which = state.points.length > 1 ? ` of pixel ${number + 1}` : "";
    found.push({ name: `Python: the series${which}`, text: pythonSeries(base, description, state, point) });
    found.push({ name: `curl: the series${which}`, text: `curl -fsS ${quoted(base + seriesAddress(description, state, point, "csv"))}` });
  }
  if (state.box) {
    const url = base + address(description.id, "subset", { ...boxQuery(description, state, state.box, state.boxDates), f: "netcdf" });
    found.push({ name: "Python: the box", text: `import io, urllib.request\nimport xarray as xr\nurl = ${python(url)}\nbox = xr.open_dataset(io.BytesIO(urllib.request.urlopen(url).read()), engine="h5netcdf")\nprint(box)` });
    found.push({ name: "curl: the box", text: `curl -fsS -o box.nc ${quoted(url)}` });
  }
  return found;
}

function openLines(base, description, state) {
  return `import xarray as xr\ncube = xr.open_zarr(${python(`${base}${address(description.id, "zarr")}`)})\nprint(cube[${python(state.variable)}])`;
}

function pythonSeries(base, description, state, point) {
  const url = base + seriesAddress(description, state, point, "csv");
  return `import pandas as pd\nseries = pd.read_csv(${python(url)}, comment="#", index_col="time", parse_dates=True)\nprint(series)`;
}

// JSON's strings are strings of Python too
function python(text) {
  return JSON.stringify(text);
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
