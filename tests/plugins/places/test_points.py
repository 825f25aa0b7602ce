"""Points, lines and polygons at the poles and across the antimeridian, against the granules, pyproj and shapely."""

import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import shapely
import shapely.affinity
from pyproj import Geod, Transformer
from tests.plugins.places.sources import DAYS, GLOBES, PLACES, axes, chunks_asked, contiguous

EVERY = [*PLACES, *GLOBES]
CELLS = [(0, 0), (5, 3), (30, 60), (59, 99), (60, 100), (80, 150), (90, 179)]
# the middle of a globe of 2 degrees has fewer
HALVED = [(row // 2, column // 2) for row, column in CELLS]


def cells_of(name):
    return HALVED if name == "centred" else CELLS


def in_degrees(source, row, column, aside=0.2):
    """Longitude and latitude of a place a part of a cell beside the centre of a cell, away from poles."""
    x = source.x[column] + aside * source.steps[0]
    y = source.y[row] + aside * source.steps[1]
    lon, lat = Transformer.from_crs(source.crs, 4326, always_xy=True).transform(x, y)
    return float((lon + 180) % 360 - 180), float(lat)


def numbers(values):
    return np.array([np.nan if value is None else value for value in values], "f4")


@pytest.mark.parametrize("name", EVERY)
def test_a_point_is_its_cell_in_whatever_turn(made, get, compared, name):
    source = made.sources[name]
    for row, column in cells_of(name):
        lon, lat = in_degrees(source, row, column)
        turns = [turned for turned in (lon, lon + 360, lon - 360) if abs(turned) <= 360]
        for turned in turns:
            for asked in ({"lon": turned, "lat": lat}, {"coords": f"POINT({turned} {lat})"}):
                found = get(f"/datasets/{name}/timeseries", f="csv", **asked).text
                table = pd.read_csv(io.StringIO(found), comment="#")
                np.testing.assert_array_equal(table["v"].to_numpy("f4"), source.data[:, row, column])
                compared(table["v"])
            found = get(f"/edr/collections/{name}/position", coords=f"POINT({turned} {lat})").json()
            np.testing.assert_array_equal(
                numbers(found["ranges"]["v"]["values"]), source.data[:, row, column]
            )
            found = get(f"/edr/collections/{name}/position", coords=f"POINT({turned} {lat})", f="geojson")
            place = found.json()["features"][0]["geometry"]["coordinates"]
            centre = in_degrees(source, row, column, 0)
            assert Geod(ellps="WGS84").inv(*place, *centre)[2] < 0.01


@pytest.mark.parametrize("name", EVERY)
def test_many_points_at_any_turn(made, client, compared, name):
    source = made.sources[name]
    places = [in_degrees(source, *cell) for cell in cells_of(name)]
    turned = [
        (lon + (360 if lon < 0 else -360) * (number % 2), lat) for number, (lon, lat) in enumerate(places)
    ]
    expected = np.stack([source.data[:, row, column] for row, column in cells_of(name)])
    collection = {"type": "MultiPoint", "coordinates": turned}
    for body, kind in (
        ("lon,lat\n" + "\n".join(f"{lon!r},{lat!r}" for lon, lat in turned), "text/csv"),
        (json.dumps(collection), "application/geo+json"),
    ):
        answer = client.post(
            f"/datasets/{name}/timeseries", params={"f": "json"}, content=body, headers={"Content-Type": kind}
        )
        assert answer.status_code == 200, answer.text
        answer = client.post(
            f"/datasets/{name}/timeseries", params={"f": "csv"}, content=body, headers={"Content-Type": kind}
        )
        table = pd.read_csv(io.StringIO(answer.text), comment="#")
        np.testing.assert_array_equal(table["v"].to_numpy("f4").reshape(expected.shape), expected)
        compared(expected)
        shown = table[["longitude", "latitude"]].to_numpy().reshape(len(places), 3, 2)[:, 0]
        centres = np.array([in_degrees(source, *cell, 0) for cell in cells_of(name)])
        assert max(Geod(ellps="WGS84").inv(*shown.T, *centres.T)[2]) < 0.01


@pytest.mark.parametrize("name", ["pole", "south"])
def test_the_pole_is_one_place_at_all_longitudes(made, get, name):
    source = made.sources[name]
    # of four cells the one of the larger coordinates
    row, column = np.flatnonzero(source.y > 0)[-1], np.flatnonzero(source.x > 0)[0]
    for longitude in (-180, -77.5, 0, 45, 180, 359):
        text = get(
            f"/datasets/{name}/timeseries", f="csv", lon=longitude, lat=90 if name == "pole" else -90
        ).text
        table = pd.read_csv(io.StringIO(text), comment="#")
        np.testing.assert_array_equal(table["v"].to_numpy("f4"), source.data[:, row, column])


@pytest.mark.parametrize("name", list(GLOBES))
def test_the_poles_of_a_globe_are_in_its_last_rows(made, get, name):
    source = made.sources[name]
    for longitude, latitude in ((10.2, 90), (-169.8, -90)):
        row = np.abs(source.y - latitude).argmin()
        column = np.abs((source.x - longitude + 180) % 360 - 180).argmin()
        text = get(f"/datasets/{name}/timeseries", f="csv", lon=longitude, lat=latitude).text
        table = pd.read_csv(io.StringIO(text), comment="#")
        np.testing.assert_array_equal(table["v"].to_numpy("f4"), source.data[:, row, column])


def ring(*corners):
    return [[*map(list, corners), list(corners[0])]]


def polygon(coordinates):
    return {"type": "Polygon", "coordinates": coordinates}


def cut(coordinates):
    """A polygon that goes on beyond 180, cut there as RFC 7946 wants it."""
    whole = shapely.Polygon(coordinates[0])
    east = shapely.affinity.translate(whole & shapely.box(180, -90, 360, 90), -360)
    parts = [
        shapely.geometry.mapping(part)["coordinates"] for part in (whole & shapely.box(0, -90, 180, 90), east)
    ]
    return {"type": "MultiPolygon", "coordinates": parts}


ACROSS = ring((178.03, 61.02), (181.97, 62.01), (181.02, 64.03))
WIDE = ring((171.03, 51.02), (189.97, 55.01), (181.02, 69.03))
OVER = ring((-180, 80.03), (-60, 75.02), (60, 82.01), (180, 80.03), (180, 90), (-180, 90))
UNDER = ring((-180, -90), (180, -90), (180, -80.03), (60, -82.01), (-60, -75.02), (-180, -80.03))
ALEUTIAN = ring((179.03, 51.62), (180.77, 51.71), (180.02, 52.43))
NULL = ring((-5.03, 10.02), (6.01, 11.07), (1.03, 20.05))


AREAS = {
    "seam": [polygon(ACROSS), polygon([[(x - 360, y) for x, y in ACROSS[0]]]), cut(ACROSS)],
    "east": [polygon(WIDE), cut(WIDE), polygon(NULL), polygon(OVER)],
    "middle": [polygon(WIDE), cut(WIDE), polygon(NULL)],
    "aleutians": [polygon(ALEUTIAN), polygon([[(x - 360, y) for x, y in ALEUTIAN[0]]])],
    "pole": [polygon(OVER)],
    "south": [polygon(UNDER)],
}  # fmt: skip


def inside(source, geometry):
    """Which cells have their centre in a polygon, by shapely."""
    lon, lat = Transformer.from_crs(source.crs, 4326, always_xy=True).transform(
        *np.meshgrid(source.x, source.y)
    )
    shape = shapely.geometry.shape(geometry)
    return np.any([shapely.intersects_xy(shape, lon + turn, lat) for turn in (-360, 0, 360)], axis=0)


@pytest.mark.parametrize(
    ("name", "geometry"), [(name, geometry) for name, areas in AREAS.items() for geometry in areas]
)
def test_a_polygon_is_the_cells_with_their_centre_inside(made, client, get, netcdf, compared, name, geometry):  # noqa: PLR0917 - fixtures
    source = made.sources[name]
    cells = inside(source, geometry)
    assert cells.sum() > 20
    text = shapely.geometry.shape(geometry).wkt
    found = netcdf(f"/edr/collections/{name}/area", coords=text, datetime=DAYS[0])
    x, y = axes(found)
    turn = 360 if source.crs.is_geographic else np.inf
    columns = [
        int(np.abs((source.x - each + 180) % turn - 180 if turn == 360 else source.x - each).argmin())
        for each in x
    ]
    rows = [int(np.abs(source.y - each).argmin()) for each in y]
    assert cells[np.ix_(rows, columns)].sum() == cells.sum()
    assert contiguous(x)
    expected = np.where(cells, source.data[0], np.nan)[np.ix_(rows, columns)]
    np.testing.assert_array_equal(found["v"].to_numpy()[0], expected)
    compared(expected)
    answer = client.post(f"/datasets/{name}/statistics", json=geometry, params={"datetime": DAYS[1]})
    assert answer.status_code == 200, answer.text
    (record,) = answer.json()["statistics"]
    values = source.data[1][cells].astype("f8")
    weights = np.broadcast_to(np.cos(np.radians(source.y))[:, None], cells.shape)[cells]
    weights = weights if source.crs.is_geographic else np.ones(len(values))
    known = ~np.isnan(values)
    assert (record["cells"], record["count"]) == (len(values), known.sum())
    assert record["mean"] == pytest.approx(np.average(values[known], weights=weights[known]), rel=1e-12)
    assert record["valid_fraction"] == pytest.approx(weights[known].sum() / weights.sum(), rel=1e-12)
    assert (record["min"], record["max"]) == (values[known].min(), values[known].max())


def test_the_parts_of_a_cut_polygon_cost_what_the_whole_does(client):
    answers, counts = [], []
    # coordinates are read with the first
    for body in (polygon(WIDE), polygon(WIDE), cut(WIDE)):
        answers.append(client.post("/datasets/east/statistics", json=body).json()["statistics"])
        counts.append(chunks_asked(client, "east"))
    assert answers[0] == answers[1] == answers[2]
    # longitudes 171 to 190 and latitudes 51 to 69 are in four chunks, at three dates
    assert np.diff(counts).tolist() == [12, 12]


LINES = {
    "seam": "LINESTRING(177.03 61.02,183.01 66.07)",
    "aleutians": "LINESTRING(179.03 51.62,181.03 52.31)",
    "pole": "LINESTRING(-100.3 88.02,-10.2 89.9,179.7 88.02,191 85)",
    "south": "LINESTRING(10.3 -86.02,200.3 -88.03)",
    "east": "LINESTRING(-3.03 10.02,4.01 13.07)",
    "middle": "LINESTRING(177.03 61.02,183.01 66.07)",
    "centred": "LINESTRING(-10.03 61.02,10.01 66.07)",
}


@pytest.mark.parametrize(("name", "line"), list(LINES.items()))
def test_a_line_crosses_the_cells_under_it(made, get, compared, name, line):
    source = made.sources[name]
    vertices = np.array(shapely.from_wkt(line).coords)
    dense = np.concatenate([np.linspace(a, b, 60_001) for a, b in itertools.pairwise(vertices)])
    row, column, _ = source.cells("EPSG:4326", *dense.T)
    path = np.column_stack([row, column])
    path = path[np.append(True, (np.diff(path, axis=0) != 0).any(axis=1))]
    path = path[path[:, 0] >= 0]
    found = get(f"/edr/collections/{name}/trajectory", coords=line, datetime=DAYS[2], f="csv").text
    table = pd.read_csv(io.StringIO(found), comment="#")
    np.testing.assert_array_equal(table["v"].to_numpy("f4"), source.data[2][path[:, 0], path[:, 1]])
    names = ("lon", "lat") if source.crs.is_geographic else ("x", "y")
    np.testing.assert_allclose(table[names[0]], source.x[path[:, 1]], atol=1e-6)
    np.testing.assert_allclose(table[names[1]], source.y[path[:, 0]], atol=1e-6)
    compared(table["v"])


def test_extents_go_on_over_the_antimeridian(made, get):
    for name in EVERY:
        source = made.sources[name]
        lon, lat = source.centres("EPSG:4326")
        said = get(f"/datasets/{name}/description").json()["extent"]
        west, south, east, north = said["lonlat"]
        assert ((lon - west) % 360 <= east - west).all()
        assert ((lat >= south) & (lat <= north)).all()
        assert east - west < {"seam": 20.1, "aleutians": 3}.get(name, 361)
        steps = np.abs(np.diff(np.array(said["outline"]), axis=0))[:, 0]
        assert name in {"pole", "south"} or steps.max() < 100
        box = get(f"/edr/collections/{name}").json()["extent"]["spatial"]["bbox"][0]
        turned = [(west + 180) % 360 - 180, south, (east + 180) % 360 - 180, north]
        if name in {"seam", "aleutians"}:
            assert box == pytest.approx(turned)
            assert box[0] > box[2]
        elif name in GLOBES:
            assert (box[0], box[2]) == (-180, 180)
