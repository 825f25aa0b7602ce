// Lines of equal longitude and latitude over what a map shows, in any projection.

const STEPS = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];
const SAMPLES = 12;
const POINTS = 96;
const MOST_LINES = 60;
// how far from the edge of the map a label stands, in pixels: beside the buttons, above the scale
const LABEL = [36, 40];
// how far from its other end, which may be the pole where all meet, a meridian is named
const POLE = 40;
// where the buttons are, from the top left corner
const BUTTONS = [80, 100];

/** The largest step of which a span holds at least four. */
export function stepOf(span) {
  return STEPS.find((step) => span / step >= 4) ?? STEPS[STEPS.length - 1];
}

/** Write a longitude or latitude, as precisely as its step needs. */
export function degrees(value, step, letters) {
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  const wrapped = letters[0] === "E" ? ((((value + 180) % 360) + 360) % 360) - 180 : value;
  const size = Math.abs(wrapped).toFixed(digits);
  // the equator, the first meridian and the one opposite to it lie on neither side
  const letter = Number(size) === 0 || Number(size) === 180 ? "" : wrapped > 0 ? letters[0] : letters[1];
  return `${size}°${letter}`;
}

/** The box in degrees around an extent of the map, {west, south, east, north}; null where nothing is on the Earth. */
export function coveredDegrees(extent, { toLonLat, fromLonLat, flat = false }) {
  const [west, south, east, north] = extent;
  if (flat) return { west, east, south: Math.max(-90, south), north: Math.min(90, north) };
  const found = [];
  for (let row = 0; row <= SAMPLES; row += 1) {
    for (let column = 0; column <= SAMPLES; column += 1) {
      const place = toLonLat([west + ((east - west) * column) / SAMPLES, south + ((north - south) * row) / SAMPLES]);
      if (place) found.push(place);
    }
  }
  if (found.length === 0) return null;
  const middle = found[Math.floor(found.length / 2)][0];
  const near = found.map(([lon]) => middle + ((((lon - middle + 180) % 360) + 360) % 360) - 180);
  const box = {
    west: Math.min(...near),
    east: Math.max(...near),
    south: Math.max(-90, Math.min(...found.map(([, lat]) => lat))),
    north: Math.min(90, Math.max(...found.map(([, lat]) => lat))),
  };
  for (const [name, lat] of [["north", 90], ["south", -90]]) {
    const pole = fromLonLat([0, lat]);
    if (pole && pole[0] >= west && pole[0] <= east && pole[1] >= south && pole[1] <= north && toLonLat(pole)) {
      Object.assign(box, { [name]: lat, west: -180, east: 180 });
    }
  }
  return box;
}

/** List the lines over an extent: {text, places, meridian}, `places` in the map's CRS; `way` is of `openProjection`. */
export function graticule(extent, way) {
  const { fromLonLat } = way;
  const box = coveredDegrees(extent, way);
  if (!box) return [];
  const lines = [];
  // from the edge of the map to the pole, so that the first place in sight is not the one that all meridians share
  const upwards = box.south === -90 && !way.flat ? [box.north, box.south] : [box.south, box.north];
  const anywhere = way.flat || box.north === 90 || box.south === -90;
  const add = (meridian, value, step) => {
    const along = meridian ? upwards : [box.west, box.east];
    const places = [];
    for (let index = 0; index <= POINTS; index += 1) {
      const other = along[0] + ((along[1] - along[0]) * index) / POINTS;
      const place = fromLonLat(meridian ? [value, other] : [other, value]);
      if (place) places.push(place);
    }
    if (places.length > 1) lines.push({ text: degrees(value, step, meridian ? "EW" : "NS"), places, meridian, anywhere });
  };
  const steps = [stepOf(box.east - box.west), stepOf(box.north - box.south)];
  const multiples = (low, high, step) => {
    const first = Math.ceil(low / step);
    const count = Math.min(MOST_LINES, Math.floor(high / step) - first + 1);
    return Array.from({ length: Math.max(0, count) }, (_, index) => (first + index) * step);
  };
  for (const value of multiples(box.west, box.east, steps[0])) {
    if (!(box.west === -180 && value <= -180)) add(true, value, steps[0]);
  }
  for (const value of multiples(box.south, box.north, steps[1])) {
    if (Math.abs(value) < 90 - steps[1] / 2) add(false, value, steps[1]);
  }
  return lines;
}

/**
 * Where a line's label stands: below where it is a meridian, at the left where it is a parallel; or null.
 * `pixel` is the size of one in the map's CRS.
 */
export function labelPlace(line, extent, pixel) {
  const [west, south, east, north] = extent;
  const [across, up] = LABEL.map((pixels) => pixels * pixel);
  const [aside, below] = BUTTONS.map((pixels) => pixels * pixel);
  const within = ([x, y]) =>
    x >= west + across && x <= east - across && y >= south + up && y <= north - up && !(x < west + aside && y > north - below);
  const [endX, endY] = line.places[line.places.length - 1];
  const apart = ([x, y]) => !line.meridian || Math.hypot(x - endX, y - endY) > POLE * pixel;
  const inside = line.places.find((each) => within(each) && apart(each));
  // around a pole, and where the Earth ends, lines end anywhere
  if (!inside || line.anywhere) return inside ?? null;
  const [x, y] = inside;
  return (line.meridian ? y <= south + (north - south) * 0.2 : x <= west + (east - west) * 0.2) ? inside : null;
}
