"""Cubes in every form that the Zarr plugin serves, behind a real server."""

import json
import shutil

import h5py
import httpx
import numpy as np
import pytest
import xarray as xr
from pyproj import CRS

from cubegate.app import create_app
from cubegate.settings import load_settings

SHAPE, CHUNKS = (3, 50, 70), (1, 32, 32)


def write_granule(path):
    """An HDF5 file with the features that matter: shuffle, byte orders, holes, strings, a CRS, a group."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "granule"
        for name, values in (
            ("time", np.array([10, 20, 40], "<i4")),
            ("y", np.arange(50, dtype="f8")[::-1] * 30 + 3_000_000.0),
            ("x", np.arange(70, dtype="f8") * 30 + 500_000.0),
        ):
            dataset = file.create_dataset(name, data=values)
            dataset.make_scale(name)
        file["time"].attrs["units"] = "days since 2020-01-01"
        file["time"].attrs["calendar"] = "standard"
        for name in ("x", "y"):
            file[name].attrs["standard_name"] = f"projection_{name}_coordinate"
            file[name].attrs["units"] = "m"
        mapping = file.create_dataset("crs", data=np.int32(0))
        mapping.attrs["crs_wkt"] = CRS.from_epsg(32611).to_wkt()
        mapping.attrs["grid_mapping_name"] = "transverse_mercator"

        values = rng.normal(size=SHAPE).astype("f4")
        values[:, 5:9, 5:9] = 0.0
        values[:, 0, 0] = -9999.0
        displacement = file.create_dataset(
            "displacement", data=values, chunks=CHUNKS, shuffle=True, compression="gzip", fillvalue=-9999.0
        )
        displacement.attrs["_FillValue"] = np.array([-9999.0], "f4")
        displacement.attrs["units"] = "m"
        plain = file.create_dataset("big endian", data=rng.integers(-5, 5, SHAPE), dtype=">i2", chunks=CHUNKS)
        sparse = file.create_dataset(
            "sparse", SHAPE, "<f8", chunks=CHUNKS, shuffle=True, compression="gzip", fillvalue=7.5
        )
        sparse[0, :32, :32] = rng.normal(size=(32, 32))
        for variable in (displacement, plain, sparse):
            variable.attrs["grid_mapping"] = "crs"
            for number, name in enumerate(("time", "y", "x")):
                variable.dims[number].attach_scale(file[name])
        group = file.create_group("quality")
        group.create_dataset("flags", data=np.arange(12, dtype="u1").reshape(3, 4))


def write_native(path):
    dataset = xr.Dataset(
        {
            "v": (("t", "x"), np.arange(24, dtype="i2").reshape(4, 6)),
            "name": (("t",), np.array(["a", "", "long" * 9, "d"], dtype=object)),
            "scalar": ((), 2.5),
            "masked": (("t",), np.array([1.0, np.nan, 3.0, 0.0])),
        },
        {"x": np.arange(6) * 2.0},
        {"title": "native"},
    )
    dataset.v.attrs["valid_max"] = float("nan")
    encoding = {"v": {"chunks": (2, 4)}, "masked": {"_FillValue": -1.0, "dtype": "f4"}}
    dataset.to_zarr(path / "two", zarr_format=2, encoding=encoding, consolidated=True)
    dataset.to_zarr(
        path / "three",
        zarr_format=3,
        encoding={"v": {"chunks": (1, 2), "shards": (2, 4)}, "masked": {"_FillValue": -1.0, "dtype": "f4"}},
        consolidated=False,
    )
    return dataset


def collection(directory, name, kind, href):
    (directory / f"{name}.yaml").write_text(f"id: {name}\nsource: {{kind: {kind}, href: '{href}'}}\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory, scan_granule):
    root = tmp_path_factory.mktemp("cubes")
    write_granule(root / "granule.h5")
    shutil.copy(root / "granule.h5", root / "lost.h5")
    write_native(root)
    for name in ("granule", "lost"):
        references = scan_granule(root / f"{name}.h5", inline_threshold=0)
        (root / f"{name}.json").write_text(json.dumps(references))
    collections = root / "collections"
    collections.mkdir()
    collection(collections, "granule", "kerchunk", f"file://{root}/granule.json")
    collection(collections, "lost", "kerchunk", f"file://{root}/lost.json")
    collection(collections, "two", "zarr", f"file://{root}/two")
    collection(collections, "three", "zarr", f"file://{root}/three")
    (root / "cubegate.yaml").write_text(
        f"upstreams: {{'file://{root}/': {{}}}}\ncollections: ['collections/*.yaml']\n"
    )
    return root


@pytest.fixture(scope="module")
def server(files, serving):
    app = create_app(load_settings(files / "cubegate.yaml", {}), {})
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=f"{server}/datasets") as client:
        yield client


@pytest.fixture(scope="module")
def granule(files):
    with h5py.File(files / "granule.h5") as file:
        yield file
