"""Sidecars that are read together give what each would give on its own, by fewer questions to the granules."""

import gzip
import json

import h5py
import numpy as np
import pytest

from cubegate.archives.building import Part, Plan, make_index
from cubegate.archives.stacking import Layer, stack_layers
from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import InvalidReference
from cubegate.index.build import build_index
from cubegate.index.progress import silent
from cubegate.settings import UpstreamSettings

DAYS = np.datetime64("2020-01-04", "ns")
CHUNK = {"chunks": (4, 4), "compression": "gzip"}


def write(path, number, *, declared=True, lacking=False, extra=True):
    """Write a granule of a mask, of counts with HDF5's own fill, and of a number of its own."""
    random = np.random.default_rng(number)
    with h5py.File(path, "w") as file:
        for name in ("y", "x"):
            file[name] = np.arange(8.0)
            file[name].make_scale(name)
        mask = file.create_dataset("mask", (8, 8), "u1", fillvalue=255, **CHUNK)
        if declared:
            mask.attrs["_FillValue"] = np.uint8(255)
        counts = file.create_dataset("counts", (8, 8), "i2", **CHUNK)
        for array in (mask, counts):
            values = random.integers(0, 3, (8, 8))
            array[:4] = values[:4]
            if not lacking:
                array[4:] = values[4:]
            array.dims[0].attach_scale(file["y"])
            array.dims[1].attach_scale(file["x"])
        mask.attrs["production"] = f"run {number}"
        if extra:
            file["number"] = np.float64(number)


class Counting:
    """A source that counts what is read of which object, and how much."""

    def __init__(self, source):
        self._source, self.read, self.stats = source, [], []

    async def get(self, reference):
        self.read.append((reference.url.rpartition("/")[2], reference.offset, reference.length))
        return await self._source.get(reference)

    async def stat(self, url):
        self.stats.append(url)
        return await self._source.stat(url)


@pytest.fixture
async def source(tmp_path):
    opened = open_upstreams({f"{tmp_path.as_uri()}/": UpstreamSettings()}, {})
    counting = Counting(opened)
    counting.check = opened.check
    yield counting
    await opened.aclose()


@pytest.fixture
def granules(tmp_path, scan_granule):
    """Write granules with the options of each, and their sidecars; returns the parts."""

    def granules(options):
        parts = []
        for number, each in enumerate(options):
            path = tmp_path / f"granule{number}.nc"
            write(path, number, **each)
            sidecar = tmp_path / f"granule{number}.zarr.json.gz"
            sidecar.write_bytes(gzip.compress(json.dumps(scan_granule(path, inline_threshold=0)).encode()))
            parts.append(Part(path.name, sidecar.as_uri(), DAYS + np.timedelta64(number, "D")))
        return parts

    return granules


async def together(parts, source, tmp_path, **options):
    plan = Plan("cube", "", tmp_path / "cubes", **options)
    return await make_index(plan, parts, source, check_url=source.check, progress=silent)


async def one_by_one(parts, source, **options):
    layers = [
        Layer(
            part.name,
            await build_index(part.references, source, check_url=source.check, validators=True),
            part.time,
            part.along,
        )
        for part in parts
    ]
    return stack_layers(layers, **options)


@pytest.mark.parametrize(
    "options",
    [
        [{}] * 4,
        [{"declared": False}] * 4,
        [{}, {}, {"extra": False}, {}],
        [{}],
        [{"lacking": True}] * 3,
        [{}, {"lacking": True}, {}, {}],
    ],
)
async def test_they_give_what_each_gives_on_its_own(granules, source, tmp_path, options):
    parts = granules(options)
    gaps = frozenset({"mask", "counts"})
    index = await together(parts, source, tmp_path, allow_gaps=gaps)
    expected = await one_by_one(parts, source, allow_gaps=gaps)
    assert index.version == expected.version
    assert index.hierarchy.skipped == expected.hierarchy.skipped
    declared = options[0].get("declared", True)
    assert index.hierarchy.arrays["mask"].declared_fill == (255 if declared else None)
    assert index.hierarchy.arrays["counts"].declared_fill is None


def heads(source):
    return [
        name for name, offset, length in source.read if name.endswith(".nc") and (offset, length) == (0, 52)
    ]


async def test_only_the_first_and_the_last_are_asked_what_fill_means(granules, source, tmp_path):
    await together(granules([{}] * 5), source, tmp_path)
    assert sorted(heads(source)) == ["granule0.nc", "granule4.nc"]
    assert len(source.stats) == 5


async def test_those_that_lack_chunks_are_asked_too(granules, source, tmp_path):
    parts = granules([{}, {}, {"lacking": True}, {}, {}])
    await together(parts, source, tmp_path, allow_gaps=frozenset({"mask", "counts"}))
    assert sorted(heads(source)) == ["granule0.nc", "granule2.nc", "granule4.nc"]


async def test_a_product_whose_fill_changed_its_meaning_is_refused(granules, source, tmp_path):
    parts = granules([{}, {}, {"declared": False}])
    with pytest.raises(InvalidReference, match=r"'mask' of granule2\.nc has another declared fill"):
        await together(parts, source, tmp_path)


async def test_what_was_read_is_not_read_again(granules, source, tmp_path):
    parts = granules([{}] * 3)
    first = await together(parts, source, tmp_path)
    source.read.clear()
    assert (await together(parts, source, tmp_path)).version == first.version
    assert not [name for name, *_ in source.read if name.endswith(".gz")]
