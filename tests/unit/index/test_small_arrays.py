from __future__ import annotations

import json

import pytest

from cubegate.errors import UpstreamMismatch, UpstreamObjectMissing
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.location import Inlined, Stored
from cubegate.index.small_arrays import inline_small_arrays


def build(references):
    data = json.dumps(references).encode()
    return build_from_kerchunk_json(data, base_url="file:///r.json", check_url=lambda _: None)


async def test_small_coordinates_come_into_the_index_verbatim(
    granule, scan_hdf5, local_source, compare_with_fsspec
):
    references = scan_hdf5(granule)
    index = build(references)
    inlined = await inline_small_arrays(index, local_source)
    assert compare_with_fsspec(inlined, references) == 60
    for path in ("x", "y", "time", "name"):
        array = inlined.hierarchy.arrays[path]
        assert isinstance(inlined.locate(array, [(0,)])[0], Inlined)
    assert inlined.counts("shuffled") == index.counts("shuffled")
    assert inlined.version != index.version
    again = await inline_small_arrays(inlined, local_source)
    assert again is inlined


async def test_one_element_chunks_and_gaps(stack, scan_hdf5, local_source, compare_with_fsspec):
    document = {"zarr_format": 2, "shape": [7], "chunks": [1], "dtype": "<i4", "fill_value": None}
    references = {"time/.zarray": document, "scalar/.zarray": {**document, "shape": [], "chunks": []}}
    for number, path in enumerate(stack):
        references[f"time/{number + 1}"] = [str(path), 10 * number, 4]
    references["time/0"] = "abcd"
    references["scalar/0"] = [str(stack[0]), 100, 4]
    inlined = await inline_small_arrays(build(references), local_source)
    assert tuple(inlined.counts("time")) == (7, 0, 6, 1, 0)
    assert tuple(inlined.counts("scalar")) == (1, 0, 1, 0, 0)
    assert compare_with_fsspec(inlined, references) == 7


async def test_large_arrays_and_whole_objects_stay_where_they_are(stack, local_source):
    document = {"zarr_format": 2, "shape": [2], "chunks": [1], "dtype": "<i4", "fill_value": None}
    references = {
        "large/.zarray": document, "large/0": [str(stack[0]), 0, 600], "large/1": [str(stack[0]), 0, 600],
        "whole/.zarray": document, "whole/0": [str(stack[0])],
        "small/.zarray": document, "small/0": [str(stack[0]), 0, 500], "small/1": [str(stack[0]), 1, 500],
    }  # fmt: skip
    inlined = await inline_small_arrays(build(references), local_source, max_nbytes=1000)
    kinds = {path: type(inlined.locate(array, [(0,)])[0]) for path, array in inlined.hierarchy.arrays.items()}
    assert kinds == {"large": Stored, "whole": Stored, "small": Inlined}


async def test_a_chunk_that_cannot_be_read_fails_the_build(granule, scan_hdf5, local_source):
    references = scan_hdf5(granule)
    references["refs"]["x/0"][1] = 10**9
    with pytest.raises(UpstreamMismatch):
        await inline_small_arrays(build(references), local_source)
    granule.unlink()
    with pytest.raises(UpstreamObjectMissing):
        await inline_small_arrays(build(references), local_source)
