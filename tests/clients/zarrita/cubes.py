"""Cubes of every type and codec that a page may meet: granules, one of them lost, Zarr v2 and v3, sharded."""

import numcodecs
import numpy as np
import yaml
import zarr
from netCDF4 import Dataset
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from cubegate.cli import main

ROWS, COLUMNS = 60, 90
GRANULES = ("2020-01-03.nc", "2020-01-15.nc")
# name: type, chunks of rows and columns, fill, attributes
LAYERS = {
    "long": ("i8", (32, 32), -1, {}),
    "unsigned": ("u8", (32, 32), None, {}),
    "big": (">i2", (32, 32), -999, {}),
    "scaled": ("i2", (32, 32), -32768, {"scale_factor": 0.25, "add_offset": 10.0}),
    "flags": ("u1", (32, 32), None, {}),
    "double": ("f8", (32, 32), np.nan, {}),
    "small": ("f4", (10, 12), -9999.0, {}),
    "large": ("f4", (ROWS, COLUMNS), 0.0, {}),
    "holes": ("f4", (32, 32), np.nan, {}),
    "days": ("i8", (32, 32), None, {"units": "days since 1970-01-01"}),
}
CODECS_2 = {
    "none": {"compressors": None},
    "zlib": {"compressors": numcodecs.Zlib(5)},
    "gzip": {"compressors": numcodecs.GZip(5)},
    "lz4": {"compressors": numcodecs.LZ4()},
    "zstd": {"compressors": numcodecs.Zstd(3)},
    "bz2": {"compressors": numcodecs.BZ2()},
    "blosc-lz4": {"compressors": numcodecs.Blosc("lz4", shuffle=1)},
    "blosc-zstd": {"compressors": numcodecs.Blosc("zstd", shuffle=2)},
    "shuffle": {"filters": [numcodecs.Shuffle(4)], "compressors": numcodecs.Zlib(1)},
    "delta": {"filters": [numcodecs.Delta("<i4")], "compressors": numcodecs.Zlib(1)},
    "columns-first": {"order": "F", "compressors": numcodecs.Zlib(1)},
    "slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}, "compressors": numcodecs.Zlib(1)},
}
CODECS_3 = {
    "none": {"compressors": None},
    "gzip": {"compressors": GzipCodec(level=5)},
    "zstd": {"compressors": ZstdCodec(level=3)},
    "checksum": {"compressors": [ZstdCodec(level=3), Crc32cCodec()]},
    "blosc": {"compressors": BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4)},
    "big": {"serializer": BytesCodec(endian="big"), "compressors": GzipCodec(level=1)},
    "transposed": {"filters": [TransposeCodec(order=(1, 0))], "compressors": GzipCodec(level=1)},
    "dots": {"chunk_key_encoding": {"name": "v2", "separator": "."}, "compressors": GzipCodec(level=1)},
}


def _layer(random, kind, fill):
    if kind in ("i8", "u8"):
        # more than a JavaScript number holds
        values = random.integers(2**53, 2**62, (ROWS, COLUMNS)).astype(kind)
    elif kind[0] == "f":
        values = random.standard_normal((ROWS, COLUMNS)).astype(kind)
    else:
        values = random.integers(0, 250, (ROWS, COLUMNS)).astype(kind)
    if fill is not None:
        values[3:9, 5:12] = fill
    return values


def _write_granule(path, number):
    random = np.random.default_rng(number)
    with Dataset(path, "w") as file:
        file.set_auto_maskandscale(False)
        for name, size in (("time", 1), ("y", ROWS), ("x", COLUMNS)):
            file.createDimension(name, size)
        axes = {
            "time": ([12 * number], "i4", {"units": "days since 2020-01-03", "standard_name": "time"}),
            "y": (4e6 - 30.0 * np.arange(ROWS), "f8", {"standard_name": "projection_y_coordinate", "units": "m"}),
            "x": (5e5 + 30.0 * np.arange(COLUMNS), "f8", {"standard_name": "projection_x_coordinate", "units": "m"}),
        }  # fmt: skip
        for name, (values, kind, attributes) in axes.items():
            axis = file.createVariable(name, kind, (name,))
            axis[:] = values
            axis.setncatts(attributes)
        for name, (kind, chunks, fill, attributes) in LAYERS.items():
            layer = file.createVariable(
                name, kind, ("time", "y", "x"), fill_value=fill, zlib=True, shuffle=True,
                chunksizes=(1, *chunks), endian="big" if kind[0] == ">" else "little",
            )  # fmt: skip
            layer.set_auto_maskandscale(False)
            layer.setncatts(attributes)
            values = _layer(random, kind, fill)
            if name == "holes":
                layer[0, :32, :32] = values[:32, :32]
            else:
                layer[0] = values


def _write_stores(directory):
    random = np.random.default_rng(7)
    values = random.integers(-(10**6), 10**6, (50, 70)).astype("i4")
    for version, codecs in ((2, CODECS_2), (3, CODECS_3)):
        group = zarr.create_group(directory / f"codecs-{version}.zarr", zarr_format=version)
        for name, options in codecs.items():
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, chunks=(16, 32), fill_value=7,
                **({"attributes": {"_ARRAY_DIMENSIONS": ["y", "x"]}} if version == 2 else {"dimension_names": ("y", "x")}),
                **options,
            )  # fmt: skip
            # the chunks of the last rows are never written
            array[:48] = values[:48]
    group = zarr.create_group(directory / "sharded.zarr", zarr_format=3)
    for name, kind in (("long", "i8"), ("real", "f4"), ("byte", "u1")):
        array = group.create_array(
            name, shape=(40, 60), dtype=kind, chunks=(8, 10), shards=(16, 20), fill_value=5,
            dimension_names=("y", "x"), compressors=ZstdCodec(level=1),
        )  # fmt: skip
        # one inner chunk of a shard, whole shards, and shards that are never written
        array[:8, :10] = random.integers(6, 99, (8, 10))
        array[16:40, 20:60] = random.integers(6, 99, (24, 40))


def make_cubes(directory):
    """Write the cubes `granules`, `lost` (its second granule is gone), `codecs-2`, `codecs-3`, `sharded`; returns the configuration."""
    configuration = directory / "cubegate.yaml"
    configuration.write_text(
        yaml.safe_dump({"upstreams": {f"{directory.as_uri()}/": {}}, "collections": ["cubes/*.yaml"]})
    )
    cubes = directory / "cubes"
    for name in ("granules", "lost"):
        (directory / name).mkdir()
        for number, granule in enumerate(GRANULES):
            _write_granule(directory / name / granule, number)
        files = ["build", "files", f"{directory / name}/*.nc", "--concat", "time"]
        command = [*files, "--id", name, "-o", str(cubes), "--config", str(configuration), "--json"]
        assert main(command) == 0
    (directory / "lost" / GRANULES[1]).unlink()
    _write_stores(directory)
    for store in ("codecs-2", "codecs-3", "sharded"):
        source = {"kind": "zarr", "href": f"{directory.as_uri()}/{store}.zarr"}
        (cubes / f"{store}.yaml").write_text(yaml.safe_dump({"id": store, "source": source}))
    return configuration
