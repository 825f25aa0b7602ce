"""Datasets over an encoded store: every way of indexing gives what NumPy gives on the file's own values."""

import asyncio
import json
import warnings

import numpy as np
import pytest
import xarray as xr

from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import InvalidMetadata, NotFound
from cubegate.settings import UpstreamSettings
from cubegate.store.backend import open_dataset
from cubegate.store.bridge import LoopThread
from cubegate.store.sources.zarr import open_zarr_store

SHAPE, CHUNKS = (7, 23, 31), (3, 8, 10)


@pytest.fixture
def bridge():
    bridge = LoopThread()
    yield bridge
    bridge.close()


@pytest.fixture(params=[2, 3])
def written(tmp_path, request):
    """A Zarr store with times, fills, scales, strings and scalars, and what xarray itself reads from it."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=SHAPE)
    values[0, :3] = np.nan
    dataset = xr.Dataset(
        {
            "v": (("time", "y", "x"), values, {"units": "m", "grid_mapping": "crs"}),
            "packed": (("time", "y", "x"), rng.integers(-100, 100, SHAPE) / 10),
            "number": (("y", "x"), rng.integers(0, 9, SHAPE[1:]).astype("u1")),
            "name": (("time",), np.array([f"granule {n}" for n in range(7)], dtype=object)),
            "crs": ((), np.int32(0), {"grid_mapping_name": "latitude_longitude"}),
        },
        {
            "time": np.datetime64("2020-01-01", "ns") + np.arange(7) * np.timedelta64(12, "D"),
            "y": np.linspace(50, 40, SHAPE[1]),
            "x": np.linspace(0, 20, SHAPE[2]),
            "reference": (
                ("time",),
                np.datetime64("2019-01-01", "ns") + np.arange(7) * np.timedelta64(1, "h"),
            ),
        },
        {"title": "cube"},
    )
    encoding = {
        "v": {"chunks": CHUNKS, "_FillValue": -9999.0, "dtype": "f4"},
        "packed": {"chunks": CHUNKS, "dtype": "i2", "scale_factor": 0.1, "_FillValue": -32768},
        "time": {"units": "days since 2000-01-01"},
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The codec `vlen-utf8`|Consolidated metadata|The data type")
        dataset.to_zarr(tmp_path / "a.zarr", zarr_format=request.param, encoding=encoding)
        expected = xr.open_zarr(tmp_path / "a.zarr", zarr_format=request.param, chunks=None).load()
    return tmp_path / "a.zarr", expected


@pytest.fixture
async def opened(written, bridge):
    """Our dataset and xarray's own of the same store."""
    path, expected = written
    upstreams = open_upstreams({f"{path.as_uri()}/": UpstreamSettings()}, {})
    store = await open_zarr_store(path.as_uri(), upstreams, group="", missing="fill")
    yield await open_dataset(store, bridge), expected
    await upstreams.aclose()


async def test_everything_is_as_xarray_reads_it(opened):
    dataset, expected = opened
    loaded = await dataset.load_async()
    xr.testing.assert_identical(loaded, expected)
    # zarr-python has a dtype of its own for text, ours are objects
    for name in set(expected.variables) - {"name"}:
        assert loaded[name].dtype == expected[name].dtype, name


async def test_only_coordinates_and_scalars_are_in_memory(opened):
    dataset, _ = opened
    in_memory = {name for name, variable in dataset.variables.items() if variable._in_memory}
    assert {"time", "y", "x"} <= in_memory
    assert not {"v", "packed", "number"} & in_memory
    assert dataset.v.encoding["encoded_array"].shape == SHAPE
    assert dataset.v.encoding["preferred_chunks"] == dict(zip(("time", "y", "x"), CHUNKS, strict=True))


POINTS = xr.DataArray([0, 22, 5, 5], dims="point")
OTHERS = xr.DataArray([30, 0, 9, 9], dims="point")
GRID = xr.DataArray([[0, 1], [6, 6]], dims=("a", "b"))
SELECTIONS = {
    "all": {},
    "a pixel": {"y": 5, "x": 7},
    "negative": {"time": -1, "y": -23},
    "a slice": {"y": slice(3, 20), "x": slice(9, 11)},
    "steps": {"time": slice(None, None, 2), "x": slice(1, None, 7)},
    "backwards": {"y": slice(None, None, -1), "x": slice(20, 3, -4)},
    "nothing": {"x": slice(5, 5)},
    "out of order": {"y": [7, 0, 22], "x": [3]},
    "twice": {"time": [1, 1, 0]},
    "outer": {"time": [6, 2], "y": slice(5, 9), "x": [30, 0, 12]},
    "a mask": {"x": np.arange(31) % 3 == 0},
    "no place": {"y": []},
    "points": {"y": POINTS, "x": OTHERS},
    "points at times": {"time": slice(2, 6, 3), "y": POINTS, "x": OTHERS},
    "points first": {"time": POINTS % 7, "x": OTHERS},
    "points of one time": {"time": 3, "y": POINTS, "x": OTHERS},
    "a grid of points": {"time": GRID, "y": GRID * 3},
    "crossed": {"time": POINTS % 7, "y": xr.DataArray([1, 2], dims="other"), "x": slice(4, 6)},
}


@pytest.mark.parametrize("name", ["v", "packed"])
@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
async def test_every_selection_is_that_of_numpy(opened, selection, name):
    dataset, expected = opened
    chosen = expected[name].isel(SELECTIONS[selection])
    asynchronous = await dataset[name].isel(SELECTIONS[selection]).load_async()
    xr.testing.assert_identical(asynchronous, chosen)
    # as plugins without an event loop read
    synchronous = await asyncio.to_thread(dataset[name].isel(SELECTIONS[selection]).load)
    xr.testing.assert_identical(synchronous, chosen)


async def test_selections_of_selections(opened):
    dataset, expected = opened

    def choose(source):
        return source.v.isel(y=slice(4, 20, 3)).isel(x=[5, 30, 2]).isel(y=-1).isel(time=slice(None, None, -2))

    xr.testing.assert_identical(await choose(dataset).load_async(), choose(expected))


async def test_many_random_selections(opened):
    dataset, expected = opened
    rng = np.random.default_rng(3)

    def indexer(size):
        kind = rng.integers(4)
        if kind == 0:
            return int(rng.integers(-size, size))
        if kind == 1:
            start, stop = sorted(rng.integers(0, size + 1, 2).tolist())
            return slice(start, stop, int(rng.integers(1, 5)))
        if kind == 2:
            return slice(int(rng.integers(0, size)), None, -int(rng.integers(1, 5)))
        return rng.integers(0, size, rng.integers(0, 6))

    for _ in range(150):
        selection = {name: indexer(size) for name, size in zip(("time", "y", "x"), SHAPE, strict=True)}
        read = await dataset.v.isel(selection).load_async()
        np.testing.assert_array_equal(read.values, expected.v.isel(selection).values, err_msg=str(selection))


async def test_selection_by_label(opened):
    dataset, expected = opened
    asked = {"time": slice("2020-01-10", "2020-02-20"), "y": slice(48, 42)}
    xr.testing.assert_identical(await dataset.v.sel(asked).load_async(), expected.v.sel(asked))


def store_of(tmp_path, **variables):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata|The data type")
        xr.Dataset(variables).to_zarr(tmp_path / "b.zarr", zarr_format=2)
    return tmp_path / "b.zarr"


async def open_path(path, bridge, group=""):
    upstreams = open_upstreams({f"{path.as_uri()}/": UpstreamSettings()}, {})
    try:
        store = await open_zarr_store(path.as_uri(), upstreams, group="", missing="fill")
        return await (await open_dataset(store, bridge, group=group)).load_async()
    finally:
        await upstreams.aclose()


async def test_swapped_bytes_are_native_values(tmp_path, bridge):
    values = np.array([[5, 2**31 - 1, -3], [0, 7, 2**31 - 1]], ">i4")
    stored = xr.Dataset(
        {"plain": (("y", "x"), values), "unsigned": (("y", "x"), values, {"_Unsigned": "true"})}
    )
    encoding = {"plain": {"_FillValue": None}}
    stored.to_zarr(tmp_path / "a.zarr", zarr_format=2, encoding=encoding)
    array = json.loads((tmp_path / "a.zarr/unsigned/.zarray").read_text())
    (tmp_path / "a.zarr/unsigned/.zarray").write_text(json.dumps({**array, "fill_value": 2**31 - 1}))
    (tmp_path / "a.zarr/.zmetadata").unlink()
    upstreams = open_upstreams({f"{tmp_path.as_uri()}/": UpstreamSettings()}, {})
    url = (tmp_path / "a.zarr").as_uri()
    dataset = await open_dataset(await open_zarr_store(url, upstreams, group="", missing="fill"), bridge)
    plain, unsigned = await dataset.plain.load_async(), await dataset.unsigned.load_async()
    await upstreams.aclose()
    assert plain.dtype == np.dtype("i4")
    np.testing.assert_array_equal(plain, values)
    # xarray itself misses the fill of swapped unsigned integers
    np.testing.assert_array_equal(unsigned, [[5, np.nan, 2**32 - 3], [0, 7, np.nan]])


async def test_times_that_cannot_be_decoded_stay_numbers(tmp_path, bridge, caplog):
    path = store_of(tmp_path, t=("t", [1.0, 2.0], {"units": "days since the flood"}))
    dataset = await open_path(path, bridge)
    assert dataset.t.values.tolist() == [1.0, 2.0]
    assert "left as numbers" in caplog.text
    assert "flood" not in caplog.text


async def test_arrays_that_disagree_are_no_dataset(tmp_path, bridge):
    store_of(tmp_path, a=("x", [1.0, 2.0]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata|The data type")
        xr.Dataset({"b": ("x", [1.0, 2.0, 3.0])}).to_zarr(tmp_path / "b.zarr", zarr_format=2, mode="a")
    with pytest.raises(InvalidMetadata, match=r"'x' has size 2 in array 'a' and 3 in 'b'"):
        await open_path(tmp_path / "b.zarr", bridge)


async def test_an_unknown_group_names_those_that_exist(tmp_path, bridge):
    path = store_of(tmp_path, a=("x", [1.0, 2.0]))
    with pytest.raises(NotFound, match=r"no group 'c'. Groups: /\."):
        await open_path(path, bridge, group="c")


def test_the_bridge_runs_work_of_many_threads_and_starts_again(bridge):
    async def double(number):
        await asyncio.sleep(0)
        return 2 * number

    assert [bridge.run(double(number)) for number in range(5)] == [0, 2, 4, 6, 8]
    bridge.close()
    bridge.close()
    assert bridge.run(double(4)) == 8
