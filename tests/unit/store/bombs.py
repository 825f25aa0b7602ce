"""Chunks of a few kB that inflate to gigabytes, read through the store by a process that tells its memory.

Run as `python bombs.py FOLDER`; writes a JSON object: for each case its size in bytes, how much resident
memory its read took beside what was there before, how much one chunk takes, and the error.
"""

import asyncio
import bz2
import contextlib
import ctypes
import gzip
import json
import lzma
import re
import struct
import sys
import warnings
import zlib
from functools import cache
from pathlib import Path

import numcodecs
import numpy as np
import zstandard

from cubegate.cache.memory import MemoryCache
from cubegate.chunks.cached import Cached
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import CubegateError
from cubegate.index.build import build_index
from cubegate.settings import UpstreamSettings
from cubegate.store.codecs import text_size
from cubegate.store.encoded import EncodedStore
from cubegate.store.reader import EncodedArray

SHAPE = [4096, 2048]
CHUNK_NBYTES = 4 * 4096 * 2048
TEXTS = 1000
PART = 2**26
PARTS = 32


def repeated_zlib(part, times):
    """A zlib stream of `times` times `part`, of zeros: deflate blocks that know nothing of each other."""
    compress = zlib.compressobj(9)
    blocks = compress.compress(part) + compress.flush(zlib.Z_FULL_FLUSH)
    count = len(part) * times
    return blocks[:2] + blocks[2:] * times + b"\x03\x00" + struct.pack(">I", (count % 65521) << 16 | 1)


def raw_lzma(data):
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}])


def blosc(name):
    return numcodecs.Blosc(cname=name, shuffle=0).encode


FRAMES = {
    "gzip": lambda part, times: gzip.compress(part) * times,
    "bz2": lambda part, times: bz2.compress(part) * times,
    "lzma": lambda part, times: lzma.compress(part, preset=1) * times,
    "zstd": lambda part, times: zstandard.ZstdCompressor(level=19).compress(part) * times,
    "zlib": repeated_zlib,
}
# these have one size in their header, of up to 2 GiB
AT_ONCE = {"lz4": numcodecs.LZ4(9).encode, "blosc": blosc("lz4")}


@cache
def nested(codec):
    """What inflates to 2 GiB (by lz4 and Blosc: 1 GiB), and how many times over, in about 1.8 kB."""
    data = FRAMES[codec](bytes(PART), PARTS) if codec in FRAMES else AT_ONCE[codec](bytes(2**30))
    levels = 1
    while len(data) > 4000:
        shorter = FRAMES[codec](data, 1) if codec not in ("zlib", *AT_ONCE) else again(codec, data)
        if len(shorter) > 0.9 * len(data):
            break
        data, levels = shorter, levels + 1
    return bytes(data), levels


def again(codec, data):
    return zlib.compress(data, 9) if codec == "zlib" else AT_ONCE[codec](data)


def v2(data, filters=(), compressor=None, dtype="<f4", shape=SHAPE):
    document = {
        "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": dtype, "fill_value": None, "order": "C",
        "filters": list(filters) or None, "compressor": compressor,
    }  # fmt: skip
    return {"v/.zarray": document}, "v/" + ".".join("0" for _ in shape), data


def v3(data, codecs, data_type="float32", shape=SHAPE):
    document = {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": "" if data_type == "string" else 0,
        "codecs": codecs, "attributes": {},
    }  # fmt: skip
    return {"v/zarr.json": document}, "v/c/" + "/".join("0" for _ in shape), data


def chain(codec, *, shuffled=False):
    data, levels = nested(codec)
    filters = [{"id": "shuffle", "elementsize": 4}] if shuffled else []
    return v2(data, [*filters, *[{"id": codec}] * (levels - 1)], {"id": codec})


V3_NAMES = {name: name for name in ("gzip", "zstd", "blosc")}
V3_NAMES |= {name: f"numcodecs.{name}" for name in ("zlib", "bz2", "lzma", "lz4")}
V3_PARAMETERS = {
    "blosc": {"typesize": 4, "cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "blocksize": 0},
    "gzip": {"level": 5}, "zstd": {"level": 0, "checksum": False}, "lz4": {"acceleration": 1},
    "zlib": {"level": 5}, "bz2": {"level": 5}, "lzma": {"format": 1},
}  # fmt: skip
SERIALIZER = {"name": "bytes", "configuration": {"endian": "little"}}


def v3_chain(codec):
    data, levels = nested(codec)
    return data, [SERIALIZER, *[{"name": V3_NAMES[codec], "configuration": V3_PARAMETERS[codec]}] * levels]


def sharded(codec, inner=SHAPE, **more):
    data, codecs = v3_chain(codec)
    count = SHAPE[0] * SHAPE[1] // (inner[0] * inner[1])
    index = struct.pack("<QQ", 0, len(data)) * count
    sharding = {"name": "sharding_indexed", "configuration": {
        "chunk_shape": inner, "codecs": codecs, "index_codecs": [SERIALIZER], "index_location": "end", **more,
    }}  # fmt: skip
    return v3(data + index, [sharding])


def transposed(codec):
    data, codecs = v3_chain(codec)
    return v3(data, [{"name": "transpose", "configuration": {"order": [1, 0]}}, *codecs])


def of_texts(codec):
    data, levels = nested(codec)
    compressors = [{"id": codec}] * levels
    return v2(data, [{"id": "vlen-utf8"}, *compressors[1:]], compressors[0], dtype="|O", shape=[TEXTS])


def claimed(codec, header, **configuration):
    return v2(header + bytes(1800 - len(header)), compressor={"id": codec, **configuration})


def cases():
    made = {f"{codec} in itself, Zarr v2": chain(codec) for codec in (*FRAMES, *AT_ONCE)}
    made |= {f"{codec} in itself and shuffled": chain(codec, shuffled=True) for codec in (*FRAMES, *AT_ONCE)}
    made |= {f"{codec} in itself, Zarr v3": v3(*v3_chain(codec)) for codec in V3_NAMES}
    made |= {f"{codec} in a shard": sharded(codec) for codec in V3_NAMES}
    made |= {f"{codec} transposed": transposed(codec) for codec in ("gzip", "zstd")}
    made |= {f"{codec} of texts": of_texts(codec) for codec in (*FRAMES, *AT_ONCE)}
    made["one inner chunk named often"] = sharded("gzip", inner=[64, 64])
    made["a shard in a compressor"] = v3(nested("gzip")[0], [
        {"name": "sharding_indexed", "configuration": {
            "chunk_shape": [64, 64], "codecs": [SERIALIZER], "index_codecs": [SERIALIZER]}},
        *[{"name": "gzip", "configuration": {"level": 5}}] * nested("gzip")[1],
    ])  # fmt: skip
    made["raw lzma"] = v2(
        raw_lzma(bytes(PART)),
        compressor={
            "id": "lzma",
            "format": lzma.FORMAT_RAW,
            "filters": [{"id": lzma.FILTER_LZMA2, "preset": 1}],
        },
    )
    made["zlib once"] = v2(zlib.compress(bytes(PART), 9), compressor={"id": "zlib"})
    streamed = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(bytes(2**29))
    made["zstd of unknown size"] = v2(streamed, compressor={"id": "zstd"})
    made["lz4 that claims 2 GiB"] = claimed("lz4", struct.pack("<i", 2**31 - 1))
    made["lz4 that claims less than nothing"] = claimed("lz4", struct.pack("<i", -1))
    made["Blosc that claims 2 GiB"] = claimed(
        "blosc", struct.pack("<BBBBIII", 2, 1, 0x21, 4, 2**31 - 1, 2**18, 1800)
    )
    made["Blosc of a run that claims 2 GiB"] = claimed(
        "blosc", struct.pack("<BBBBIII", 2, 1, 2, 4, 2**31 - 1, 0, 1800)
    )
    made["packed bits"] = v2(bytes(CHUNK_NBYTES // 4), [{"id": "packbits"}], dtype="|b1")
    made["as many texts as there is no memory for"] = v2(
        struct.pack("<I", 2**32 - 1) + bytes(1800), [{"id": "vlen-utf8"}], dtype="|O", shape=[TEXTS]
    )
    made["JSON of a shape without memory"] = v2(
        json.dumps(["a", "|O", [10**12]]).encode(), [{"id": "json2"}], dtype="|O", shape=[TEXTS]
    )
    return made


def reference_bombs():
    """Reference files that inflate to much more than they are."""
    spaces, text = b" " * PART, b"a" * PART
    return {
        "spaces, gzip": (".json.gz", gzip.compress(b"{") + gzip.compress(spaces) * PARTS),
        "one text, gzip": (".json.gz", gzip.compress(b'{"') + gzip.compress(text) * PARTS),
        "one text, zstd": (".json.zst", zstandard.compress(b'{"') + zstandard.compress(text) * PARTS),
        "brackets, gzip": (".json.gz", gzip.compress(b'{"a": ') + gzip.compress(b"[" * PART) * PARTS),
    }


def memory(name):
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", status)[1])


def forget():
    """Give memory back, and let the peak begin anew."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


async def read(references, upstreams):
    index = await build_index(references.as_uri(), upstreams, check_url=upstreams.check, fill="declared")
    if index.hierarchy.skipped:
        return "skipped", next(iter(index.hierarchy.skipped.values()))
    source = SingleFlight(Cached(Coalesced(upstreams), MemoryCache(2**20), index.version))
    store = EncodedStore(index.hierarchy, index, source, version=index.version)
    (array,) = index.hierarchy.arrays.values()
    await EncodedArray(store, array).read([slice(None)] * len(array.shape))
    return "no error", ""


async def measure(folder):
    upstreams = open_upstreams({folder.as_uri() + "/": UpstreamSettings()}, {})
    prepared = {}
    for number, (name, (documents, key, data)) in enumerate(cases().items()):
        granule, references = folder / f"{number}.bin", folder / f"{number}.json"
        granule.write_bytes(data)
        references.write_text(json.dumps({**documents, key: [granule.as_uri(), 0, len(data)]}))
        chunk = text_size(TEXTS).nbytes if "|O" in json.dumps(documents) else CHUNK_NBYTES
        prepared[name] = (references, len(data), chunk)
    for number, (name, (suffix, data)) in enumerate(reference_bombs().items()):
        file = folder / f"references{number}{suffix}"
        file.write_bytes(data)
        prepared[f"references: {name}"] = (file, len(data), 2**28)
    nested.cache_clear()
    found = {}
    for name, (references, nbytes, chunk) in prepared.items():
        before = forget()
        try:
            kind, message = await read(references, upstreams)
        except CubegateError as error:
            kind, message = type(error).__name__, str(error)
        found[name] = {"nbytes": nbytes, "grown": memory("VmHWM") - before, "chunk": chunk,
                       "error": kind, "message": message}  # fmt: skip
    await upstreams.aclose()
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    sys.stdout.write(json.dumps(asyncio.run(measure(Path(sys.argv[1])))))
