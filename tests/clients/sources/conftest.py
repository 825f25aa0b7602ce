"""One small stack of granules, kept as every kind of source and reachable by every transport."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import h5py
import icechunk
import netCDF4
import numpy as np
import pyproj
import pytest
import xarray as xr
import zarr
import zstandard
from fsspec.implementations.reference import LazyReferenceMapper
from kerchunk.combine import MultiZarrToZarr
from zarr.codecs import BytesCodec
from zarr.codecs import numcodecs as zarr_numcodecs
from zarr.core.buffer import default_buffer_prototype

DATES, ROWS, COLUMNS, CHUNK = 3, 20, 30, 16
GRIDDED = ("displacement", "count", "coherence")
REFERENCES = {
    "kerchunk-v0.json": lambda refs: json.dumps(refs["refs"]).encode(),
    "kerchunk-v1.json": lambda refs: json.dumps(refs).encode(),
    "kerchunk-v0.json.zst": lambda refs: zstandard.compress(json.dumps(refs["refs"]).encode()),
    "kerchunk-v1.json.gz": lambda refs: gzip.compress(json.dumps(refs).encode()),
}
NATIVE = {
    "zarr-v2.zarr": {"zarr_format": 2},
    "zarr-v3.zarr": {"zarr_format": 3},
    "zarr-v3-sharded.zarr": {"zarr_format": 3, "sharded": True},
}


def write_granule(path, number):
    """Float with NaN, big-endian integers with a fill value, bytes without one; one chunk is not written."""
    random = np.random.default_rng(number)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", 1), ("y", ROWS), ("x", COLUMNS)):
            file.createDimension(name, size)
        axes = {
            "time": ([12.0 * number + 0.25], {"units": "days since 2020-01-01", "calendar": "standard"}),
            "y": (
                3_900_000 - 30.0 * np.arange(ROWS),
                {"standard_name": "projection_y_coordinate", "units": "m"},
            ),
            "x": (
                400_015 + 30.0 * np.arange(COLUMNS),
                {"standard_name": "projection_x_coordinate", "units": "m"},
            ),
        }
        for name, (values, attributes) in axes.items():
            axis = file.createVariable(name, "f8", (name,))
            axis[:] = values
            axis.setncatts(attributes)
        spatial_ref = file.createVariable("spatial_ref", "i4", ())
        spatial_ref[...] = 0
        spatial_ref.setncatts(pyproj.CRS.from_epsg(32611).to_cf())
        layout = {
            "dimensions": ("time", "y", "x"),
            "zlib": True,
            "shuffle": True,
            "chunksizes": (1, CHUNK, CHUNK),
        }
        displacement = file.createVariable("displacement", "f4", fill_value=np.nan, **layout)
        values = random.standard_normal((ROWS, COLUMNS)).astype("f4")
        values[:3, :5] = np.nan
        displacement[0, :, :CHUNK] = values[:, :CHUNK]
        displacement[0, :CHUNK, CHUNK:] = values[:CHUNK, CHUNK:]
        if number != 1:
            displacement[0, CHUNK:, CHUNK:] = values[CHUNK:, CHUNK:]
        count = file.createVariable("count", ">i2", fill_value=-999, endian="big", **layout)
        count[0] = np.where(values > 1, -999, random.integers(-300, 300, values.shape))
        coherence = file.createVariable("coherence", "u1", fill_value=False, **layout)
        coherence[0] = random.integers(0, 3, values.shape) * 127
        for name in GRIDDED:
            file[name].grid_mapping = "spatial_ref"


def read_granules(paths):
    """What the granules hold, read by h5py: arrays with NaN where a value is missing, and the axes."""
    layers = {name: [] for name in (*GRIDDED, "time")}
    for path in paths:
        with h5py.File(path) as file:
            for name, found in layers.items():
                values = file[name][0]
                fill = file[name].attrs.get("_FillValue", [None])[0]
                found.append(values if fill is None else np.where(values == fill, np.nan, values))
            axes = {name: file[name][:] for name in ("y", "x")}
    time = np.datetime64("2020-01-01", "ns") + (np.array(layers.pop("time")) * 86_400e9).astype("m8[ns]")
    return SimpleNamespace(time=time, **axes, **{name: np.stack(found) for name, found in layers.items()})


def combine(paths, scan):
    """Return kerchunk's references over the granules, which name them by their file names alone."""
    combined = MultiZarrToZarr(
        [scan(path, url=str(path), inline_threshold=100) for path in paths],
        remote_protocol="file",
        coo_map={"time": "data:time"},
        concat_dims=["time"],
        identical_dims=["y", "x", "spatial_ref"],
        inline_threshold=100,
    ).translate()["refs"]
    return {
        key: [Path(ref[0]).name, *ref[1:]] if isinstance(ref, list) else ref for key, ref in combined.items()
    }


def located(references, where):
    """References to granules at the addresses that `where` gives for a file name."""
    refs = {
        key: [where(ref[0]), *ref[1:]] if isinstance(ref, list) else ref for key, ref in references.items()
    }
    return {"version": 1, "refs": refs}


def write_references(directory, references):
    directory.mkdir(parents=True)
    for name, encode in REFERENCES.items():
        (directory / name).write_bytes(encode(references))
    store = str(directory / "kerchunk.parq")
    mapper = LazyReferenceMapper.create(store, record_size=5, engine="pyarrow")
    # the mapper numbers a chunk by its array's shape, so it must know all metadata first
    for key in sorted(references["refs"], key=lambda key: ".z" not in key):
        mapper[key] = references["refs"][key]
    mapper.flush()


def dataset_of(granules):
    dataset = xr.Dataset(
        {name: (("time", "y", "x"), getattr(granules, name)) for name in GRIDDED},
        {
            "time": granules.time,
            "y": ("y", granules.y, {"standard_name": "projection_y_coordinate", "units": "m"}),
            "x": ("x", granules.x, {"standard_name": "projection_x_coordinate", "units": "m"}),
        },
    )
    dataset["spatial_ref"] = ((), np.int32(0), pyproj.CRS.from_epsg(32611).to_cf())
    for name in GRIDDED:
        dataset[name].attrs["grid_mapping"] = "spatial_ref"
    return dataset


def write_zarr(dataset, target, **options):
    layout = {"chunks": (1, CHUNK, CHUNK)}
    if options.pop("sharded", False):
        layout["shards"] = (2, 2 * CHUNK, CHUNK)
    stored = {
        "displacement": {},
        "count": {"dtype": "i2", "_FillValue": -999},
        "coherence": {"_FillValue": None},
    }
    encoding = {name: {**layout, **stored[name]} for name in GRIDDED if name in dataset}
    with warnings.catch_warnings():
        # consolidated metadata is not in the specification of v3
        warnings.simplefilter("ignore")
        dataset.to_zarr(target, encoding=encoding, **options)


def write_icechunk(path, dataset):
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    write_zarr(dataset, session.store, zarr_format=3, consolidated=False)
    session.commit("write")


def write_virtual_icechunk(path, dataset, references, prefix):
    """A repository whose gridded chunks are those of the granules below `prefix`."""
    config = icechunk.RepositoryConfig.default()
    if prefix.startswith("file:"):
        store = icechunk.local_filesystem_store(prefix.removeprefix("file://"))
    else:
        # a repository may say anything about where its granules are
        store = icechunk.s3_store(region="nowhere", endpoint_url="http://127.0.0.1:9", allow_http=True)
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(f"{prefix}/", store))
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)), config)
    session = repository.writable_session("main")
    write_zarr(dataset.drop_vars(GRIDDED), session.store, zarr_format=3, consolidated=False)
    root = zarr.open_group(session.store)
    for name in GRIDDED:
        _add_virtual(root, session.store, name, dataset[name].attrs, references)
    session.commit("write")


def _add_virtual(root, store, name, attributes, references):
    document = json.loads(references["refs"][f"{name}/.zarray"])
    codecs = [*document["filters"], document["compressor"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.create_array(
            name,
            shape=document["shape"],
            chunks=document["chunks"],
            dtype=document["dtype"],
            fill_value=np.nan if name == "displacement" else 0,
            serializer=BytesCodec(endian="big" if document["dtype"].startswith(">") else "little"),
            compressors=[
                getattr(zarr_numcodecs, codec.pop("id").capitalize())(**codec) for codec in codecs if codec
            ],
            dimension_names=("time", "y", "x"),
            attributes={**attributes, **({"_FillValue": -999} if name == "count" else {})},
        )
    for key, reference in references["refs"].items():
        path, _, chunk = key.rpartition("/")
        if path != name or chunk.startswith("."):
            continue
        target = f"{name}/c/{chunk.replace('.', '/')}"
        if isinstance(reference, list):
            url, offset, length = reference
            store.set_virtual_ref(target, url, offset=offset, length=length)
        else:
            data = base64.b64decode(reference.removeprefix("base64:"))
            asyncio.run(store.set(target, default_buffer_prototype().buffer.from_bytes(data)))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder that all transports reach."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="session")
def granules(site):
    """What the granules hold, read by h5py."""
    (site / "granules").mkdir()
    for number in range(DATES):
        write_granule(site / "granules" / f"{number}.nc", number)
    return read_granules(sorted((site / "granules").iterdir()))


@pytest.fixture(scope="session")
def prefixes(site, serve_folder, object_stores):
    """The address of the site, by transport."""
    return {
        "file": site.as_uri(),
        "http": serve_folder(site),
        "s3-anonymous": f"s3://{object_stores.open}",
        "s3-keys": f"s3://{object_stores.locked[0]}",
    }


@pytest.fixture(scope="session")
def stack(site, granules, prefixes, object_stores, scan_granule):
    """Write the stack as every kind of source below the site."""
    dataset = dataset_of(granules)
    for name, options in NATIVE.items():
        write_zarr(dataset, site / name, **options)
    write_icechunk(site / "icechunk-native", dataset)
    homes = {transport: [prefix] * DATES for transport, prefix in prefixes.items()}
    homes["second-bucket"] = [f"s3://{object_stores.locked[1]}"] * DATES
    homes["closed"] = [f"s3://{object_stores.locked[2]}"] * DATES
    homes["scattered"] = [prefixes["file"], homes["s3-keys"][0], homes["second-bucket"][0]]
    references = combine(sorted((site / "granules").iterdir()), scan_granule)
    for place, home in homes.items():
        found = located(references, lambda name, home=home: f"{home[int(name[0])]}/granules/{name}")
        write_references(site / "references" / place, found)
        if place not in ("http", "scattered"):
            write_virtual_icechunk(site / f"icechunk-virtual-{place}", dataset, found, f"{home[0]}/granules")
