// Reads by zarrita what a job asks for, in node and in a page alike.
import * as zarr from "zarrita";

const OPEN = { any: zarr.open, v2: zarr.open.v2, v3: zarr.open.v3 };
const CONSOLIDATED = {
  none: async (store) => store,
  must: zarr.withConsolidatedMetadata,
  may: zarr.withMaybeConsolidatedMetadata,
};

// Of each dimension null for all of it, a number, or [start, stop, step].
const selected = (parts) =>
  parts?.map((part) => (Array.isArray(part) ? zarr.slice(...part) : part)) ?? null;

// Node would open a connection for each chunk at once, more than a busy machine takes.
function createQueue() {
  const waiting = [];
  const work = async () => {
    while (waiting.length) await waiting.shift()();
  };
  return {
    add: (task) => waiting.push(task),
    onIdle: () => Promise.all(Array.from({ length: 16 }, work)),
  };
}

const described = (error) => ({ name: error.name, message: error.message });
const asJson = (value) =>
  typeof value === "bigint" || Number.isNaN(value) ? String(value) : (value ?? null);

const hexadecimal = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

async function readArray(root, open, { path, selection, chunk, digest }, keep) {
  const array = await open(root.resolve(path), { kind: "array" });
  const about = {
    dtype: array.dtype,
    shape: array.shape,
    chunks: array.chunks,
    dimensions: array.dimensionNames ?? null,
    fill: asJson(array.fillValue),
    attributes: array.attrs,
  };
  const found = chunk ? await array.getChunk(chunk) : await zarr.get(array, selected(selection), { createQueue });
  // where no dimension is left zarrita gives the value alone
  const { data, shape, stride } = found?.data === undefined ? { data: [found], shape: [], stride: [] } : found;
  const numbers = ArrayBuffer.isView(data);
  const sum = digest && numbers ? new Uint8Array(await crypto.subtle.digest("SHA-256", data)) : null;
  if (!digest && numbers) await keep(data);
  return {
    digest: sum && hexadecimal(sum),
    ...about,
    read: shape,
    stride,
    kind: data.constructor.name,
    values: numbers ? null : Array.from(data, asJson),
  };
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    return { error: described(error) };
  }
}

// Answers a job `{url, format, consolidated, suffix, reads, keys}`; `keep(number, data)` gets the values of each read.
export async function answer(job, keep) {
  const { url, format = "any", consolidated = "must", suffix = false, keys = [] } = job;
  const plain = new zarr.FetchStore(url, { useSuffixRequest: suffix });
  const options = format === "any" ? {} : { format };
  const store = await CONSOLIDATED[consolidated](plain, options);
  const open = OPEN[format];
  const group = await open(store, { kind: "group" });
  const contents = store.contents?.() ?? null;
  const everything = (contents ?? []).filter(({ kind }) => kind === "array");
  const asked = job.reads ?? everything;
  const reads = [];
  for (const read of asked) {
    const number = reads.length;
    reads.push(await attempt(() => readArray(group, open, read, (data) => keep(number, data))));
  }
  const lengths = {};
  for (const key of keys) {
    lengths[key] = await attempt(async () => (await plain.get(`/${key}`))?.length ?? null);
  }
  return { contents, attributes: group.attrs, paths: asked.map(({ path }) => path), reads, lengths };
}

// Answers jobs one after another; values go by PUT to `<sink><job>/<read>`.
export async function answerAll(jobs, sink) {
  const answers = [];
  for (const [number, job] of jobs.entries()) {
    const keep = async (read, data) => {
      const kept = await fetch(`${sink}${number}/${read}`, { method: "PUT", body: data });
      if (!kept.ok) throw new Error(`the values were not taken: ${kept.status}`);
    };
    answers.push(await attempt(() => answer(job, keep)));
  }
  return answers;
}
