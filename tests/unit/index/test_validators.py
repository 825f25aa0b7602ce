"""Each granule is recorded with what it is known by, and its chunks are asked for by that."""

import json

import pytest

from cubegate.chunks.source import ObjectState
from cubegate.errors import CorruptIndex, InvalidReference, UpstreamDenied, UpstreamObjectMissing
from cubegate.index.build import build_index
from cubegate.index.content import IndexContent
from cubegate.index.file import open_index, write_index
from cubegate.index.index import Index
from cubegate.index.table import TextTable
from cubegate.index.validators import record_validators

DOCUMENT = {"zarr_format": 2, "shape": [6], "chunks": [1], "dtype": "<f4", "fill_value": None}
ETAGS = {f"s3://data/{n}.nc": ObjectState(f'"tag-{n}\N{SNOWMAN}"', 100) for n in range(3)}


class Upstream:
    """Objects of which only states are known."""

    def __init__(self, states):
        self.states = dict(states)
        self.asked = []

    async def stat(self, url):
        self.asked.append(url)
        state = self.states.get(url)
        if isinstance(state, Exception):
            raise state
        if state is None:
            raise UpstreamObjectMissing(f"{url} does not exist.")
        return state

    async def get(self, reference):
        if reference.url == "s3://refs/r.json":
            return json.dumps(REFERENCES).encode()
        self.asked.append(reference)
        return bytes(reference.length)


REFERENCES = {
    ".zgroup": {"zarr_format": 2},
    "v/.zarray": {**DOCUMENT, "shape": [6, 2], "chunks": [1, 1]},
    **{f"v/{n}.{x}": [f"s3://data/{n % 3}.nc", 8 * n + 4 * x, 4] for n in range(6) for x in range(2)},
    "x/.zarray": DOCUMENT,
    **{f"x/{n}": ["s3://data/0.nc", 60 + 4 * n, 4] for n in range(6)},
    "whole/.zarray": {**DOCUMENT, "shape": [2, 2], "chunks": [2, 2]},
    "whole/0.0": ["s3://data/1.nc"],
}


async def build(upstream, **options):
    options = {"fill": "declared", "validators": True} | options
    return await build_index("s3://refs/r.json", upstream, check_url=lambda _: None, **options)


def validators(index):
    found = {}
    for array in index.hierarchy.arrays.values():
        grid = [(n, x) for n in range(array.chunk_grid[0]) for x in range((*array.chunk_grid, 1)[1])]
        chunks = [chunk[: len(array.shape)] for chunk in grid]
        for location in [*index.locate(array, chunks), *(index.locate(array, [c])[0] for c in chunks)]:
            if hasattr(location, "reference"):
                found.setdefault(location.reference.url, set()).add(location.reference.validator)
    return found


async def test_each_granule_has_its_own(tmp_path):
    upstream, told = Upstream(ETAGS), []
    index = await build(upstream, progress=lambda *step: told.append(step))
    write_index(index, tmp_path / "cube.index")
    opened = open_index(tmp_path / "cube.index")
    opened.verify()
    for held in (index, opened):
        assert validators(held) == {url: {state.validator} for url, state in ETAGS.items()}
        assert held.notes == ()
        assert held.version == index.version
    assert ("Asking granules for their validators", 3, 3) in told
    # what is copied into the index was asked for by its validator too
    assert upstream.asked[:3] == list(ETAGS)
    assert {reference.validator for reference in upstream.asked[3:]} == {ETAGS["s3://data/0.nc"].validator}


async def test_they_are_part_of_the_version():
    plain = await build(Upstream(ETAGS), validators=False)
    versions = {plain.version}
    for tag in ('"one"', '"two"'):
        states = {**ETAGS, "s3://data/2.nc": ObjectState(tag, 100)}
        versions |= {(await build(Upstream(states))).version for _ in range(2)}
    assert len(versions) == 3
    assert validators(plain) == {url: {None} for url in ETAGS}


async def test_a_granule_that_offers_none_is_a_note(tmp_path):
    states = {**ETAGS, "s3://data/1.nc": ObjectState(None, None)}
    index = await build(Upstream(states))
    write_index(index, tmp_path / "cube.index")
    for held in (index, open_index(tmp_path / "cube.index")):
        assert validators(held)["s3://data/1.nc"] == {None}
        assert validators(held)["s3://data/2.nc"] == {ETAGS["s3://data/2.nc"].validator}
        (note,) = held.notes
        assert "1 of 3 granules" in note
        assert "s3://data/1.nc is the first" in note


@pytest.mark.parametrize("problem", [None, UpstreamDenied("s3://data/1.nc: it may not be read.")])
async def test_a_granule_that_cannot_be_asked_fails_the_build(problem):
    upstream = Upstream({**ETAGS, "s3://data/1.nc": problem})
    with pytest.raises(UpstreamDenied if problem else UpstreamObjectMissing, match=r"s3://data/1\.nc"):
        await build(upstream)
    # coordinates may stay upstream where a server opens references, but a granule must be there
    with pytest.raises(UpstreamDenied if problem else UpstreamObjectMissing):
        await build(upstream, require_coordinates=False)


async def test_references_beyond_the_end_of_a_granule_are_refused():
    end = 8 * 5 + 4 + 4
    states = {**ETAGS, "s3://data/2.nc": ObjectState('"a"', end)}
    await build(Upstream(states))
    states["s3://data/2.nc"] = ObjectState('"a"', end - 1)
    with pytest.raises(InvalidReference, match=r"s3://data/2\.nc up to 48, and it has 47"):
        await build(Upstream(states))


async def test_an_index_without_granules_asks_nobody():
    index = Index(IndexContent({}, {}, {}, TextTable.of([]), TextTable.of([]).text))
    recorded = await record_validators(index, Upstream({}))
    assert recorded.notes == ()


async def test_as_many_validators_as_granules():
    index = await build(Upstream(ETAGS))
    content = {**vars(index.content), "validators": TextTable.of(["one"])}
    with pytest.raises(CorruptIndex, match="one validator for each granule"):
        Index(IndexContent(**content))
