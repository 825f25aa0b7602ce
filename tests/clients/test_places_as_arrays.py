"""Cubes over the poles and across the antimeridian, as clients of arrays read them: warped, they are what GDAL makes of the granules."""

import dataclasses
import json
import warnings

import netCDF4
import numpy as np
import pytest
import rasterio.crs
import xarray as xr
from pydap.client import open_url
from pyproj import CRS
from rasterio.transform import Affine
from tests.clients.netcdf_programs import run
from tests.clients.places import FILL, Place
from tests.clients.programs import ZARR2, needs, needs_program

# each in degrees and in the Arctic's or Antarctic's metres: CRS and west, south, east, north
MAPS = {
    "pole": [("EPSG:4326", (-180, 62, 180, 90)), ("EPSG:3995", (-2.6e6, -2.6e6, 2.6e6, 2.6e6))],
    "south": [("EPSG:4326", (-180, -90, 180, -62)), ("EPSG:3031", (-2.6e6, -1.6e6, 2.6e6, 1.6e6))],
    "seam": [("EPSG:4326", (169, 57, 191, 71)), ("EPSG:3995", (-1.2e6, 2.0e6, 1.0e6, 3.8e6))],
    "aleutians": [("EPSG:4326", (-180, 51, -177, 53)), ("EPSG:3995", (-1.2e5, 4.2e6, 1.2e5, 4.4e6))],
}
CASES = [pytest.param((name, *each), id=f"{name}-{each[0]}") for name in MAPS for each in MAPS[name]]
WIDTH, HEIGHT = 320, 240
DATE = 1


@dataclasses.dataclass(frozen=True)
class Read(Place):
    """What a client has read, warped as the granules of a place are."""

    layer: np.ndarray = None

    def values(self, date):
        return np.asarray(self.layer, "f4")


def placed(x, y, layer, attributes):
    """Place a client's array by its own coordinates and grid mapping, and by nothing else."""
    step_x, step_y = (x[-1] - x[0]) / (x.size - 1), (y[-1] - y[0]) / (y.size - 1)
    transform = Affine(step_x, 0, x[0] - step_x / 2, 0, step_y, y[0] - step_y / 2)
    crs = rasterio.crs.CRS.from_wkt(CRS.from_cf(attributes).to_wkt())
    return Read("read", crs, transform, (), np.ma.filled(layer, np.nan))


def axes(names):
    return ("lon", "lat") if "lon" in names else ("x", "y")


def of_file(file, date):
    with netCDF4.Dataset(file) as opened:
        x, y = axes(opened.variables)
        mapping = opened[opened["v"].grid_mapping]
        attributes = {key: mapping.getncattr(key) for key in mapping.ncattrs()}
        return placed(opened[x][:].data, opened[y][:].data, opened["v"][date], attributes)


def by_netcdf4(address, place, directory):
    return of_file(address, DATE)


def by_parameters(address, place, directory):
    """As clients that know no WKT do: by the parameters that CF names."""
    with netCDF4.Dataset(address) as opened:
        mapping = opened[opened["v"].grid_mapping]
        attributes = {key: mapping.getncattr(key) for key in mapping.ncattrs() if key != "crs_wkt"}
        x, y = axes(opened.variables)
        return placed(opened[x][:].data, opened[y][:].data, opened["v"][DATE], attributes)


def by_xarray(address, place, directory):
    with xr.open_dataset(address, engine="netcdf4", decode_coords="all") as opened:
        x, y = axes(opened.variables)
        layer = opened["v"].isel(time=DATE)
        mapping = opened[layer.encoding["grid_mapping"]]
        return placed(layer[x].to_numpy(), layer[y].to_numpy(), layer.to_numpy(), mapping.attrs)


def by_pydap(address, place, directory):
    with warnings.catch_warnings(action="ignore"):
        opened = open_url(address, protocol="dap2")
    x, y = axes(opened)
    layer = np.asarray(opened["v"].array[DATE].data)[0]
    attributes = {
        key: value.replace('\\"', '"') if isinstance(value, str) else value
        for key, value in opened[opened["v"].attributes["grid_mapping"]].attributes.items()
    }
    layer = np.where(layer == FILL, np.float32(np.nan), layer)
    return placed(np.asarray(opened[x].data[:]), np.asarray(opened[y].data[:]), layer, attributes)


def by_ncks(address, place, directory):
    run("ncks", "-O", "-v", "v,mapping", "-d", f"time,{DATE}", address, "date.nc", cwd=directory)
    return of_file(directory / "date.nc", 0)


def by_cdo(address, place, directory):
    run("cdo", "-s", f"-seltimestep,{DATE + 1}", "-selname,v", address, "date.nc", cwd=directory)
    return of_file(directory / "date.nc", 0)


def by_subset(address, place, directory):
    """The NetCDF file of `/subset`."""
    box = ",".join(map(str, place.bounds))
    asked = f"subset?bbox={box}&bbox-crs=native&variables=v&f=netcdf"
    run("curl", "-fsSg", "-o", "subset.nc", f"{address.removesuffix('opendap')}{asked}", cwd=directory)
    return of_file(directory / "subset.nc", DATE)


def by_zarr(address, place, directory):
    with xr.open_zarr(f"{address.removesuffix('opendap')}zarr", zarr_format=2, decode_coords="all") as opened:
        x, y = axes(opened.variables)
        layer = opened["v"].isel(time=DATE)
        return placed(layer[x].to_numpy(), layer[y].to_numpy(), layer.to_numpy(), opened["mapping"].attrs)


ZARR2_SCRIPT = """
import json, sys
import numpy, xarray
opened = xarray.open_zarr(sys.argv[1]).isel(time=int(sys.argv[2]))
x, y = ("lon", "lat") if "lon" in opened.variables else ("x", "y")
numpy.savez("date.npz", x=opened[x], y=opened[y], layer=opened["v"])
print(json.dumps(opened["mapping"].attrs))
"""


def by_zarr2(address, place, directory):
    """As zarr-python 2 does, and xarray of its time."""
    printed = run(
        ZARR2, "-c", ZARR2_SCRIPT, f"{address.removesuffix('opendap')}zarr", str(DATE), cwd=directory
    )
    read = np.load(directory / "date.npz")
    return placed(read["x"], read["y"], read["layer"], json.loads(printed))


CLIENTS = [
    by_zarr, pytest.param(by_zarr2, marks=needs("zarr 2", ZARR2.exists())), by_netcdf4, by_parameters, by_xarray, by_pydap, by_subset,
    pytest.param(by_ncks, marks=needs_program("ncks")), pytest.param(by_cdo, marks=needs_program("cdo")),
]  # fmt: skip


@pytest.fixture(params=CLIENTS)
def read(request, places, places_url, tmp_path):
    """Returns what one of the clients reads of a place."""
    return lambda name: request.param(f"{places_url}/datasets/{name}/opendap", places[name], tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_what_a_client_reads_lies_where_gdal_puts_the_granule(places, compared, read, case):
    name, crs, bounds = case
    expected = places[name].warped(DATE, crs, bounds, WIDTH, HEIGHT)
    # nothing is compared with an empty map
    assert np.isfinite(expected).mean() > 0.1
    assert np.unique(expected[np.isfinite(expected)]).size > 100
    found = read(name).warped(DATE, crs, bounds, WIDTH, HEIGHT)
    np.testing.assert_array_equal(found, expected)
    compared(found)
