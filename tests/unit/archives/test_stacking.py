"""A stack of granules holds every value of every granule, at its time, and nothing that does not fit."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import xarray as xr

from cubegate.archives.stacking import Layer, stack_layers
from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.single_flight import SingleFlight
from cubegate.errors import InvalidReference
from cubegate.index.file import open_index, write_index
from cubegate.store.backend import open_dataset
from cubegate.store.bridge import LoopThread
from cubegate.store.encoded import EncodedStore

DAY = np.timedelta64(12, "D")
START = np.datetime64("2020-01-04T14:07:34", "ns")


@pytest.fixture
def granule(tmp_path, index_of, write_granule):
    """Write a granule; returns its layer and its values."""

    async def make(number, **options):
        path = tmp_path / f"granule{number}.nc"
        values = write_granule(path, number, **options)
        along = {"reference_time": START - DAY, "pair": number}
        return Layer(path.name, await index_of(path), START + number * DAY, along), values

    return make


@pytest.fixture
def opened(upstreams):
    bridges = []

    async def opened(index, group=""):
        bridges.append(LoopThread())
        source = SingleFlight(Coalesced(upstreams))
        store = EncodedStore(index.hierarchy, index, source, version=index.version)
        return await open_dataset(store, bridges[-1], group=group)

    yield opened
    for bridge in bridges:
        bridge.close()


async def test_every_value_is_at_its_time(granule, opened, tmp_path, compared):
    made = [await granule(number) for number in (3, 0, 2)]
    index = stack_layers([layer for layer, _ in made])
    write_index(index, tmp_path / "stack.index")
    dataset = await opened(open_index(tmp_path / "stack.index"))
    assert list(dataset.time.values) == [START, START + 2 * DAY, START + 3 * DAY]
    for number, values in zip((3, 0, 2), (values for _, values in made), strict=True):
        with h5py.File(tmp_path / f"granule{number}.nc") as file:
            assert np.array_equal(file["displacement"][:], values)
        at = dataset.sel(time=START + number * DAY)
        assert np.array_equal(at.displacement.values, values)
        compared(values)
        assert at.pair == number
        assert at.baseline == np.float32(number * 1.5)
        assert at.reference_time.values == START - DAY
    assert dataset.displacement.dims == ("time", "y", "x")
    assert np.array_equal(dataset.x.values, 500_000.0 + 30 * np.arange(24))
    assert dataset.spatial_ref.attrs["spatial_ref"] == "EPSG:32611"
    assert dataset.displacement.attrs["units"] == "m"
    assert dataset.attrs == {"mission_name": "OPERA"}


async def test_groups_are_stacked_too(granule, opened):
    made = [await granule(number) for number in range(2)]
    dataset = await opened(stack_layers([layer for layer, _ in made]), "corrections")
    for number, (_, values) in enumerate(made):
        assert np.array_equal(dataset.sel(time=START + number * DAY).delay.values, values * 2)


async def test_chunks_of_one_pencil_lie_together(granule):
    index = stack_layers([(await granule(number))[0] for number in range(3)])
    table = index.content.tables["displacement"]
    assert table.grid == (3, 3, 3)
    assert table.pencil_axis == 0
    assert len(index.urls) == 3


async def test_it_is_the_same_in_whatever_order_it_is_given(granule):
    layers = [(await granule(number))[0] for number in range(3)]
    assert stack_layers(layers).version == stack_layers(layers[::-1]).version


async def test_two_granules_of_one_time_are_refused(granule):
    layers = [(await granule(number))[0] for number in range(2)]
    twice = [layers[0], Layer("other.nc", layers[1].index, layers[0].time)]
    with pytest.raises(InvalidReference, match=r"granule0\.nc and other\.nc are both of 2020-01-04"):
        stack_layers(twice)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"west": 500_030.0}, r"grid of granule1\.nc differs from that of others in '(corrections/)?x'"),
        ({"height": 16}, r"grid of granule1\.nc differs from that of others in '(corrections/)?y'"),
        ({"dtype": "f8"}, r"of granule1\.nc has another dtype than that of granule0\.nc"),
        ({"level": 7}, r"of granule1\.nc has another codecs"),
    ],
)
async def test_what_does_not_fit_is_named(granule, options, message):
    layers = [(await granule(0))[0], (await granule(1, **options))[0], (await granule(2))[0]]
    with pytest.raises(InvalidReference, match=message):
        stack_layers(layers)


@pytest.mark.parametrize(("name", "value"), [("scale_factor", 0.5), ("units", "mm"), ("missing_value", -1.0)])
async def test_values_of_another_meaning_are_not_stacked(granule, index_of, tmp_path, name, value):
    layers = [(await granule(number))[0] for number in range(2)]
    with h5py.File(tmp_path / "granule1.nc", "a") as file:
        file["displacement"].attrs[name] = value
    changed = replace(layers[1], index=await index_of(tmp_path / "granule1.nc"))
    with pytest.raises(InvalidReference, match=rf"of granule1\.nc has another {name}"):
        stack_layers([layers[0], changed])


@pytest.mark.parametrize(
    ("path", "name", "value", "said"),
    [
        ("spatial_ref", "spatial_ref", "EPSG:32612", r"The CRS of granule1\.nc differs"),
        ("spatial_ref", "crs_wkt", "PROJCRS", r"The CRS of granule1\.nc differs"),
        ("x", "units", "km", r"The grid of granule1\.nc differs from that of others in 'x'"),
    ],
)
async def test_grids_of_another_meaning_are_refused(granule, index_of, tmp_path, *, path, name, value, said):
    layers = [(await granule(number))[0] for number in range(2)]
    with h5py.File(tmp_path / "granule1.nc", "a") as file:
        file[path].attrs[name] = value
    changed = replace(layers[1], index=await index_of(tmp_path / "granule1.nc"))
    with pytest.raises(InvalidReference, match=said):
        stack_layers([layers[0], changed])


async def test_numbers_in_other_units_are_not_served(granule, index_of, tmp_path):
    layers = [(await granule(number))[0] for number in range(2)]
    with h5py.File(tmp_path / "granule1.nc", "a") as file:
        file["baseline"].attrs["units"] = "km"
    changed = replace(layers[1], index=await index_of(tmp_path / "granule1.nc"))
    index = stack_layers([layers[0], changed])
    assert "baseline" not in index.hierarchy.arrays
    assert "other units" in index.hierarchy.skipped["baseline"]


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_missing_chunks_are_an_error_unless_allowed_by_name(granule, opened, number):
    made = [await granule(n, skip_rows=8 if n == number else 0) for n in range(4)]
    layers = [layer for layer, _ in made]
    with pytest.raises(
        InvalidReference, match=rf"'displacement' lacks chunks .* granule{number}\.nc \(3 chunks"
    ):
        stack_layers(layers)
    dataset = await opened(stack_layers(layers, allow_gaps=["displacement"]))
    found = dataset.displacement.values
    assert np.array_equal(found, np.stack([values for _, values in made]), equal_nan=True)


async def test_what_all_granules_lack_is_fill(granule, opened):
    made = [await granule(n, skip_rows=8) for n in range(3)]
    dataset = await opened(stack_layers([layer for layer, _ in made]))
    assert np.isnan(dataset.displacement.values[:, :8]).all()
    assert not np.isnan(dataset.displacement.values[:, 8:]).any()


async def test_an_array_that_some_lack_is_not_served_and_says_so(granule):
    layers = [(await granule(0))[0], (await granule(1, group=False))[0]]
    index = stack_layers(layers)
    assert "corrections/delay" not in index.hierarchy.arrays
    assert index.hierarchy.skipped["corrections/delay"].endswith(
        "is not in granule1.nc, so it is not stacked."
    )


@pytest.mark.parametrize("fraction", ["2020-01-01T00:00:00.125", "2020-01-01T00:00:00.000000007"])
async def test_fractions_of_a_second_are_kept(granule, opened, fraction):
    layer, _ = await granule(0)
    dataset = await opened(stack_layers([Layer("a", layer.index, np.datetime64(fraction, "ns"))]))
    assert dataset.time.values[0] == np.datetime64(fraction, "ns")


async def test_a_time_axis_of_size_one_is_extended(tmp_path, index_of, opened):
    layers = []
    for number in range(3):
        values = np.full((1, 4, 4), number, "f4")
        path = tmp_path / f"t{number}.nc"
        xr.Dataset(
            {"v": (("time", "y", "x"), values), "quality": ("time", [10 + number])},
            {"time": [START + number * DAY], "y": np.arange(1.0, 5), "x": np.arange(1.0, 5)},
        ).to_netcdf(path, engine="h5netcdf", encoding={"v": {"chunksizes": (1, 2, 2), "zlib": True}})
        layers.append(Layer(path.name, await index_of(path), START + number * DAY))
    dataset = await opened(stack_layers(layers))
    assert np.array_equal(dataset.v.values, np.arange(3.0)[:, None, None] * np.ones((3, 4, 4)))
    assert list(dataset.quality.values) == [10, 11, 12]
    assert list(dataset.time.values) == [layer.time for layer in layers]
