"""A server over small cubes of real structure, kept as Zarr stores on disk."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import cftime
import httpx
import numpy as np
import pytest
import xarray as xr
from pyproj import CRS

from cubegate.app import create_app
from cubegate.settings import load_settings

DATES = np.array([f"2020-{month:02}-{day:02}" for month in range(1, 7) for day in (3, 15)], "M8[ns]")


def _mapped(dataset, crs):
    dataset["spatial_ref"] = ((), np.int32(0), CRS.from_user_input(crs).to_cf())
    for name in ("displacement", "counts", "quality", "v"):
        if name in dataset:
            dataset[name].attrs["grid_mapping"] = "spatial_ref"
    return dataset


def _projected(x, y):
    metres = {"units": "m"}
    return {
        "x": ("x", x, {"standard_name": "projection_x_coordinate", **metres}),
        "y": ("y", y, {"standard_name": "projection_y_coordinate", **metres}),
    }


def make_utm():
    """OPERA-like: 30 m, y descending, NaN outside of a swath, integers with and without fill."""
    random = np.random.default_rng(11)
    shape = (12, 60, 80)
    displacement = random.standard_normal(shape).astype("f4")
    displacement[:, :5, :9] = np.nan
    counts = random.integers(-300, 300, shape).astype("i2")
    counts[:, 10:12] = -999
    dataset = xr.Dataset(
        {
            "displacement": (("time", "y", "x"), displacement, {"units": "m"}),
            "counts": (("time", "y", "x"), counts, {"_FillValue": np.int16(-999)}),
            "quality": (("y", "x"), random.integers(0, 255, shape[1:]).astype("u1")),
            "reference_time": ("time", DATES - np.timedelta64(12, "D")),
        },
        {"time": DATES, **_projected(400_015 + 30.0 * np.arange(80), 3_900_000 - 30.0 * np.arange(60))},
    )
    return _mapped(dataset, "EPSG:32611")


def make_polar():
    """ITS_LIVE-like: EPSG:3413, unsorted and duplicated dates."""
    random = np.random.default_rng(12)
    dates = DATES[[5, 2, 2, 9, 0, 11, 5, 1]] + np.timedelta64(37, "s")
    x = np.arange(-250_000, -200_000, 1_000.0)
    dataset = xr.Dataset(
        {"v": (("mid_date", "y", "x"), random.integers(0, 3000, (8, 50, 50)).astype("f8"), {"units": "m/y"})},
        {"mid_date": dates, **_projected(x, -2_000_000 - 1_000.0 * np.arange(50))},
    )
    return _mapped(dataset, "EPSG:3413")


def make_globe():
    """Longitudes 0 to 355, latitudes descending, levels, members without coordinate, a noleap calendar."""
    random = np.random.default_rng(13)
    times = cftime.num2date(np.arange(0, 60, 5), "days since 2001-02-01", "noleap")
    return xr.Dataset(
        {
            "t": (
                ("time", "level", "member", "lat", "lon"),
                random.standard_normal((12, 2, 3, 36, 72)).astype("f4"),
            )
        },
        {
            "time": times,
            "level": ("level", [500.0, 850.0]),
            "lat": ("lat", np.arange(87.5, -90, -5.0), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(0, 360, 5.0), {"units": "degrees_east"}),
        },
    )


def make_plain():
    """Neither CRS nor units."""
    return xr.Dataset(
        {"a": (("y", "x"), np.arange(12.0).reshape(3, 4))},
        {"x": np.arange(4) * 10.0, "y": np.arange(3) * 10.0},
    )


CHUNKS = {
    "utm": {"time": 1, "y": 16, "x": 16},
    "polar": {"mid_date": 4, "y": 10, "x": 10},
    "globe": {"time": 6, "level": 1, "member": 3, "lat": 12, "lon": 24},
    "plain": {},
}


def _serve(directory, cubes, limits):
    directory.mkdir(exist_ok=True)
    (directory / "collections").mkdir()
    for name, cube in cubes.items():
        store = directory / f"{name}.zarr"
        encoding = {
            variable: {"chunks": tuple(CHUNKS[name].get(dim, cube.sizes[dim]) for dim in cube[variable].dims)}
            for variable in cube.data_vars
            if cube[variable].ndim > 1
        }
        cube.to_zarr(store, zarr_format=2, encoding=encoding)
        (directory / "collections" / f"{name}.yaml").write_text(
            f'id: {name}\ntitle: The {name} cube\nsource: {{kind: zarr, href: "{store.as_uri()}"}}\n'
        )
    (directory / "cubegate.yaml").write_text(
        f'upstreams: {{"{directory.as_uri()}/": {{}}}}\nlimits: {limits}\ncollections: ["collections/*.yaml"]\n'
    )
    return create_app(load_settings(directory / "cubegate.yaml", {}), {})


def _ask(client, path, status=200, **parameters):
    names = {"bbox_crs": "bbox-crs"}
    response = client.get(path, params={names.get(name, name): value for name, value in parameters.items()})
    assert response.status_code == status, response.text
    return response


def _asking(client):
    return SimpleNamespace(
        client=client, ask=lambda path, status=200, **given: _ask(client, path, status, **given)
    )


@pytest.fixture(scope="session")
def cubes():
    """The cubes as made, in memory."""
    return {"utm": make_utm(), "polar": make_polar(), "globe": make_globe(), "plain": make_plain()}


@pytest.fixture(scope="session")
def decoded(cubes, tmp_path_factory):
    """The cubes as xarray alone reads them back from disk."""
    directory = tmp_path_factory.mktemp("decoded")
    found = {}
    for name, cube in cubes.items():
        cube.to_zarr(directory / name, zarr_format=2)
        found[name] = xr.open_zarr(directory / name, chunks=None).load()
    return found


@pytest.fixture(scope="session")
def running(serving):
    """Run an app on a free port while the context lasts; gives a client of its datasets."""

    @contextlib.contextmanager
    def running(app):
        with serving(app) as url, httpx.Client(base_url=f"{url}/datasets", timeout=60) as client:
            yield client

    return running


@pytest.fixture(scope="session")
def server(cubes, tmp_path_factory, running):
    """`ask(path, status=200, **parameters)` and the bare client of a server over all cubes."""
    app = _serve(tmp_path_factory.mktemp("server"), cubes, "{points: 50}")
    with running(app) as client:
        yield _asking(client)


@pytest.fixture
def serve(cubes, tmp_path, running):
    """Start a server of its own with other limits."""
    with contextlib.ExitStack() as stack:
        started = []

        def start(limits):
            started.append(limits)
            app = _serve(tmp_path / f"server{len(started)}", cubes, limits)
            return _asking(stack.enter_context(running(app)))

        yield start
