"""Random cubes, read over HTTP and by xarray alone: every address gives the same values.

A seed makes one netCDF or Zarr file of random types, byte orders, chunks, filters, fills, scales,
calendars and axes; parts of it may be unallocated.
"""

import gc
import io
import itertools
import json
import warnings
from types import SimpleNamespace

import h5py
import netCDF4
import numcodecs
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
import yaml
import zarr
from pyproj import CRS, Transformer
from zarr.codecs import BytesCodec, TransposeCodec, ZstdCodec

from cubegate.app import create_app
from cubegate.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore:variable .* has multiple fill values")

NETCDF, ZARR = range(8), range(100, 107)
GRIDS = {
    "EPSG:32611": (400_015.0, 30.0, 3_900_000.0),
    "EPSG:3413": (-250_000.0, 1_000.0, -2_000_000.0),
    "EPSG:3031": (1_200_000.0, 500.0, 800_000.0),
    "EPSG:4326": (-20.0, 0.25, 50.0),
}
UNITS = (
    ("days since 2001-01-01", 1), ("hours since 1900-01-01", 24), ("seconds since 1970-01-01", 86_400),
    ("minutes since 2000-01-01 06:30", 1_440),
)  # fmt: skip
CALENDARS = ("standard", "standard", "noleap", "360_day")
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8")


def _pick(random, choices):
    return choices[int(random.integers(len(choices)))]


def _axes(random):
    """The CRS, the names and values of x and y, with their attributes."""
    crs = _pick(random, tuple(GRIDS))
    west, cell, north = GRIDS[crs]
    x, y = west + cell * np.arange(random.integers(6, 30)), north - cell * np.arange(random.integers(6, 30))
    y = y[::-1] if random.random() < 0.5 else y
    if crs == "EPSG:4326":
        return crs, {"lon": (x, {"units": "degrees_east"}), "lat": (y, {"units": "degrees_north"})}
    metres = {"units": "m"}
    return crs, {
        "x": (x, {"standard_name": "projection_x_coordinate", **metres}),
        "y": (y, {"standard_name": "projection_y_coordinate", **metres}),
    }


def _times(random):
    """Encoded times, maybe unsorted and with a duplicate, and their attributes."""
    units, per_day = _pick(random, UNITS)
    days = 12_000 + np.cumsum(random.integers(1, 30, random.integers(2, 7)))
    if random.random() < 0.5:
        days = random.permutation(days)
        days[0] = days[-1]
    return (days * per_day).astype(_pick(random, ("i8", "f8"))), {
        "units": units,
        "calendar": _pick(random, CALENDARS),
    }


def _fill(random, dtype):
    if random.random() < 0.4:
        return None
    if dtype.kind == "f":
        return dtype.type(_pick(random, (0, np.nan, -9999)))
    return dtype.type(_pick(random, (0, np.iinfo(dtype).max, max(np.iinfo(dtype).min, -32767))))


def _values(random, dtype, shape, fill):
    if dtype.kind == "f":
        values = random.standard_normal(shape).astype(dtype)
        values[random.random(shape) < 0.1] = np.nan
    else:
        values = random.integers(0 if dtype.kind == "u" else -120, 120, shape).astype(dtype)
    values[random.random(shape) < 0.2] = 0
    if fill is not None:
        values[random.random(shape) < 0.1] = fill
    return values


def _attributes(random, dtype):
    found = {"grid_mapping": "crs", "units": "m"}
    if dtype.kind in "iu" and random.random() < 0.3:
        found |= {"scale_factor": 0.1, "add_offset": 273.15}
    if random.random() < 0.3:
        found["missing_value"] = dtype.type(7)
    if random.random() < 0.3:
        found["valid_min"] = dtype.type(0)
    return found


def _part(random, shape):
    """What of an array is written: all of it, or all times of a corner."""
    if random.random() < 0.5:
        return ...
    return (slice(None), *(slice(0, max(1, size // 2)) for size in shape[1:]))


def write_netcdf(random, path):
    crs, axes = _axes(random)
    times, about = _times(random)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", len(times)), ("letter", 3), *((n, len(v)) for n, (v, _) in axes.items())):
            file.createDimension(name, size)
        for name, (values, attributes) in {"time": (times, about), **axes}.items():
            variable = file.createVariable(name, values.dtype, (name,))
            variable[:] = values
            variable.setncatts(attributes)
        file.createVariable("crs", "i4", ()).setncatts(CRS.from_user_input(crs).to_cf())
        letters = file.createVariable("orbit", "S1", ("time", "letter"))
        letters[:] = netCDF4.stringtochar(np.array(["asc"] * len(times), "S3"))
        dims = ("time", *reversed(axes))
        for number in range(3):
            dtype = np.dtype(_pick(random, TYPES))
            fill, shape = _fill(random, dtype), tuple(len(file.dimensions[dim]) for dim in dims)
            variable = file.createVariable(
                f"v{number}", dtype, dims, fill_value=fill, endian=_pick(random, ("little", "big")),
                chunksizes=[int(random.integers(1, size + 1)) for size in shape],
                **_pick(random, ({"zlib": True, "shuffle": True}, {"zlib": True, "shuffle": False}, {})),
            )  # fmt: skip
            variable.set_auto_maskandscale(False)
            variable.setncatts(_attributes(random, dtype))
            part = _part(random, shape)
            variable[part] = _values(random, dtype, shape, fill)[part]
    with h5py.File(path, "a") as file:
        # unallocated chunks hold what is not declared missing
        bare = file.create_dataset("bare", shape, "i2", chunks=(1, 3, 3), fillvalue=_pick(random, (0, 5)))
        bare[:, : shape[1] // 2] = random.integers(-1, 2, (shape[0], shape[1] // 2, shape[2]))
        for axis, dim in enumerate(dims):
            bare.dims[axis].attach_scale(file[dim])
    return crs


def write_zarr(random, path):
    crs, axes = _axes(random)
    times, about = _times(random)
    version = int(_pick(random, (2, 3)))
    root = zarr.open_group(path, mode="w", zarr_format=version)

    def create(name, dims, shape, dtype, attributes, **options):
        if version == 2:
            attributes = {**attributes, "_ARRAY_DIMENSIONS": list(dims)}
        else:
            options["dimension_names"] = dims
        options = {"fill_value": None if version == 2 else 0, "chunks": shape or "auto", **options}
        plain = {
            key: value.item() if isinstance(value, np.generic) else value for key, value in attributes.items()
        }
        return root.create_array(name, shape=shape, dtype=dtype, attributes=plain, **options)

    for name, (values, attributes) in {"time": (times, about), **axes}.items():
        create(name, (name,), values.shape, values.dtype, attributes)[:] = values
    create("crs", (), (), "i4", CRS.from_user_input(crs).to_cf())
    shape = (len(times), *(len(values) for values, _ in reversed(axes.values())))
    for number in range(3):
        dtype = np.dtype(_pick(random, TYPES))
        fill, swapped = _fill(random, dtype), random.random() < 0.4
        attributes = _attributes(random, dtype)
        chunks = tuple(int(random.integers(1, size + 1)) for size in shape)
        options = {"chunks": chunks}
        if version == 2:
            options["order"] = _pick(random, ("C", "F"))
            options["compressors"] = _pick(
                random, (None, numcodecs.Blosc("zstd", shuffle=2), numcodecs.Zlib())
            )
            options["fill_value"] = fill
            stored = dtype.newbyteorder(">") if swapped else dtype
        else:
            options["compressors"] = _pick(random, (None, ZstdCodec(level=1)))
            options["serializer"] = BytesCodec(endian="big" if swapped else "little")
            options["filters"] = _pick(random, (None, TransposeCodec(order=(2, 0, 1))))
            options["shards"] = _pick(random, (None, tuple(2 * chunk for chunk in chunks)))
            if fill is not None:
                attributes["_FillValue"] = xr.backends.zarr.FillValueCoder.encode(fill, dtype)
            stored = dtype
        array = create(f"v{number}", ("time", *reversed(axes)), shape, stored, attributes, **options)
        part = _part(random, shape)
        array[part] = _values(random, dtype, shape, fill)[part]
    return crs


def _make(seed, directory, scan_granule):
    """Write one cube; gives its source for a collection, and what xarray reads from it."""
    random = np.random.default_rng(seed)
    if seed in ZARR:
        path = directory / f"{seed}.zarr"
        crs = write_zarr(random, str(path))
        read = xr.open_zarr(path, chunks=None, consolidated=False).load()
        source = {"kind": "zarr", "href": path.as_uri()}
    else:
        path = directory / f"{seed}.nc"
        crs = write_netcdf(random, path)
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            read = opened.load()
        (directory / f"{seed}.json").write_text(json.dumps(scan_granule(path, inline_threshold=0)))
        source = {"kind": "kerchunk", "href": (directory / f"{seed}.json").as_uri()}
    return source, SimpleNamespace(seed=seed, crs=crs, read=read, random=random)


@pytest.fixture(scope="session")
def mounted(tmp_path_factory, scan_granule, running):
    """The address of a server over the cubes of all seeds, its client, and the cubes by seed."""
    directory = tmp_path_factory.mktemp("differential")
    (directory / "collections").mkdir()
    cubes = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in itertools.chain(NETCDF, ZARR):
            source, cubes[seed] = _make(seed, directory, scan_granule)
            file = directory / "collections" / f"{seed}.yaml"
            file.write_text(yaml.safe_dump({"id": f"c{seed}", "source": source}))
    (directory / "cubegate.yaml").write_text(yaml.safe_dump({"upstreams": {f"{directory.as_uri()}/": {}}}))
    with running(create_app(load_settings(directory / "cubegate.yaml", {}), {})) as client:
        yield client, cubes
    gc.collect()


def _sorted_by_time(dataset):
    return dataset.isel(time=np.argsort(dataset.time.to_numpy(), kind="stable"))


def _on_grid(cube):
    return [name for name, variable in cube.read.data_vars.items() if variable.ndim == 3]


def _names(cube):
    y, x = cube.read[_on_grid(cube)[0]].dims[1:]
    return x, y


def _same(found, expected):
    np.testing.assert_array_equal(np.asarray(found, expected.dtype), expected)


def _texts(dataset):
    times = dataset.time.to_numpy()
    if times.dtype.kind == "M":
        return [f"{text}Z" for text in np.datetime_as_string(times, "s").tolist()]
    return [f"{time.isoformat()}Z" for time in times]


def _table(response):
    assert response.status_code == 200, response.text
    return pd.read_csv(io.StringIO(response.text), comment="#")


@pytest.mark.parametrize("address", ["zarr", "zarr-plain"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("seed", [*NETCDF, *ZARR])
@pytest.mark.filterwarnings("ignore")
def test_zarr(mounted, seed, version, address):
    client, cubes = mounted
    url = f"{client.base_url}c{seed}/{address}"
    with xr.open_zarr(url, zarr_format=version, chunks=None, consolidated=version == 3) as found:
        served = set(found.variables)
        for name, expected in cubes[seed].read.variables.items():
            if name not in served:
                document = client.get(
                    f"c{seed}/{address}/{name}/{'.zarray' if version == 2 else 'zarr.json'}"
                )
                assert "has no form" in document.text
                continue
            _same(found.variables[name].to_numpy(), expected.to_numpy())


@pytest.mark.parametrize("seed", [*NETCDF, *ZARR])
def test_series(mounted, seed, tmp_path):
    client, cubes = mounted
    cube = cubes[seed]
    x, y = _names(cube)
    names, read = _on_grid(cube), _sorted_by_time(cube.read)
    pixel = read[names].isel({x: read.sizes[x] // 2, y: read.sizes[y] // 3})
    lon, lat = Transformer.from_crs(cube.crs, "OGC:CRS84", always_xy=True).transform(pixel[x], pixel[y])
    native = {"x": float(pixel[x]), "y": float(pixel[y])}
    table = _table(client.get(f"c{seed}/timeseries", params={**native, "f": "csv"}))
    assert table.time.tolist() == _texts(pixel)
    answer = client.get(f"c{seed}/timeseries", params={"lon": lon, "lat": lat}).json()
    assert answer["time"] == _texts(pixel)
    (tmp_path / "series.nc").write_bytes(
        client.get(f"c{seed}/timeseries", params={**native, "crs": cube.crs, "f": "netcdf"}).content
    )
    with xr.open_dataset(tmp_path / "series.nc") as document:
        for name in names:
            expected = pixel[name].to_numpy()
            _same(table[name], expected)
            _same([np.nan if v is None else v for v in answer["variables"][name]["values"]], expected)
            _same(document[name], expected)


@pytest.mark.parametrize("seed", [*NETCDF, *ZARR])
def test_points(mounted, seed):
    client, cubes = mounted
    cube = cubes[seed]
    x, y = _names(cube)
    read, random = _sorted_by_time(cube.read), np.random.default_rng(seed)
    columns, rows = random.integers(read.sizes[x], size=5), random.integers(read.sizes[y], size=5)
    places = zip(read[x].to_numpy()[columns], read[y].to_numpy()[rows], strict=True)
    body = "x,y\n" + "".join(f"{east!r},{north!r}\n" for east, north in np.array(list(places)).tolist())
    table = _table(
        client.post(f"c{seed}/timeseries?f=csv", content=body, headers={"Content-Type": "text/csv"})
    )
    for name in _on_grid(cube):
        expected = read[name].isel({x: xr.DataArray(columns, dims="p"), y: xr.DataArray(rows, dims="p")})
        _same(table[name], expected.transpose("p", "time").to_numpy().reshape(-1))


@pytest.mark.parametrize("seed", [*NETCDF, *ZARR])
def test_boxes(mounted, seed, tmp_path):
    client, cubes = mounted
    cube = cubes[seed]
    x, y = _names(cube)
    read = _sorted_by_time(cube.read)
    part = {x: slice(1, read.sizes[x] - 2), y: slice(2, read.sizes[y] - 1)}
    box = read.isel(part)
    cell = abs(float(read[x][1] - read[x][0])) / 4
    bounds = (box[x].min() - cell, box[y].min() - cell, box[x].max() + cell, box[y].max() + cell)
    asked = {"bbox": ",".join(str(float(bound)) for bound in bounds), "bbox-crs": "native"}
    times = _texts(read)
    asked["datetime"] = f"{times[0]}/{times[-2]}"
    box = box.isel(time=[time <= times[-2] for time in times])
    (tmp_path / "box.nc").write_bytes(client.get(f"c{seed}/subset", params=asked).content)
    with xr.open_dataset(tmp_path / "box.nc") as document:
        for name in _on_grid(cube):
            _same(document[name], box[name].to_numpy())
    table = _table(client.get(f"c{seed}/subset", params={**asked, "f": "csv"}))
    image = box.sortby(y, ascending=False)
    for name in _on_grid(cube):
        _same(table[name], box[name].to_numpy().reshape(-1))
        geotiff = client.get(f"c{seed}/subset", params={**asked, "f": "geotiff", "variables": name})
        with rasterio.MemoryFile(geotiff.content) as memory, memory.open() as file:
            bands = file.read(masked=True)
            floating = image[name].dtype.kind == "f"
            _same(bands.astype("f8").filled(np.nan) if floating else bands.data, image[name].to_numpy())


@pytest.mark.parametrize("seed", NETCDF)
def test_characters_beside_numbers(mounted, seed):
    client, cubes = mounted
    box = client.get(f"c{seed}/subset", params={"f": "csv", "variables": "v0,orbit"})
    assert set(_table(box).orbit) == {"asc"}
    x, y = _names(cubes[seed])
    point = {"x": float(cubes[seed].read[x][0]), "y": float(cubes[seed].read[y][0])}
    series = client.get(f"c{seed}/timeseries", params={"f": "csv", "variables": "orbit", **point})
    assert _table(series).orbit.tolist() == ["asc"] * cubes[seed].read.sizes["time"]
