"""Statistics of polygons against shapely, rasterio and fsum, cell by cell."""

import csv
import io
import itertools
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio.features
import shapely
import shapely.ops
from pyproj import Transformer
from rasterio.transform import from_origin

UTM = [
    [400_300, 3_899_000],
    [401_700, 3_898_600],
    [402_000, 3_899_700],
    [400_900, 3_899_900],
    [400_300, 3_899_000],
]
HOLE = [[401_000, 3_899_200], [401_300, 3_899_200], [401_200, 3_899_500], [401_000, 3_899_200]]
POLYGON = {"type": "Polygon", "coordinates": [UTM, HOLE]}
GLOBE = {"type": "Polygon", "coordinates": [[[-20, -33], [31, -61], [48, 71], [-12, 66], [-20, -33]]]}


@pytest.fixture
def post(server):
    def post(dataset, body, status=200, media_type="application/geo+json", **parameters):
        response = server.client.post(
            f"{dataset}/statistics", json=body, params=parameters, headers={"Content-Type": media_type}
        )
        assert response.status_code == status, response.text
        return response

    return post


def centres_inside(cube, polygon):
    x, y = np.meshgrid(cube["x"], cube["y"])
    return shapely.contains_xy(polygon, x, y)


def expected(values):
    """By fsum, of one plane's cells inside; NaN is missing."""
    known = [float(value) for value in values if not math.isnan(value)]
    if not known:
        return dict.fromkeys(("mean", "median", "std", "min", "max")) | {
            "count": 0,
            "cells": len(values),
            "valid_fraction": 0.0,
        }
    mean = math.fsum(known) / len(known)
    ordered = sorted(known)
    middle = len(known) // 2
    return {
        "mean": pytest.approx(mean, rel=1e-13, abs=1e-15),
        "median": ordered[middle] if len(known) % 2 else (ordered[middle - 1] + ordered[middle]) / 2,
        "std": pytest.approx(
            math.sqrt(math.fsum((each - mean) ** 2 for each in known) / len(known)), rel=1e-12
        ),
        "min": ordered[0],
        "max": ordered[-1],
        "count": len(known),
        "cells": len(values),
        "valid_fraction": len(known) / len(values),
    }


def numbers(record):
    return {name: record[name] for name in expected([1.0])}


def test_the_statistics_are_those_of_the_cells_with_their_centre_inside(post, decoded):
    cube = decoded["utm"]
    inside = centres_inside(cube, shapely.from_geojson(str(POLYGON).replace("'", '"')))
    cells = from_origin(400_000, 3_900_015, 30, 30)
    assert np.array_equal(
        rasterio.features.geometry_mask([POLYGON], inside.shape, cells, invert=True), inside
    )
    assert 500 < inside.sum() < inside.size
    answer = post("utm", POLYGON, crs="EPSG:32611", variables="displacement,counts").json()
    assert (answer["dataset"], answer["crs"], answer["weights"]) == ("utm", "EPSG:32611", "none")
    compared = 0
    for record in answer["statistics"]:
        time = np.datetime64(record["time"].removesuffix("Z"))
        values = cube[record["variable"]].sel(time=time).values[inside]
        assert numbers(record) == expected(values.astype("f8"))
        assert record["units"] == cube[record["variable"]].attrs.get("units", "")
        compared += 1
    assert compared == 2 * cube.sizes["time"]
    assert any(record["valid_fraction"] < 1 for record in answer["statistics"])


def test_longitudes_and_latitudes_mean_the_same_cells_and_variables_without_time_are_there(post, decoded):
    to_degrees = Transformer.from_crs("EPSG:32611", "OGC:CRS84", always_xy=True)
    degrees = {"type": "Polygon", "coordinates": [[to_degrees.transform(*place) for place in UTM]]}
    cube = decoded["utm"]
    x, y = np.meshgrid(cube["x"], cube["y"])
    inside = shapely.contains_xy(shapely.Polygon(degrees["coordinates"][0]), *to_degrees.transform(x, y))
    (record,) = post("utm", degrees, variables="quality").json()["statistics"]
    assert numbers(record) == expected(cube["quality"].values[inside].astype("f8"))
    assert "time" not in record


def test_cells_of_a_geographic_grid_are_weighted_by_their_area(post, decoded):
    cube = decoded["globe"]
    x, y = np.meshgrid((cube["lon"].values + 180) % 360 - 180, cube["lat"].values)
    inside = shapely.contains_xy(shapely.Polygon(GLOBE["coordinates"][0]), x, y)
    weights = np.cos(np.radians(y[inside]))
    answer = post("globe", GLOBE, level="850").json()
    assert answer["weights"] == "cos(latitude)"
    assert len(answer["statistics"]) == 12 * 3
    for number, record in enumerate(answer["statistics"]):
        values = cube["t"].values[number // 3, 1, record["member"]][inside].astype("f8")
        mean = math.fsum(values * weights) / math.fsum(weights)
        deviation = math.sqrt(math.fsum(weights * (values - mean) ** 2) / math.fsum(weights))
        assert record["mean"] == pytest.approx(mean, rel=1e-12, abs=1e-15)
        assert record["std"] == pytest.approx(deviation, rel=1e-12)
        below = math.fsum(weights[values < record["median"]])
        above = math.fsum(weights[values > record["median"]])
        assert max(below, above) <= math.fsum(weights) / 2 * (1 + 1e-12)
        assert record["median"] in values
        assert (record["min"], record["max"], record["count"]) == (values.min(), values.max(), len(values))
        assert record["valid_fraction"] == pytest.approx(1)
        assert record["time"].startswith("2001-")


def test_a_polar_polygon_over_sorted_dates(post, decoded):
    cube = decoded["polar"]
    ring = [[-245_300, -2_040_200], [-205_100, -2_041_700], [-210_900, -2_003_400], [-245_300, -2_040_200]]
    inside = centres_inside(cube, shapely.Polygon(ring))
    records = post("polar", {"type": "Polygon", "coordinates": [ring]}, crs="EPSG:3413").json()["statistics"]
    order = np.argsort(cube["mid_date"].values, kind="stable")
    for index, record in zip(order, records, strict=True):
        assert np.datetime64(record["time"].removesuffix("Z")) == cube["mid_date"].values[index]
        assert numbers(record) == expected(cube["v"].values[index][inside])


def test_conditions_and_intervals_hold(post, decoded):
    cube = decoded["utm"]
    inside = centres_inside(cube, shapely.Polygon(UTM, [HOLE]))
    answer = post(
        "utm",
        POLYGON,
        crs="EPSG:32611",
        variables="displacement",
        mask="quality>=100",
        datetime="2020-02-01/2020-03-20",
    ).json()
    assert answer["mask"] == "quality>=100"
    good = cube["quality"].values[inside] >= 100
    during = cube["displacement"].sel(time=slice("2020-02-01", "2020-03-20"))
    assert len(answer["statistics"]) == during.sizes["time"] > 1
    for index, record in enumerate(answer["statistics"]):
        values = during.values[index][inside].astype("f8")
        assert numbers(record) == expected(np.where(good, values, np.nan))


def test_each_feature_has_statistics_of_its_own(post, decoded):
    cube = decoded["utm"]
    square = [
        [400_100, 3_899_110],
        [400_400, 3_899_110],
        [400_400, 3_899_410],
        [400_100, 3_899_410],
        [400_100, 3_899_110],
    ]
    parts = {"type": "MultiPolygon", "coordinates": [[square], [[[x + 1000, y] for x, y in square]]]}
    features = [
        {"type": "Feature", "id": "a", "geometry": POLYGON},
        {"type": "Feature", "properties": {"id": "b"}, "geometry": parts},
        {"type": "Feature", "properties": None, "geometry": {"type": "Polygon", "coordinates": [square]}},
    ]
    answer = post(
        "utm", {"type": "FeatureCollection", "features": features}, crs="EPSG:32611", variables="quality"
    ).json()
    areas = [shapely.Polygon(UTM, [HOLE]), shapely.geometry.shape(parts), shapely.Polygon(square)]
    assert [record["area"] for record in answer["statistics"]] == ["a", "b", "3"]
    for record, area in zip(answer["statistics"], areas, strict=True):
        assert numbers(record) == expected(cube["quality"].values[centres_inside(cube, area)].astype("f8"))


def test_histograms_share_their_edges(post, decoded):
    cube = decoded["utm"]
    inside = centres_inside(cube, shapely.Polygon(UTM, [HOLE]))
    values = cube["displacement"].values[:, inside].astype("f8")
    asked = {"crs": "EPSG:32611", "variables": "displacement", "bins": "7"}
    for given, low, high in (({}, np.nanmin(values), np.nanmax(values)), ({"range": "-1,0.5"}, -1, 0.5)):
        records = post("utm", POLYGON, **asked, **given).json()["statistics"]
        for index, record in enumerate(records):
            edges = record["histogram"]["edges"]
            assert edges == pytest.approx(np.linspace(low, high, 8))
            known = values[index][~np.isnan(values[index])]
            counts = [
                int(((known >= start) & ((known < stop) if number < 6 else (known <= stop))).sum())
                for number, (start, stop) in enumerate(itertools.pairwise(edges))
            ]
            assert record["histogram"]["counts"] == counts
    assert sum(records[0]["histogram"]["counts"]) < records[0]["count"]


@pytest.mark.parametrize("variables", ["displacement,quality", "quality,displacement"])
def test_csv_and_parquet_have_what_json_has(post, variables):
    asked = {"crs": "EPSG:32611", "variables": variables, "bins": "3"}
    records = post("utm", POLYGON, **asked).json()["statistics"]
    text = post("utm", POLYGON, **asked, f="csv")
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    assert text.text.startswith("# title: The utm cube\n# dataset: utm\n")
    table = list(csv.DictReader(line for line in io.StringIO(text.text) if not line.startswith("#")))
    parquet = pq.read_table(io.BytesIO(post("utm", POLYGON, **asked, f="parquet").content))
    assert parquet.schema.metadata[b"dataset"] == b"utm"
    assert len(records) == len(table) == parquet.num_rows == 13
    for record, row, other in zip(records, table, parquet.to_pylist(), strict=True):
        assert {key: value for key, value in other.items() if value is not None} == {
            key: value for key, value in record.items() if value is not None
        }
        counts = record["histogram"]["counts"]
        assert [int(row[f"bin_{number}"]) for number in (1, 2, 3)] == counts
        assert (float(row["histogram_min"]), float(row["histogram_max"])) == (
            record["histogram"]["edges"][0],
            record["histogram"]["edges"][-1],
        )
        assert row["time"] == record.get("time", "")
        for name in numbers(record):
            assert float(row[name]) == record[name]


@pytest.mark.parametrize(("body", "parameters", "said"), [
    ({"type": "Point", "coordinates": [0, 0]}, {}, "is no polygon"),
    ({"type": "Polygon", "coordinates": []}, {}, "without rings"),
    ({"type": "Polygon", "coordinates": [[]]}, {}, "less than four"),
    ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}, {}, "not closed"),
    ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}, {}, "not valid"),
    ({"type": "Polygon", "coordinates": [[[0, "x"], [1, 1], [1, 0], [0, 0]]]}, {}, "not two numbers"),
    ({"type": "FeatureCollection", "features": []}, {}, "no polygons"),
    ({"type": "FeatureCollection", "features": [3]}, {}, "Feature 1 is no GeoJSON feature"),
    ([], {}, "is no polygon"),
    (POLYGON, {"crs": "none"}, "crs"),
    (POLYGON, {"crs": "EPSG:32611", "bins": "0"}, "bins"),
    (POLYGON, {"crs": "EPSG:32611", "range": "1,2"}, "bins is missing"),
    (POLYGON, {"crs": "EPSG:32611", "bins": "2", "range": "2,1"}, "range is empty"),
    (POLYGON, {"crs": "EPSG:32611", "bbox": "1,2,3,4"}, "the body says where"),
    (POLYGON, {"crs": "EPSG:32611", "f": "netcdf"}, "json, csv, parquet"),
    (POLYGON, {"crs": "EPSG:32611", "level": "1"}, "level"),
    (POLYGON, {"crs": "EPSG:32611", "variables": "reference_time"}, "reference_time"),
    ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}, {}, "box around polygon '1'"),
    ({"type": "Polygon", "coordinates": [[[400_001, 3_899_001], [400_003, 3_899_001], [400_002, 3_899_003], [400_001, 3_899_001]]]},
     {"crs": "EPSG:32611"}, "No cell has its centre inside"),
])  # fmt: skip
def test_what_cannot_be_answered_says_why(post, body, parameters, said):
    problem = post("utm", body, 400, **parameters).json()
    assert said in problem["detail"]


def test_other_media_types_are_refused(post):
    assert "geo+json" in post("utm", POLYGON, 400, media_type="text/plain").json()["detail"]


def test_what_costs_too_much_is_refused_before_reading(serve):
    server = serve("{chunks: 40, points: 2}")

    def send(body, **parameters):
        return server.client.post("utm/statistics", json=body, params={"crs": "EPSG:32611", **parameters})

    refused = send(POLYGON, variables="displacement")
    assert refused.status_code == 413
    hint = refused.json()["hint"]
    interval = hint.partition("datetime=")[2].rstrip(".")
    assert send(POLYGON, variables="displacement", datetime=interval).status_code == 200
    several = {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": POLYGON}] * 2}
    assert send(several, variables="displacement", datetime=interval).status_code == 413
    several["features"] = several["features"] * 2
    assert send(several, variables="quality").status_code == 413
