"""QGIS reads XYZ tiles, GeoTIFFs, NetCDF, decoded Zarr and GeoJSON: in the right place and with the granules' values."""

import json
import re
from urllib.parse import quote
from urllib.request import urlopen, urlretrieve

import numpy as np
import pyproj
import pytest
from tests.clients.places import DATES
from tests.clients.qgis_process import (
    NEEDS_QGIS,
    STYLE,
    ask,
    check_map,
    draw,
    xyz,
)
from tests.clients.screens import HALF

pytestmark = NEEDS_QGIS

NAMES = ("pole", "south", "seam", "aleutians")


def tile_view(zoom, x, y, across, down):
    """The box of some tiles, whose pixels are the map's."""
    side = 2 * HALF / 2**zoom
    return x * side - HALF, HALF - (y + down) * side, (x + across) * side - HALF, HALF - y * side


# place, zoom, first column and row, columns and rows. QGIS ends XYZ layers at the antimeridian, and these are
# views to which no rounding in QGIS adds a pixel
TILES = [
    ("pole", 1, 0, 0, 2, 1),
    ("pole", 3, 4, 0, 3, 2),
    ("pole", 3, 0, 1, 3, 2),
    ("south", 3, 4, 6, 3, 2),
    ("seam", 4, 0, 3, 1, 2),
    ("seam", 4, 15, 3, 1, 2),
    ("seam", 5, 0, 7, 2, 3),
    ("seam", 6, 62, 15, 2, 2),
    ("aleutians", 8, 254, 83, 2, 2),
    ("aleutians", 8, 0, 84, 2, 2),
]


def test_xyz_tiles(places, places_url, tmp_path, compared):
    tasks, frames = [], []
    for number, (name, zoom, x, y, across, down) in enumerate(TILES):
        date = number % len(DATES)
        query = f"variables=v&datetime={np.datetime_as_string(DATES[date], 'D')}&{STYLE}"
        with urlopen(f"{places_url}/datasets/{name}/tilejson.json?{query}") as answer:  # noqa: S310 - loopback
            described = json.load(answer)
        assert described["minzoom"] <= zoom <= described["maxzoom"]
        source = xyz(described["tiles"][0], described["minzoom"], described["maxzoom"])
        bounds = tile_view(zoom, x, y, across, down)
        tasks.append(draw(source, "EPSG:3857", bounds, (256 * across, 256 * down)))
        frames.append((places[name], date, ("EPSG:3857", bounds)))
    for answer, frame in zip(ask(tmp_path, *tasks), frames, strict=True):
        check_map(answer, *frame, compared)


def check_raster(answer, place, box, bands):
    """Where a layer says that it is, in cells (first row, last row, first column, last column), and what it holds."""
    top, bottom, left, right = box
    west, north = place.transform @ (left, top)
    east, south = place.transform @ (right, bottom)
    assert answer["crs"] == place.crs
    np.testing.assert_allclose(answer["extent"], [west, south, east, north], rtol=1e-12)
    assert answer["size"] == [right - left, bottom - top]
    assert answer["bands"][0] == bands


def check_values(answer, place, date, box, compared):
    top, bottom, left, right = box
    expected = place.values(date)[top:bottom, left:right]
    assert answer["error"] == ""
    np.testing.assert_array_equal(answer["missing"], np.isnan(expected))
    values = np.where(answer["missing"], np.nan, answer["values"])
    np.testing.assert_array_equal(values, expected)
    compared(expected)


WHOLE = (0, 120, 0, 200)
# a part of each place, in its cells: around the pole, and around the antimeridian
PARTS = {
    "pole": (40, 80, 60, 140),
    "south": (40, 80, 60, 140),
    "seam": (5, 45, 70, 130),
    "aleutians": (5, 60, 10, 190),
}


def subset(url, place, box, output_format):
    """The address of a part of a place, given by a box in its own CRS."""
    top, bottom, left, right = box
    west, north = place.transform @ (left, top)
    east, south = place.transform @ (right, bottom)
    return (
        f"{url}/datasets/{place.id}/subset?variables=v&f={output_format}&bbox-crs=native"
        f"&bbox={west:.6f},{south:.6f},{east:.6f},{north:.6f}"
    )


@pytest.mark.parametrize("remote", [True, False], ids=["vsicurl", "downloaded"])
def test_geotiff_subsets(places, places_url, tmp_path, compared, remote):
    tasks = []
    for name in NAMES:
        address = subset(places_url, places[name], PARTS[name], "geotiff")
        if remote:
            source = [f"/vsicurl/{address}", "gdal"]
        else:
            urlretrieve(address, tmp_path / f"{name}.tif")  # noqa: S310 - loopback
            source = [str(tmp_path / f"{name}.tif"), "gdal"]
        tasks.append({"do": "describe", "source": source})
        tasks += [{"do": "block", "source": source, "band": date + 1} for date in range(len(DATES))]
    answers = iter(ask(tmp_path, *tasks))
    for name in NAMES:
        described = next(answers)
        check_raster(described, places[name], PARTS[name], len(DATES))
        for title, date in zip(described["bands"][1:], DATES, strict=True):
            assert re.search(rf"\bv {date.astype('M8[D]')}", title)
        assert np.isnan(described["nodata"]).all()
        for date in range(len(DATES)):
            check_values(next(answers), places[name], date, PARTS[name], compared)


def test_a_box_in_degrees_across_the_antimeridian(places, places_url, tmp_path, compared):
    """A box whose west lies in the east; the layer goes on beyond 180."""
    place, part = places["seam"], (50, 100, 50, 150)
    address = f"{places_url}/datasets/seam/subset?variables=v&f=geotiff&bbox=175,60,-175,65"
    source = [f"/vsicurl/{address}", "gdal"]
    described, values = ask(
        tmp_path, {"do": "describe", "source": source}, {"do": "block", "source": source, "band": 2}
    )
    check_raster(described, place, part, len(DATES))
    check_values(values, place, 1, part, compared)


def test_netcdf_subsets(places, places_url, tmp_path, compared):
    sources = [
        [f'NETCDF:"/vsicurl/{subset(places_url, places[name], PARTS[name], "netcdf")}":v', "gdal"]
        for name in NAMES
    ]
    tasks = [
        task
        for source in sources
        for task in ({"do": "describe", "source": source}, {"do": "block", "source": source, "band": 3})
    ]
    answers = iter(ask(tmp_path, *tasks))
    for name in NAMES:
        check_raster(next(answers), places[name], PARTS[name], len(DATES))
        check_values(next(answers), places[name], 2, PARTS[name], compared)


def zarr_plain(url, cube, variable, date):
    return [f'ZARR:"/vsicurl/{url}/datasets/{cube}/zarr-plain":/{variable}:{date}', "gdal"]


def both(source):
    return {"do": "describe", "source": source}, {"do": "block", "source": source, "band": 1}


def test_zarr_plain_of_the_places(places, places_url, tmp_path, compared):
    tasks = [task for name in NAMES for task in both(zarr_plain(places_url, name, "v", 1))]
    answers = iter(ask(tmp_path, *tasks))
    for name in NAMES:
        described = next(answers)
        check_raster(described, places[name], WHOLE, 1)
        assert described["nodata"] == [-9999]
        check_values(next(answers), places[name], 1, WHOLE, compared)


def test_zarr_plain_as_the_user_guide_says(demo_cubes, demo_url, tmp_path, compared):
    described, values = ask(tmp_path, *both(zarr_plain(demo_url, "opera-f11116", "displacement", 23)))
    assert (described["crs"], described["size"]) == ("EPSG:32611", [1000, 740])
    np.testing.assert_allclose(described["extent"], [375_000, 3_762_810, 405_000, 3_785_010], rtol=1e-12)
    expected = demo_cubes.displacement(23)
    np.testing.assert_array_equal(values["missing"], np.isnan(expected))
    np.testing.assert_array_equal(values["values"], expected)
    compared(expected)


def geojson(url, path, **query):
    asked = "&".join(
        f"{name.replace('_', '-')}={quote(str(text), safe=',:/')}" for name, text in query.items()
    )
    return f"/vsicurl/{url}/{path}?{asked}&f=geojson"


def degrees(place, rows, columns):
    """Longitudes, -180 to 180, and latitudes of the centres of cells."""
    x, y = place.transform @ (np.asarray(columns) + 0.5, np.asarray(rows) + 0.5)
    lon, lat = pyproj.Transformer.from_crs(place.crs, 4326, always_xy=True).transform(x, y)
    return (lon + 180) % 360 - 180, lat


POINT = re.compile(r"Point \((\S+) (\S+)\)")


def check_features(answer, place, cells, dates, compared):
    """A feature for each cell and date, in this order, at the centre of its cell and with its value."""
    assert answer["crs"] == "EPSG:4326"
    assert {name: answer["fields"][name] for name in ("datetime", "v")} == {
        "datetime": "DateTime",
        "v": "Real",
    }
    names = list(answer["fields"])
    lon, lat = degrees(place, *zip(*cells, strict=True))
    expected = [(number, date) for number in range(len(cells)) for date in dates]
    assert len(answer["features"]) == len(expected)
    for feature, (number, date) in zip(answer["features"], expected, strict=True):
        x, y = map(float, POINT.fullmatch(feature["wkt"]).groups())
        assert (x, y) == pytest.approx((lon[number], lat[number]), abs=1e-7)
        values = dict(zip(names, feature["values"], strict=True))
        truth = place.values(date)[cells[number]]
        assert values["v"] == (None if np.isnan(truth) else truth)
        assert values["datetime"] == f"{np.datetime_as_string(DATES[date], 'ms')}"
        compared(truth)


# cells of each place: near its edge, missing, beside its middle (the pole, or 180 degrees)
CELLS = [(0, 0), (12, 22), (60, 99), (60, 101), (119, 199)]


def test_geojson_of_positions(places, places_url, tmp_path, compared):
    addresses = []
    for name in NAMES:
        points = ",".join(
            f"({lon:.7f} {lat:.7f})" for lon, lat in zip(*degrees(places[name], *zip(*CELLS, strict=True)), strict=True)
        )  # fmt: skip
        addresses.append(
            geojson(
                places_url,
                f"edr/collections/{name}/position",
                coords=f"MULTIPOINT({points})",
                parameter_name="v",
            )
        )
    answers = ask(tmp_path, *({"do": "features", "address": address} for address in addresses))
    for name, answer in zip(NAMES, answers, strict=True):
        check_features(answer, places[name], CELLS, range(len(DATES)), compared)


def test_geojson_of_a_series(places, places_url, tmp_path, compared):
    (lon,), (lat,) = degrees(places["aleutians"], [30], [98])
    address = geojson(places_url, "datasets/aleutians/timeseries", lon=lon, lat=lat, variables="v")
    (answer,) = ask(tmp_path, {"do": "features", "address": address})
    check_features(answer, places["aleutians"], [(30, 98)], range(len(DATES)), compared)


def test_geojson_of_a_trajectory_across_the_antimeridian(places, places_url, tmp_path, compared):
    # along the middle of a row of cells, from 179.25 to 180.75 degrees
    cells = [(99, column) for column in range(92, 108)]
    address = geojson(
        places_url, "edr/collections/seam/trajectory", coords="LINESTRING(179.25 60.05,180.75 60.05)",
        parameter_name="v", datetime="2020-01-15",
    )  # fmt: skip
    (answer,) = ask(tmp_path, {"do": "features", "address": address})
    check_features(answer, places["seam"], cells, [1], compared)
    longitudes = [float(POINT.fullmatch(feature["wkt"])[1]) for feature in answer["features"]]
    assert (longitudes[0], longitudes[-1]) == pytest.approx((179.25, -179.25))


def test_coveragejson_is_not_for_qgis(places_url, tmp_path):
    address = f"/vsicurl/{places_url}/edr/collections/pole/position?coords=POINT(0%2089)&f=covjson"
    (answer,) = ask(tmp_path, {"do": "features", "address": address})
    assert "refused" in answer or answer["features"] == []
