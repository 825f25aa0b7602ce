"""EDR over the poles and across the antimeridian: every query in every format, against the granules that GDAL reads."""

import io
from itertools import pairwise

import httpx
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from pyproj import Transformer
from tests.clients.places import COLUMNS, DATES, ROWS, make_places

from cubegate.app import create_app
from cubegate.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
# around the pole of `pole` and of `south`; across 180 degrees in `seam`
BLOCK = slice(55, 66), slice(94, 107)
DATE = str(DATES[1])[:10]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    places, configuration = make_places(tmp_path_factory.mktemp("places"))
    (configuration.parent / "cubes" / "all.yaml").write_text(
        "id: all\nsource: {kind: combined, members: [seam, aleutians, pole]}\n"
    )
    return places, configuration


@pytest.fixture(scope="module")
def places(made):
    return made[0]


@pytest.fixture(scope="module")
def edr(made, serving):
    """`ask(path, status=200, **parameters)` below the collections; `_` in a name is `-`."""
    with serving(create_app(load_settings(made[1], {}), {})) as url, httpx.Client(timeout=60) as client:

        def ask(path, status=200, **asked):
            query = {name.replace("_", "-"): text for name, text in asked.items()}
            answer = client.get(f"{url}/edr/collections/{path}", params=query)
            assert answer.status_code == status, answer.text
            return answer

        yield ask


def axes(place):
    """x of the columns and y of the rows, in the cube's CRS."""
    across, down = np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5
    return (place.transform @ (across, 0 * across))[0], (place.transform @ (0 * down, down))[1]


def in_degrees(place, x, y):
    return Transformer.from_crs(place.crs, "OGC:CRS84", always_xy=True).transform(x, y)


def table(answer):
    return pd.read_csv(io.StringIO(answer.text), comment="#")


def covjson_values(found, name="v"):
    array = found["ranges"][name]
    return np.array([np.nan if each is None else each for each in array["values"]], "f4").reshape(
        array["shape"]
    )


def coverages(found):
    return found["coverages"] if found["type"] == "CoverageCollection" else [found]


READERS = {
    "CoverageJSON": lambda answer: np.concatenate(
        [covjson_values(each).ravel() for each in coverages(answer.json())]
    ),
    "GeoJSON": lambda answer: [each["properties"]["v"] for each in answer.json()["features"]],
    "CSV": lambda answer: table(answer).v,
    "NetCDF": lambda answer: xr.load_dataset(io.BytesIO(answer.content), engine="h5netcdf").v,
    "GeoTIFF": lambda answer: rasterio.open(io.BytesIO(answer.content)).read(),
    "Parquet": lambda answer: pd.read_parquet(io.BytesIO(answer.content)).v,
}


def sorted_values(values):
    flat = np.asarray(values, "f8").ravel()
    return np.sort(flat[~np.isnan(flat)]).astype("f4")


def geometry(kind, x, y):
    """A query for the cells whose centres are `x` and `y`: all of the block; its first row; two of its corners."""
    margin_x, margin_y = (abs(each[1] - each[0]) / 4 for each in (x, y))
    west, east, south, north = x[0] - margin_x, x[-1] + margin_x, y[-1] - margin_y, y[0] + margin_y
    ring = [(west, south), (east, south), (east, north), (west, north)]
    return {
        "position": {"coords": f"MULTIPOINT(({x[0]} {y[0]}),({x[-1]} {y[-1]}))"},
        "area": {"coords": shapely.Polygon(ring).wkt},
        "cube": {"bbox": f"{west},{south},{east},{north}"},
        "trajectory": {"coords": f"LINESTRING({x[0]} {y[0]},{x[-1]} {y[0]})"},
    }[kind]


def expected_of(kind, block):
    """Of a block (dates, rows, columns) the cells that `geometry` means."""
    if kind == "position":
        return block[:, [0, -1], [0, -1]]
    return block[:, 0] if kind == "trajectory" else block


@pytest.mark.parametrize("kind", ["position", "area", "cube", "trajectory"])
@pytest.mark.parametrize("name", ["pole", "south", "seam", "aleutians", "all"])
def test_every_format_is_valid_and_has_the_granules_values(  # noqa: PLR0917 - fixtures
    edr, places, name, kind, conforms, is_covjson, compared
):
    place = places["seam" if name == "all" else name]
    x, y = axes(place)
    block = np.stack([place.values(date)[BLOCK] for date in range(3)])
    asked = geometry(kind, x[BLOCK[1]], y[BLOCK[0]])
    if name not in ("seam", "all"):
        asked["crs"] = "native"
    document = edr(name).json()
    conforms(document, "/collections/{collectionId}")
    variables = document["data_queries"][kind]["link"]["variables"]
    assert set(variables["output_formats"]) - set(READERS) <= {"JSON", "PNG"}
    expected = sorted_values(expected_of(kind, block))
    for listed in variables["output_formats"]:
        if listed in ("JSON", "PNG"):
            continue
        answer = edr(f"{name}/{kind}", **asked, f=listed)
        if listed == "CoverageJSON":
            is_covjson(answer.json())
        if listed == "GeoJSON":
            conforms(answer.json(), "/collections/{collectionId}/area", "application/geo+json")
            places_of = np.array([each["geometry"]["coordinates"] for each in answer.json()["features"]])
            assert (np.abs(places_of) <= [180, 90]).all()
        np.testing.assert_array_equal(sorted_values(READERS[listed](answer)), expected)
        compared(expected)


@pytest.mark.parametrize("name", ["pole", "south"])
def test_positions_around_a_pole(edr, places, name, compared):
    place = places[name]
    sign = 1 if name == "pole" else -1
    wanted = [(longitude, sign * latitude) for latitude in (89.95, 89.1, 85.3) for longitude in (-179.9, -91, 0.5, 44, 179.7, 190, 359)]  # fmt: skip
    text = ",".join(f"({lon} {lat})" for lon, lat in wanted)
    found = table(edr(f"{name}/position", coords=f"MULTIPOINT({text})", datetime=DATE, f="csv"))
    to_grid = Transformer.from_crs("OGC:CRS84", place.crs, always_xy=True)
    x, y = to_grid.transform(*np.transpose(wanted))
    columns, rows = (np.floor(each).astype(int) for each in ~place.transform @ (x, y))
    expected = place.values(1)[rows, columns]
    np.testing.assert_array_equal(found.v, expected)
    pole = table(edr(f"{name}/position", coords=f"POINT(123 {sign * 90})", datetime=DATE, f="csv")).v
    # the corner of four cells
    assert pole[0] in place.values(1)[ROWS // 2 - 1 : ROWS // 2 + 1, COLUMNS // 2 - 1 : COLUMNS // 2 + 1]
    compared(expected)


@pytest.mark.parametrize("name", ["pole", "south"])
def test_a_cap_around_a_pole_by_box_and_by_polygon(edr, places, name, compared):
    place = places[name]
    x, y = axes(place)
    _, lat = in_degrees(place, *np.meshgrid(x, y))
    inside = np.abs(lat) >= 87
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    low, high = (87, 90) if name == "pole" else (-90, -87)
    box = edr(f"{name}/cube", bbox=f"-180,{low},180,{high}", datetime=DATE).json()
    found_x, found_y = (np.array(box["domain"]["axes"][each]["values"]) for each in "xy")
    assert set(x[columns]) <= set(found_x)
    assert set(y[rows]) <= set(found_y)
    at = np.ix_(np.searchsorted(-y, -found_y), np.searchsorted(x, found_x))
    np.testing.assert_array_equal(
        covjson_values(box).reshape(found_y.size, found_x.size), place.values(1)[at]
    )
    compared(place.values(1)[at])
    for west in (-180, 0):
        ring = f"{west} {low},{west + 360} {low},{west + 360} {high},{west} {high},{west} {low}"
        area = edr(f"{name}/area", coords=f"POLYGON(({ring}))", datetime=DATE).json()
        assert area["domain"]["axes"]["x"]["values"] == x[columns].tolist()
        assert area["domain"]["axes"]["y"]["values"] == y[rows].tolist()
        cut = np.where(inside, place.values(1), np.nan)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(covjson_values(area).reshape(cut.shape), cut)
        compared(cut)


def cells_along(place, line, dense):
    """The cells (row, column) in turn under a line in degrees, by points close together."""
    points = np.concatenate([np.linspace(a, b, dense) for a, b in pairwise(line)])
    x, y = Transformer.from_crs("OGC:CRS84", place.crs, always_xy=True).transform(*points.T)
    if place.crs == "EPSG:4326":
        x = np.where(x < 0, x + 360, x)
    column, row = (np.floor(each).astype(int) for each in ~place.transform @ (x, y))
    there = (column >= 0) & (column < COLUMNS) & (row >= 0) & (row < ROWS)
    cells = np.column_stack([row, column])[there]
    return cells[np.append(True, (np.diff(cells, axis=0) != 0).any(1))]


LINES = [
    ("pole", [(30.3, 85.1), (30.3, 89.9), (210.3, 89.9), (210.3, 86.2)]),
    ("pole", [(170.1, 80.1), (190.2, 81.3)]),
    ("south", [(10.3, -85.1), (10.3, -89.9), (-169.7, -89.9), (-169.7, -86.2)]),
    ("seam", [(178.03, 60.02), (182.07, 61.11)]),
    ("seam", [(-181.97, 60.02), (-177.93, 61.11)]),
    ("aleutians", [(179.03, 52.02), (181.07, 52.11)]),
    ("aleutians", [(-180.97, 52.02), (-178.93, 52.11)]),
]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_lines_over_a_pole_and_across_the_antimeridian(edr, places, name, line, compared):
    place = places[name]
    text = ",".join(f"{lon} {lat}" for lon, lat in line)
    found = table(edr(f"{name}/trajectory", coords=f"LINESTRING({text})", datetime=DATE, f="csv"))
    cells = cells_along(place, np.array(line), 40_000)
    expected = place.values(1)[cells[:, 0], cells[:, 1]]
    assert len(cells) > 20
    np.testing.assert_array_equal(found.v, expected)
    compared(expected)


BOXES = ["179.02,{south},181.03,{north}", "179.02,{south},-178.97,{north}", "-180.98,{south},-178.97,{north}"]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize(("name", "south", "north"), [("seam", 60.01, 60.98), ("aleutians", 51.81, 52.07)])
def test_a_box_across_the_antimeridian_in_each_way_to_write_it(  # noqa: PLR0917 - fixtures
    edr, places, name, south, north, box, compared
):
    place = places[name]
    x, y = axes(place)
    lon, lat = in_degrees(place, *np.meshgrid(x, y))
    lon = lon % 360
    inside = (lon >= 179.02) & (lon <= 181.03) & (lat >= south) & (lat <= north)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    bbox = box.format(south=south, north=north)
    found = edr(f"{name}/cube", bbox=bbox, datetime=DATE).json()
    found_x, found_y = (np.array(found["domain"]["axes"][each]["values"]) for each in "xy")
    at = np.searchsorted(-y, -found_y - 1e-6), np.searchsorted(x, found_x - 1e-6)
    np.testing.assert_allclose(y[at[0]], found_y)
    np.testing.assert_allclose(x[at[1]], found_x)
    assert set(rows) <= set(at[0]) <= set(range(rows[0] - 1, rows[-1] + 2))
    assert set(columns) <= set(at[1]) <= set(range(columns[0] - 1, columns[-1] + 2))
    expected = place.values(1)[np.ix_(*at)]
    np.testing.assert_array_equal(covjson_values(found).reshape(expected.shape), expected)
    compared(expected)
    west, _, east, _ = map(float, bbox.split(","))
    east += 360 * (east < west)
    ring = f"{west} {south},{east} {south},{east} {north},{west} {north},{west} {south}"
    area = edr(f"{name}/area", coords=f"POLYGON(({ring}))", datetime=DATE).json()
    cut = np.where(inside, place.values(1), np.nan)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(covjson_values(area).reshape(cut.shape), cut)
    compared(cut)


@pytest.mark.parametrize(("name", "south", "north"), [("seam", 60.01, 60.98), ("aleutians", 51.81, 52.07)])
def test_polygons_cut_at_the_antimeridian_are_the_whole_one(edr, name, south, north, compared):
    def ring(west, east):
        return f"({west} {south},{east} {south},{east} {north},{west} {north},{west} {south})"

    whole = edr(f"{name}/area", coords=f"POLYGON({ring(179.02, 181.03)})", f="csv")
    cut = f"MULTIPOLYGON(({ring(179.02, 180)}),({ring(-180, -178.97)}))"
    assert edr(f"{name}/area", coords=cut, f="csv").text == whole.text
    compared(table(whole).v)
    # a ring that jumps from 179 to -179 goes around the Earth the other way
    inside = table(whole).dropna()
    around = table(edr(f"{name}/area", coords=f"POLYGON({ring(-178.97, 179.02)})", f="csv")).dropna()
    places = ["lat", "lon"] if name == "seam" else ["y", "x"]
    if name == "seam":
        inside, around = (each.assign(lon=(each.lon % 360).round(6)) for each in (inside, around))
    assert min(len(around), len(inside)) > 100
    assert inside.merge(around, on=places).empty


@pytest.mark.parametrize("bbox", ["179.02,51.81,181.03,52.07", "179.02,51.81,-178.97,52.07"])
def test_a_reprojected_box_across_the_antimeridian(edr, places, bbox, compared):
    place = places["aleutians"]
    found = edr("aleutians/cube", bbox=bbox, crs="OGC:CRS84", datetime=DATE).json()
    lon, lat = (np.array(found["domain"]["axes"][each]["values"]) for each in "xy")
    assert (np.diff(lon) > 0).all()
    assert lon[0] == pytest.approx(179.02, abs=0.02)
    assert lon[-1] == pytest.approx(181.03, abs=0.02)
    x, y = Transformer.from_crs("OGC:CRS84", place.crs, always_xy=True).transform(*np.meshgrid(lon, lat))
    column, row = ~place.transform @ (x, y)
    expected = place.values(1)[np.floor(row).astype(int), np.floor(column).astype(int)]
    # a pixel so near to a border between two cells may show either
    clear = (np.abs(column - np.round(column)) > 0.01) & (np.abs(row - np.round(row)) > 0.01)
    values = covjson_values(found).reshape(expected.shape)
    np.testing.assert_array_equal(values[clear], expected[clear])
    assert clear.mean() > 0.9
    compared(expected[clear])


COVERAGES = [
    {"bbox": "179.02,{south},181.03,{north}"},
    {"bbox": "179.02,{south},-178.97,{north}"},
    {"subset": "Lon(179.02:181.03),Lat({south}:{north})"},
    {"subset": "Lon(179.02:-178.97),Lat({south}:{north})"},
]


@pytest.mark.parametrize("asked", COVERAGES)
@pytest.mark.parametrize(("name", "south", "north"), [("seam", 60.01, 60.98), ("aleutians", 51.81, 52.07)])
def test_a_coverage_across_the_antimeridian_is_the_cube_querys(edr, name, south, north, asked):
    box = edr(f"{name}/cube", bbox=f"179.02,{south},181.03,{north}", f="csv").text
    given = {key: text.format(south=south, north=north) for key, text in asked.items()}
    assert edr(f"{name}/coverage", **given, f="csv").text == box


@pytest.mark.parametrize("longitude", [180.55, -179.45])
def test_a_point_beyond_180_degrees_is_the_one_before_minus_180(edr, places, longitude):
    row, column = 99, 105
    expected = [float(places["seam"].values(date)[row, column]) for date in range(3)]
    for name in ("seam", "all"):
        found = table(edr(f"{name}/position", coords=f"POINT({longitude} 60.05)", f="csv"))
        assert found.v.tolist() == expected
