"""Small cubes in the form of ITS_LIVE v2, and catalogs of them."""

import json
from contextlib import contextmanager

import numpy as np
import pyproj
import xarray as xr
from numcodecs import Blosc
from tests.http_server import running_application

SIZE, PIXEL, COUNT, FILL = 20, 5_000.0, 37, -32767
AMAZON = "http://its-live-data.s3.amazonaws.com"


def cube_name(epsg, left, bottom):
    """The name of the cube of 100 km whose lower left corner is given, as ITS_LIVE has it."""
    return f"ITS_LIVE_vel_EPSG{epsg}_G0120_X{left + 50_000}_Y{bottom + 50_000}"


def write_cube(path, epsg, left, bottom, *, mapping=True, drop=(), pairs=None):
    """Write a cube of 100 km: dates that are unsorted and shared by pairs, chunks long in time.

    `pairs` are the real dates, velocities and satellites of one place, for all its cells.
    """
    rng = np.random.default_rng([epsg, left % 2**31, bottom % 2**31])
    mid = rng.uniform(16_436.0, 19_723.0, COUNT)
    mid[20:25] = mid[:5]
    values = {name: rng.integers(-500, 9_000, (COUNT, SIZE, SIZE)).astype("i2") for name in ("v", "vx", "vy")}
    for array in values.values():
        array[rng.random(array.shape) < 0.3] = FILL
    satellites = rng.choice(["1A", "2B", "8"], COUNT)
    if pairs is not None:
        times, velocities, satellites = pairs
        mid = times.astype("M8[ns]").astype("i8")
        values = {
            name: np.broadcast_to(velocities[name][:, None, None], (len(mid), SIZE, SIZE)) for name in values
        }
    count, unit = len(mid), "days" if pairs is None else "nanoseconds"
    wkt = pyproj.CRS.from_epsg(epsg).to_wkt("WKT1_GDAL")
    dataset = xr.Dataset(
        {
            **{
                name: (
                    ("mid_date", "y", "x"),
                    array,
                    {"units": "meter/year", **({"grid_mapping": "mapping"} if mapping else {})},
                )
                for name, array in values.items()
            },
            "v_error": ("mid_date", rng.uniform(10, 90, count).astype("f4"), {"units": "meter/year"}),
            "date_dt": ("mid_date", rng.choice([6.0, 16.0, 64.0], count), {"units": "days"}),
            "acquisition_date_img1": ("mid_date", mid - 8, {"units": f"{unit} since 1970-01-01"}),
            "satellite_img1": ("mid_date", satellites.astype(object), {}),
            "mission_img1": ("mid_date", rng.choice(["S", "L"], count).astype("<U1"), {}),
            "granule_url": (
                "mid_date",
                np.array([f"https://example.org/{n}.nc" for n in range(count)]).astype(object),
                {},
            ),
        },
        coords={
            "mid_date": (
                "mid_date",
                mid,
                {
                    "standard_name": "image_pair_center_date_with_time_separation",
                    "units": f"{unit} since 1970-01-01",
                    "calendar": "proleptic_gregorian",
                },
            ),
            "y": (
                "y",
                bottom + PIXEL * (SIZE - 0.5 - np.arange(SIZE)),
                {"standard_name": "projection_y_coordinate", "units": "m"},
            ),
            "x": (
                "x",
                left + PIXEL * (np.arange(SIZE) + 0.5),
                {"standard_name": "projection_x_coordinate", "units": "m"},
            ),
        },
        attrs={"Conventions": "CF-1.8", "projection": str(epsg), "GDAL_AREA_OR_POINT": "Area"},
    )
    if mapping:
        attributes = {"crs_wkt": wkt, "spatial_ref": wkt, "spatial_epsg": epsg}
        dataset["mapping"] = ((), np.array("", dtype="<U1"), attributes)
    blosc = Blosc(cname="zlib", clevel=2, shuffle=Blosc.SHUFFLE)
    gridded = {"chunks": (30, 10, 10), "compressors": blosc}
    dataset = dataset.drop_vars(drop)
    encoding = {name: {**gridded, "_FillValue": FILL} for name in values}
    encoding["mid_date"] = {"chunks": (count,), "compressors": blosc, "_FillValue": None}
    encoding = {name: options for name, options in encoding.items() if name in dataset}
    dataset.to_zarr(path, mode="w-", zarr_format=2, consolidated=True, encoding=encoding)


def square(left, bottom, size=100_000):
    """The ring of a square, closed."""
    right, top = left + size, bottom + size
    return [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]


def in_degrees(epsg, ring):
    """A ring of EPSG:`epsg` in longitudes and latitudes, rounded as in the catalog."""
    transform = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform
    return [[round(degrees, 6) for degrees in transform(x, y)] for x, y in ring]


def feature(code, left, bottom, /, *, base=AMAZON, folder="v2", url=None, **properties):
    """The entry of a cube, as catalog_v02.json has it; properties that are None are left out."""
    ring = square(left, bottom)
    known = {
        "fill-opacity": 0.98,
        "fill": "red",
        "roi_percent_coverage": 1.51,
        "geometry_epsg": {"type": "Polygon", "coordinates": [ring]},
        "datacube_exist": 1,
        "zarr_url": url or f"{base}/datacubes/{folder}/S50W070/{cube_name(code, left, bottom)}.zarr",
        "epsg": code,
        **properties,
    }
    return {
        "type": "Feature",
        "properties": {key: value for key, value in known.items() if value is not None},
        "geometry": {"type": "Polygon", "coordinates": [in_degrees(code, ring)]},
    }


def catalog(*features):
    """A catalog, as bytes."""
    return json.dumps(
        {"type": "FeatureCollection", "name": "catalog_v02", "features": list(features)}
    ).encode()


@contextmanager
def running_web(answer):
    """Serve what `answer(request)` returns while the context lasts; gives the URL."""
    with running_application(GET=[("/{path:.*}", answer)]) as url:
        yield url
