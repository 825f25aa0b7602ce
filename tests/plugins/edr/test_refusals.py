"""What EDR refuses, and how it says so."""

import io

import pandas as pd
import pytest

POINT = "POINT(-118.0899 35.2301)"

TRIANGLE = "POLYGON((-118.096 35.2245,-118.0885 35.226,-118.091 35.234,-118.096 35.2245))"

LINE = "LINESTRING(-118.096 35.2245,-118.0885 35.226,-118.091 35.229)"

TIMED = "LINESTRINGM(-118.096 35.2245 1578614400,-118.0885 35.226 1585000000,-118.091 35.229 1590969600)"

BOX = "-118.096,35.2245,-118.0885,35.234"


@pytest.mark.parametrize(
    ("path", "asked", "parameter", "match"),
    [
        ("position", {}, "coords", "missing"),
        ("position", {"coords": " "}, "coords", "missing"),
        ("position", {"coords": "POINT(1)"}, "coords", "numbers"),
        ("position", {"coords": LINE}, "coords", "POINT"),
        ("position", {"coords": "POINT(1 2)"}, "coords", "outside the grid"),
        ("position", {"coords": "MULTIPOINT((-118.0899 35.2301),(0 0))"}, "coords", "number 2"),
        ("position", {"coords": "POINT(500 100)"}, "coords", "degrees"),
        ("position", {"coords": POINT, "crs": "EPSG:0"}, "crs", "PROJ"),
        ("position", {"coords": POINT, "crs": "EPSG:3413"}, "crs", "not answered"),
        ("position", {"coords": POINT, "parameter_name": "speed"}, "parameter-name", "speed"),
        ("position", {"coords": POINT, "parameter_name": ""}, "parameter-name", ""),
        ("position", {"coords": POINT, "datetime": "2020-13"}, "datetime", "range"),
        ("position", {"coords": POINT, "datetime": "1999/2000"}, "datetime", "No time"),
        ("position", {"coords": POINT, "f": "geotiff"}, "f", "geotiff"),
        ("position", {"coords": POINT, "f": "xml"}, "f", "geojson"),
        ("position", {"coords": POINT, "radius": "5"}, "radius", "no parameter"),
        ("position", {"coords": POINT, "mask": "none"}, "mask", "none"),
        ("area", {}, "coords", "missing"),
        ("area", {"coords": POINT}, "coords", "POLYGON"),
        ("area", {"coords": "POLYGON((0 0,1 1,1 0,0 1,0 0))"}, "coords", "not valid"),
        ("area", {"coords": "POLYGON((0 0,1 1,1 0,0 0))"}, "bbox", "outside"),
        ("area", {"coords": "POLYGON((-118.09 35.23,-118.08999 35.23,-118.09 35.23001,-118.09 35.23))"}, "coords", "No cell"),
        ("area", {"coords": TRIANGLE, "f": "geojson"}, "f", "geotiff"),
        ("cube", {}, "bbox", "missing"),
        ("cube", {"bbox": "1,2,3"}, "bbox", "four nor six"),
        ("cube", {"bbox": "1,2,3,x"}, "bbox", "number"),
        ("cube", {"bbox": "1,2,3,4"}, "bbox", "outside"),
        ("cube", {"bbox": "-118.1,36,-118,35"}, "bbox", "empty"),
        ("trajectory", {}, "coords", "missing"),
        ("trajectory", {"coords": TRIANGLE}, "coords", "LINESTRING"),
        ("trajectory", {"coords": "LINESTRING(0 0,1 1)"}, "coords", "does not meet"),
        ("trajectory", {"coords": TIMED, "datetime": "2020"}, "datetime", "M values"),
        ("trajectory", {"coords": "LINESTRINGZ(-118.096 35.2245 1,-118.0885 35.226 2)", "z": "1"}, "z", "Z values"),
        ("trajectory", {"coords": "LINESTRINGM(-118.096 35.2245 0,-118.0885 35.226 2)"}, "coords", "outside those"),
        ("trajectory", {"coords": "LINESTRINGM(-118.096 35.2245 -1e300,-118.0885 35.226 1e300)"}, "coords", "seconds"),
    ],
)  # fmt: skip
def test_a_bad_query_is_400_and_names_its_parameter(edr, path, asked, parameter, match):
    answer = edr(f"/collections/utm/{path}", status=400, **asked)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 400
    assert problem["parameter"] == parameter
    assert match in problem["detail"]


def test_levels_that_do_not_exist_are_400(edr):
    for z in ("700", "500,700", "R2/501/10", "600/700", "1/2/3", "x"):
        problem = edr("/collections/globe/position", status=400, coords="POINT(10 10)", z=z).json()
        assert problem["parameter"] in ("z", "level")


@pytest.mark.parametrize(
    "path",
    ["/collections/none", "/collections/none/position", "/collections/none/area", "/collections/none/cube", "/collections/none/trajectory",
     "/collections/utm@0000000000000000/position", "/collections/utm/radius", "/collections/utm/corridor", "/collections/utm/locations", "/nothing"],
)  # fmt: skip
def test_what_is_not_there_is_404(edr, path):
    answer = edr(path, status=404, coords=POINT, bbox=BOX)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_query_beyond_the_budget_is_413(serve):
    server = serve("{chunks: 20, points: 10}")
    root = str(server.client.base_url).removesuffix("/datasets/")
    for path, asked in (
        ("position", {"coords": "MULTIPOINT(" + ",".join(["-118.09 35.23"] * 11) + ")"}),
        ("area", {"coords": TRIANGLE}),
        ("cube", {"bbox": BOX}),
        ("trajectory", {"coords": LINE}),
    ):
        answer = server.client.get(f"{root}/edr/collections/utm/{path}", params=asked)
        assert answer.status_code == 413, answer.text
        assert answer.json()["hint"]


def test_a_grid_without_crs_answers_in_its_own_coordinates(edr):
    rows = pd.read_csv(
        io.StringIO(edr("/collections/plain/cube", bbox="5,5,25,15", crs="native", f="csv").text), comment="#"
    )
    assert rows.a.tolist() == [5, 6]
    text = edr("/collections/plain/area", coords="POLYGON((5 5,35 5,35 25,5 5))", crs="native", f="csv").text
    cells = pd.read_csv(io.StringIO(text), comment="#").dropna()
    assert sorted(cells.a) == [6, 7, 11]
    line = edr("/collections/plain/trajectory", coords="LINESTRING(0 0,30 0)", crs="native", f="csv").text
    assert pd.read_csv(io.StringIO(line), comment="#").a.tolist() == [0, 1, 2, 3]
    assert "crs:" in edr("/collections/plain/position", status=400, coords="POINT(1 2)").json()["detail"]
