"""GDAL's tools read the demo's cubes in each form: values, missing ones, places, dates and units."""

import json
import re

import h5py
import numpy as np
import pytest
import rasterio.crs
from tests.clients.gdal_tools import NEEDS_GDAL, describe, filled, run, subdatasets, translate

pytestmark = NEEDS_GDAL

# what is read of each band: rows, columns, and GDAL's options for them
WINDOW = slice(100, 112), slice(20, 160)
OPTIONS = ("-srcwin", "20", "100", "140", "12")
# of the dates, which are read
FIRST, LAST = 10, 12
NANOSECONDS = {"days": 86_400_000_000_000, "seconds": 1_000_000_000, "nanoseconds": 1}
VARIABLES = [
    ("opera-f11116", "displacement", "m"),
    ("opera-f11116", "recommended_mask", "1"),
    ("opera-f11116", "connected_component_labels", "1"),
    ("its-live", "v", "meter/year"),
    ("its-live", "interp_mask", "binary"),
]


class Opera:
    """A variable of the demo's granules: CRS, x and y of cell centres, and dates; `fill` stands for missing."""

    crs = "EPSG:32611"

    def __init__(self, demo, variable):
        self.x, self.y, self.dates = demo.x, demo.y, np.array(demo.dates(), "M8[ns]")
        self._granules, self._variable = demo.granules, variable
        with h5py.File(demo.granules[0]) as file:
            self.fill = file[variable].attrs["_FillValue"][0]

    def raw(self, date):
        with h5py.File(self._granules[date]) as file:
            return file[self._variable][WINDOW]


class Ice:
    """A variable of the demo's Zarr store, as `Opera`; its dates are in no order."""

    crs = "EPSG:3413"

    def __init__(self, demo, variable):
        store = demo.ice()
        self.x, self.y, self._array = store["x"][:], store["y"][:], store[variable]
        self.dates = instants(store["mid_date"][:], "days since 1970-01-01")
        self.fill = self._array.fill_value

    def raw(self, date):
        return self._array[date, *WINDOW]


def instants(numbers, units):
    """CF times, as numbers or as texts of them, without other libraries."""
    unit, origin = re.fullmatch(r"(\w+) since ([0-9-]+)(?: 00:00:00)?", units).groups()
    whole = [int(each) if re.fullmatch(r"-?\d+", str(each)) else float(each) for each in numbers]
    return np.array(
        [
            np.datetime64(origin, "ns") + np.timedelta64(round(each * NANOSECONDS[unit]), "ns")
            for each in whole
        ]
    )


def times_of(name, raster, folder):
    """The times that GDAL shows of the bands of a subset or of DAP."""
    tags = raster.tags
    if "time" in tags[0]:
        assert all(tag["time"] in band for tag, band in zip(tags, raster.bands, strict=True))
        return np.array([tag["time"].removesuffix("Z") for tag in tags], "M8[ns]")
    (key,) = [key for key in tags[0] if key.startswith("NETCDF_DIM_")]
    units = describe(name, folder)["metadata"][""][f"{key.removeprefix('NETCDF_DIM_')}#units"]
    return instants([tag[key] for tag in tags], units)


@pytest.fixture
def truth(demo_cubes, id_, variable):
    return (Ice if id_ == "its-live" else Opera)(demo_cubes, variable)


def check(raster, truth, dates):
    """Compare bands with the granules; returns the values, NaN where they are missing."""
    assert raster.crs == rasterio.crs.CRS.from_user_input(truth.crs)
    across, down = truth.x[1] - truth.x[0], truth.y[1] - truth.y[0]
    corner = truth.x[WINDOW[1].start] - across / 2, truth.y[WINDOW[0].start] - down / 2
    np.testing.assert_allclose(raster.transform[:6], (across, 0, corner[0], 0, down, corner[1]), rtol=1e-12)
    raw = np.stack([truth.raw(date) for date in dates])
    if truth.fill is not None:
        np.testing.assert_equal(raster.nodata, float(truth.fill))
    expected = raw.astype(float) if truth.fill is None else np.where(raw == truth.fill, np.nan, raw)
    np.testing.assert_array_equal(filled(raster), expected)
    # labels and masks may all be alike
    assert len(np.unique(expected)) > 100 or raw.dtype.kind == "u"
    return expected


@pytest.mark.parametrize("form", ["geotiff", "netcdf", "dap"])
@pytest.mark.parametrize(("id_", "variable", "units"), VARIABLES)
def test_bands_at_dates(*, demo_url, tmp_path, compared, truth, id_, variable, units, form):
    cube = f"{demo_url}/datasets/{id_}"
    dates = np.argsort(truth.dates, kind="stable")[FIRST : LAST + 1]
    asked = "/".join(
        str(truth.dates[date].astype("M8[s]") + end) for date, end in zip(dates[[0, -1]], (0, 1), strict=True)
    )
    subset = f"/vsicurl/{cube}/subset?variables={variable}&datetime={asked}&f={form}"
    name, options = {
        "geotiff": (subset, ()),
        "netcdf": (f'NETCDF:"{subset}":{variable}', ()),
        "dap": (
            f'NETCDF:"{cube}/opendap":{variable}',
            [word for date in dates for word in ("-b", str(date + 1))],
        ),
    }[form]
    raster = translate(name, *options, *OPTIONS, cwd=tmp_path)
    compared(check(raster, truth, dates))
    aside = times_of(name, raster, tmp_path) - truth.dates[dates]
    assert (abs(aside) <= np.timedelta64(2, "us")).all(), aside
    assert {band["unit"] for band in describe(name, tmp_path)["bands"]} == {units}


@pytest.mark.parametrize(("id_", "variable", "units"), VARIABLES)
def test_zarr_plain_by_date(*, demo_url, tmp_path, compared, truth, id_, variable, units):
    whole = f'ZARR:"/vsicurl/{demo_url}/datasets/{id_}/zarr-plain"'
    for date in (0, LAST):
        name = f"{whole}:/{variable}:{date}"
        compared(check(translate(name, *OPTIONS, cwd=tmp_path), truth, [date]))
        assert describe(name, tmp_path)["bands"][0]["unit"] == units
    time = "mid_date" if id_ == "its-live" else "time"
    said = json.loads(run("gdalmdiminfo", "-detailed", "-array", time, whole, cwd=tmp_path))
    np.testing.assert_array_equal(instants(said["values"], said["unit"]), truth.dates)


def test_containers_list_their_variables(demo_url, tmp_path):
    drawn = {"displacement", "temporal_coherence", "recommended_mask", "connected_component_labels", "short_wavelength_displacement"}  # fmt: skip
    cube = f"{demo_url}/datasets/opera-f11116"
    for container in (f'NETCDF:"{cube}/opendap"', f'ZARR:"/vsicurl/{cube}/zarr-plain"'):
        assert drawn <= {re.split("[:/]", name)[-1] for name in subdatasets(container, tmp_path)}
