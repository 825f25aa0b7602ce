// Numbers and dates as people read them, and counts of values.

/** Write a number shortly, keeping `digits` significant ones. */
export function shown(value, digits = 5) {
  if (value == null || !Number.isFinite(value)) return "no value";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e7 || size < 1e-4 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}

/** Write a coordinate to a hundredth of a cell at most. */
export function place(value, cell) {
  const digits = Math.min(10, Math.max(0, Math.ceil(-Math.log10(Math.abs(cell) || 1)) + 2));
  return String(Number(value.toFixed(digits)));
}

/** Milliseconds since 1970 of an instant with any number of digits; NaN where the calendar has other days. */
export function instant(text) {
  return Date.parse(text.replace(/(\.\d{3})\d+/, "$1"));
}

/** A date without what says nothing: midnight, parts of seconds. */
export function shortDate(text) {
  return text.replace(/T00:00:00(\.0+)?Z$/, "").replace(/\.\d+Z$/, "Z").replace("T", " ");
}

/** Write bytes in the unit that fits. */
export function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${Number((count / 1024 ** power).toPrecision(3))} ${units[power]}`;
}

/** Count the finite ones of `values` in `count` bins between the smallest and the largest, which the last bin holds. */
export function histogram(values, count = 24) {
  const finite = values.filter((value) => typeof value === "number" && Number.isFinite(value));
  if (finite.length === 0) return { low: null, high: null, missing: values.length, counts: [] };
  let low = Infinity;
  let high = -Infinity;
  for (const value of finite) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const bins = low === high ? 1 : count;
  const counts = new Array(bins).fill(0);
  for (const value of finite) counts[low === high ? 0 : Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins))] += 1;
  return { low, high, missing: values.length - finite.length, counts };
}

/**
 * Put several series on one axis. Each has `times`, maybe several times the same; the result has each instant as often
 * as the series that has it most often, and null where a series lacks it.
 */
export function align(series) {
  const keys = new Map();
  const keyed = series.map(({ times, values }) => {
    const seen = new Map();
    return new Map(times.map((text, index) => {
      const occurrence = seen.get(text) ?? 0;
      seen.set(text, occurrence + 1);
      const key = `${text}#${occurrence}`;
      keys.set(key, text);
      return [key, values[index]];
    }));
  });
  const order = [...keys].map(([key, text]) => [key, text, instant(text)]).sort((one, other) => one[2] - other[2] || (one[0] < other[0] ? -1 : 1));
  return { times: order.map(([, text]) => text), values: keyed.map((found) => order.map(([key]) => found.get(key) ?? null)) };
}
