"""Index files that somebody else wrote: whatever they say, an error or an index, and little memory."""

from __future__ import annotations

import contextlib
import json
import math
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubegate.errors import CorruptIndex, CubegateError
from cubegate.index import file as index_file
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.file import open_index, write_index

ARRAY = {"zarr_format": 2, "shape": [4, 6], "chunks": [2, 2], "dtype": "<f4", "fill_value": None}
REFERENCES = {
    ".zgroup": {"zarr_format": 2},
    "v/.zarray": ARRAY,
    "v/.zattrs": {"_ARRAY_DIMENSIONS": ["time", "x"]},
    **{f"v/{t}.{x}": [f"s3://data/{t}.nc", 16 * x, 16] for t in range(2) for x in range(2)},
    "v/0.2": "abcd",
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The header of a good index file, its body, and where to write others."""
    path = tmp_path_factory.mktemp("hostile") / "cube.index"
    text = json.dumps(REFERENCES).encode()
    write_index(build_from_kerchunk_json(text, base_url="s3://r/r.json", check_url=lambda _: None), path)
    data = path.read_bytes()
    _, _, _, _, body, header_nbytes, version, _ = index_file._PREAMBLE.unpack(data[:64])
    return json.loads(data[64 : 64 + header_nbytes]), data[body:], version, path


def forge(parts, header=None, body=None, **changes):
    """Write an index file whose checksums are right and whose content is not."""
    good, good_body, version, path = parts
    text = json.dumps(good).encode() if header is None else header
    body = good_body if body is None else body
    count = math.ceil(len(body) / index_file.PAGE)
    sums = np.array(
        [zlib.crc32(body[n * index_file.PAGE : (n + 1) * index_file.PAGE]) for n in range(count)], "<u4"
    ).tobytes()
    rest = text.ljust(index_file._aligned(len(text)), b"\0") + sums
    start = index_file._aligned(64 + len(rest))
    rest = rest.ljust(start - 64, b"\0")
    fields = {"magic": index_file.MAGIC, "format": 1, "page": index_file.PAGE, "nbytes": start + len(body),
              "start": start, "head": len(text), "version": version} | changes  # fmt: skip
    preamble = index_file._PREAMBLE.pack(*fields.values(), 0)
    checksum = zlib.crc32(rest, zlib.crc32(preamble[:-4]))
    path.write_bytes(index_file._PREAMBLE.pack(*fields.values(), checksum) + rest + body)
    return path


def use(path):
    """Open the file and ask it everything; errors are for the operator."""
    index = open_index(path)
    for array in index.hierarchy.arrays.values():
        chunks = [tuple(c) for c in np.ndindex(*(min(n, 3) for n in array.chunk_grid))]
        for asked in (chunks, *([chunk] for chunk in chunks)):
            with contextlib.suppress(CorruptIndex):
                index.locate(array, asked)
    _ = (list(index.urls), index.notes)
    index.verify()


def test_a_forged_copy_is_as_good_as_the_original(parts):
    use(forge(parts))


def changed(parts, change):
    header = json.loads(json.dumps(parts[0]))
    change(header)
    return json.dumps(header).encode()


def set_in(*path):
    *inner, last, value = path

    def change(header):
        for key in inner:
            header = header[key]
        header[last] = value

    return change


V = ("arrays", "v")
DEEP = json.loads("[" * 90 + "]" * 90)


@pytest.mark.parametrize(
    "header",
    [b"", b"[]", b"7", b"null", b"{}", b'"a"', b"\xff", b"[" * 100_000, b'{"arrays": ' + b"[" * 100_000],
)
def test_headers_that_are_none(parts, header):
    with pytest.raises(CorruptIndex):
        use(forge(parts, header))


@pytest.mark.parametrize(
    "change",
    [
        set_in("arrays", [1]), set_in("arrays", {"v": None}), set_in(*V, "parts", {}), set_in(*V, "parts", []),
        set_in(*V, "chunk_grid", "22"), set_in(*V, "chunk_grid", [10**400, 2]), set_in(*V, "chunk_grid", [-2, -3]),
        set_in(*V, "chunk_grid", [2**40, 2**40]), set_in(*V, "chunk_grid", [6, 1]), set_in(*V, "chunk_grid", None),
        set_in(*V, "pencil_axis", 99), set_in(*V, "pencil_axis", -1), set_in(*V, "pencil_axis", "x"),
        set_in(*V, "pencil_axis", 1e400), set_in(*V, "document", None), set_in(*V, "document", {}),
        set_in(*V, "document", "shape", [10**9, 10**9]), set_in(*V, "document", "filters", [{"id": "pickle"}]),
        set_in(*V, "attributes", 7), set_in(*V, "parts", "granule", [0, 10**12]),
        set_in(*V, "parts", "granule", [10**12, 6]), set_in(*V, "parts", "granule", [-64, 6]),
        set_in(*V, "parts", "granule", [1, 6]), set_in(*V, "parts", "granule", [0, -6]),
        set_in(*V, "parts", "granule", "06"), set_in(*V, "parts", "offset", [0, 2**62]),
        set_in(*V, "parts", "crc32", [0, 5]), set_in("url_ends", [0, 10**15]), set_in("url_ends", None),
        set_in("validator_ends", [0, 1]), set_in("inline", [2**70, 1]), set_in("groups", [1]),
        set_in("skipped", 7), set_in("assumed_fill", 7), set_in("skipped", {"w": 7}), set_in("assumed_fill", [7]),
        set_in("skipped", {"../w": "why"}), set_in("groups", "a\r\nb", {}), set_in(*V, "attributes", "a", DEEP),
    ],
)  # fmt: skip
def test_headers_that_are_absurd(parts, change):
    path = forge(parts, changed(parts, change))
    tracemalloc.start()
    with pytest.raises(CubegateError):
        use(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(
    "changes",
    [{"format": 0}, {"format": 2**32 - 1}, {"page": 0}, {"page": 1}, {"nbytes": 2**60}, {"start": 2**60},
     {"start": 0}, {"head": 2**60}, {"version": b"\xff" * 16}],
)  # fmt: skip
def test_preambles_that_are_absurd(parts, changes):
    path = forge(parts, **changes)
    tracemalloc.start()
    with pytest.raises(CorruptIndex):
        use(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_value_anywhere_in_the_header(parts, data):
    path = data.draw(st.sampled_from(list(places(parts[0]))[1:]))
    header = changed(parts, set_in(*path, data.draw(JSON)))
    with contextlib.suppress(CubegateError):
        use(forge(parts, header, format=data.draw(st.sampled_from([1, 2]))))


@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_bytes_in_the_body(parts, changes):
    body = bytearray(parts[1])
    for position, change in changes:
        body[position % len(body)] ^= change
    with contextlib.suppress(CorruptIndex):
        use(forge(parts, body=bytes(body)))
