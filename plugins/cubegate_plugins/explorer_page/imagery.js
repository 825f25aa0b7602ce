// The picture of a variable at a date: tiles of the cube's own grid, or of all the world where cubes are combined.

import { address, chosenDimensions, fetchJson, isTimed } from "./requests.js";

const { ol } = globalThis;
const WORLD = "WorldCRS84Quad";
// how many times larger than the first tiles' pixels those of the map may be
const SHRUNK = 3;

/** The parameters that a picture of the state has. */
export function pictureQuery(description, state) {
  const both = state.low !== "" && state.high !== "";
  return {
    variables: state.variable,
    datetime: isTimed(description, state.variable) ? state.datetime : "",
    rescale: both ? `${state.low},${state.high}` : "",
    colormap: state.colormap,
    ...chosenDimensions(description, state),
  };
}

/** Ask how the tiles lie; the grid has `first`, the first zoom that there is. */
export async function openTileGrid(description, state) {
  const name = description.members.length ? WORLD : "native";
  const query = { variables: state.variable, ...chosenDimensions(description, state) };
  const [tileset, matrices] = await Promise.all([
    fetchJson(address(description.id, `tiles/${name}`, query)),
    fetchJson(address(description.id, `tiles/${name}/tileMatrixSet`, query)),
  ]);
  const sizes = matrices.tileMatrices.map((matrix) => matrix.cellSize);
  const limits = tileset.tileMatrixSetLimits.map((limit) => Number(limit.tileMatrix));
  const [west, , , north] = description.extent.native;
  const grid = new ol.tilegrid.TileGrid({
    origin: name === WORLD ? [-180, 90] : [west, north],
    resolutions: sizes.slice(0, Math.max(...limits) + 1),
    sizes: matrices.tileMatrices.map((matrix) => [matrix.matrixWidth, matrix.matrixHeight]),
    tileSize: 256,
    minZoom: Math.min(...limits),
  });
  return { name, grid, first: sizes[Math.min(...limits)], cell: sizes[Math.max(...limits)] };
}

/** Make the source of the tiles of a state; `failed` is called with the address of a tile that did not come. */
export function openTiles(description, state, projection, tiles, failed) {
  const query = pictureQuery(description, state);
  const source = new ol.source.TileImage({
    projection,
    tileGrid: tiles.grid,
    wrapX: false,
    interpolate: false,
    transition: 0,
    tileUrlFunction: ([z, x, y]) => address(description.id, `tiles/${tiles.name}/${z}/${x}/${y}.png`, query),
  });
  source.on("tileloaderror", (event) => failed(event.tile.src_ ?? event.tile.getKey()));
  return source;
}

/** From how large pixels on nothing is drawn, since the server would have to read too much for it. */
export function coarsest(tiles) {
  return tiles.first * SHRUNK;
}

/** The address of the legend of a state. */
export function legendAddress(description, state) {
  const { variables, rescale, colormap } = pictureQuery(description, state);
  return address(description.id, "legend.png", { variables, rescale, colormap });
}
