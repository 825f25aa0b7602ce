// The cube's own CRS for OpenLayers, by proj4, and its way to longitude and latitude.

const { ol, proj4 } = globalThis;

/** Return {projection, toLonLat, fromLonLat} of a description; the ways are null where the CRS is unknown. */
export function openProjection(description) {
  const extent = description.extent.native;
  const crs = description.crs;
  if (crs === null || crs.geographic) {
    const code = crs === null ? "CUBE:plain" : "CUBE:degrees";
    const projection = new ol.proj.Projection({ code, units: crs === null ? "m" : "degrees", extent });
    const way = crs === null ? null : (place) => [...place];
    return { projection, toLonLat: way, fromLonLat: way };
  }
  // always an own code: OpenLayers has built-in ideas of some
  const code = `CUBE:${crs.name.length < 40 ? crs.name : description.id}`;
  proj4.defs(code, crs.projjson);
  const way = proj4("WGS84", code);
  const units = description.units[0];
  const metres = units && !/^(m|met(re|er)s?)$/i.test(units) ? undefined : 1;
  const projection = new ol.proj.Projection({ code, units: "m", metersPerUnit: metres, extent });
  return {
    projection,
    toLonLat: (place) => finite(() => way.inverse([...place])),
    fromLonLat: (place) => finite(() => way.forward([...place])),
  };
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
