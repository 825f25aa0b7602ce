// The cube's own CRS for OpenLayers, by proj4, and its way to longitude and latitude.

const { ol, proj4 } = globalThis;
// of a degree, about ten metres; rounding and other datums are less
const AGREED = 1e-4;

/** Return {projection, toLonLat, fromLonLat, flat} of a description; the ways are null where they are unknown. */
export function openProjection(description) {
  const extent = description.extent.native;
  const crs = description.crs;
  const same = (place) => [...place];
  // the degrees of a rotated pole are others
  if (crs?.geographic && agrees({ inverse: same }, description)) {
    const projection = new ol.proj.Projection({ code: "CUBE:degrees", units: "degrees", extent });
    return { projection, toLonLat: same, fromLonLat: same, flat: true };
  }
  const units = crs?.geographic ? { units: "degrees" } : { metersPerUnit: crs?.metres || 1 };
  const projection = new ol.proj.Projection({ code: `CUBE:${description.id}`, ...units, extent });
  const way = crs && [crs.projjson, crs.wkt, crs.proj].map(openWay).find((each) => each && agrees(each, description));
  return {
    projection,
    toLonLat: way ? (place) => finite(() => way.inverse([...place])) : null,
    fromLonLat: way ? (place) => finite(() => way.forward([...place])) : null,
  };
}

/** The way from longitude and latitude to a CRS; null where proj4 does not know its method. */
function openWay(definition, number) {
  if (!definition) return null;
  try {
    const code = `CUBE:${number}`;
    proj4.defs(code, definition);
    return proj4("WGS84", code);
  } catch {
    return null;
  }
}

/** Whether proj4 puts the grid's corner where the server does: no lines are better than wrong ones. */
function agrees(way, description) {
  const corner = description.extent.outline?.[0];
  const [west, south] = description.extent.native;
  const found = finite(() => way.inverse([west, south]));
  if (!found || !corner) return Boolean(found);
  const turn = Math.abs(((((found[0] - corner[0] + 180) % 360) + 360) % 360) - 180);
  const near = Math.max(turn * Math.cos((corner[1] * Math.PI) / 180), Math.abs(found[1] - corner[1]));
  return near < AGREED;
}

/** What `work` returns where that is a place; else null. */
function finite(work) {
  try {
    const found = work();
    return found.every(Number.isFinite) ? found : null;
  } catch {
    return null;
  }
}
