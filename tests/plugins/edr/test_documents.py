"""The documents of OGC API - EDR against the standard's schemas."""

import copy
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator
from pyproj import Transformer

EDR_CLASSES = ("core", "collections", "queries", "json", "edr-geojson", "covjson", "html", "oas30")

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

EPSG = "http://www.opengis.net/def/crs/EPSG/0/"

POINT = "POINT(-118.0899 35.2301)"


def test_the_schemas_refuse_what_is_wrong(schemas, conforms, is_covjson, edr):
    found = edr("/collections/utm").json()
    for broken in (
        {"extent": 3},
        {"parameter_names": []},
        {"data_queries": {"cube": {"link": {"href": "x"}}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            conforms({**found, **broken}, "/collections/{collectionId}")
    features = edr("/collections/utm/position", coords=POINT, f="geojson").json()
    del features["features"][0]["properties"]["label"]
    with pytest.raises(jsonschema.ValidationError):
        conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    coverage = edr("/collections/utm/position", coords=POINT, parameter_name="displacement").json()
    wrong = copy.deepcopy(coverage)
    wrong["domain"]["axes"]["x"]["values"] = ["a"]
    with pytest.raises(jsonschema.ValidationError):
        is_covjson(wrong)


def test_the_landing_page_leads_to_all_documents(edr, conforms, server):
    found = edr().json()
    conforms(found, "/")
    links = {link["rel"]: link for link in found["links"]}
    assert {"self", "service-desc", "service-doc", "conformance", "data"} <= set(links)
    for link in found["links"]:
        answer = server.client.get(link["href"])
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(link["type"].partition(";")[0])


def test_both_versions_of_the_standard_are_declared(edr, conforms):
    found = edr("/conformance").json()
    conforms(found, "/conformance")
    for version in ("1.0", "1.1"):
        for name in EDR_CLASSES:
            assert f"http://www.opengis.net/spec/ogcapi-edr-1/{version}/conf/{name}" in found["conformsTo"]
    assert "http://www.opengis.net/spec/ogcapi-edr-1/1.1/conf/geojson" in found["conformsTo"]
    assert any("ogcapi-coverages-1" in each for each in found["conformsTo"])
    assert any("ogcapi-common-1" in each for each in found["conformsTo"])


def test_the_interface_is_valid_openapi_3_0(edr):
    answer = edr("/api")
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json;version=3.0"
    found = answer.json()
    assert found["openapi"].startswith("3.0")
    OpenAPIV30SpecValidator(found).validate()
    assert "/collections/{collection_id}/position" in found["paths"]
    assert not any(path.startswith("/datasets") for path in found["paths"])


@pytest.mark.parametrize("name", ["utm", "polar", "globe", "plain"])
def test_a_collection_is_described_as_the_standard_says(edr, conforms, decoded, name):
    found = edr(f"/collections/{name}").json()
    conforms(found, "/collections/{collectionId}")
    assert (found["id"], found["title"]) == (name, f"The {name} cube")
    assert set(found["data_queries"]) == {"position", "area", "cube", "trajectory"}
    for kind, query in found["data_queries"].items():
        assert query["link"]["href"].endswith(f"/edr/collections/{name}/{kind}")
        assert query["link"]["variables"]["query_type"] == kind
        assert query["link"]["variables"]["crs_details"][0]["crs"] == found["crs"][0]
        assert "CoverageJSON" in query["link"]["variables"]["output_formats"]
        assert ("GeoTIFF" in query["link"]["variables"]["output_formats"]) == (kind in ("area", "cube"))
        assert ("GeoJSON" in query["link"]["variables"]["output_formats"]) == (
            kind in ("position", "trajectory")
        )
    variables = {"utm": {"displacement", "counts", "quality"}, "polar": {"v"}, "globe": {"t"}, "plain": {"a"}}
    assert set(found["parameter_names"]) == variables[name]
    for each in found["parameter_names"].values():
        jsonschema.validate(
            each,
            {"required": ["type", "observedProperty", "id"], "properties": {"type": {"const": "Parameter"}}},
        )
    cube = decoded[name]
    if name in ("utm", "polar"):
        time = cube["time" if name == "utm" else "mid_date"].to_numpy()
        expected = [f"{text}Z" for text in np.datetime_as_string(np.unique(time), "s")]
        assert found["extent"]["temporal"]["values"] == expected
        assert found["extent"]["temporal"]["interval"] == [[expected[0], expected[-1]]]
    assert (
        found["crs"][0]
        == {"utm": f"{EPSG}32611", "polar": f"{EPSG}3413", "globe": CRS84, "plain": "native"}[name]
    )


def test_extents_hold_all_cells(edr, decoded):
    for name, code in (("utm", 32611), ("polar", 3413)):
        (box,) = edr(f"/collections/{name}").json()["extent"]["spatial"]["bbox"]
        cube = decoded[name]
        lon, lat = Transformer.from_crs(code, 4326, always_xy=True).transform(*np.meshgrid(cube.x, cube.y))
        assert box[0] < lon.min() < lon.max() < box[2]
        assert box[1] < lat.min() < lat.max() < box[3]
        half = 0.6 * max(np.abs(np.diff(lon, axis=1)).max(), np.abs(np.diff(lat, axis=0)).max())
        assert [lon.min(), lat.min(), lon.max(), lat.max()] == pytest.approx(box, abs=2 * half)
    assert edr("/collections/globe").json()["extent"]["spatial"]["bbox"] == [[-180, -90, 180, 90]]
    assert "spatial" not in edr("/collections/plain").json()["extent"]


def test_units_are_ucums_where_they_are_known(edr):
    displacement = edr("/collections/utm").json()["parameter_names"]["displacement"]
    assert displacement["unit"]["symbol"] == {"value": "m", "type": "http://www.opengis.net/def/uom/UCUM/"}
    assert edr("/collections/polar").json()["parameter_names"]["v"]["unit"]["symbol"]["value"] == "m/a"


def test_another_calendar_and_other_dimensions_are_said(edr):
    extent = edr("/collections/globe").json()["extent"]
    assert "cf-conventions" in extent["temporal"]["trs"]
    assert extent["temporal"]["interval"] == [["2001-02-01T00:00:00Z", "2001-03-28T00:00:00Z"]]
    assert extent["vertical"]["interval"] == [["500.0", "850.0"]]
    assert extent["custom"][0]["id"] == "member"


def test_collections_come_in_pages(edr, conforms, server):
    everything = edr("/collections").json()
    conforms(everything, "/collections")
    assert [each["id"] for each in everything["collections"]] == ["globe", "plain", "polar", "utm"]
    found, url, pages = [], None, 0
    page = edr("/collections", limit="3").json()
    while True:
        pages += 1
        assert (page["numberMatched"], page["numberReturned"]) == (4, len(page["collections"]))
        found += [each["id"] for each in page["collections"]]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        if url is None:
            break
        page = server.client.get(url).json()
    assert (pages, found) == (2, ["globe", "plain", "polar", "utm"])
    last = next(link["href"] for link in page["links"] if link["rel"] == "prev")
    assert [each["id"] for each in server.client.get(last).json()["collections"]] == found[:3]
    assert edr("/collections", offset="9").json()["collections"] == []


@pytest.mark.parametrize("limit", ["1", "50"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"bbox": "-119,35,-118,36"}, ["globe", "plain", "utm"]),
        ({"bbox": "-119,35,0,-118,36,9"}, ["globe", "plain", "utm"]),
        ({"bbox": "170,60,-50,80"}, ["globe", "plain", "polar"]),
        ({"bbox": "300,35,-118,36"}, ["globe", "plain", "utm"]),
        ({"datetime": "2019-01-01T00:00:00Z"}, ["globe", "plain"]),
        ({"datetime": "../2020-01-03T00:00:00Z"}, ["globe", "plain", "utm"]),
        ({"datetime": "2020-02-01T00:00:00Z/..", "bbox": "-119,35,-118,36"}, ["globe", "plain", "utm"]),
    ],
)  # fmt: skip
def test_collections_are_selected_by_place_and_time(edr, server, conforms, asked, expected, limit):  # noqa: PLR0917 - fixtures
    page, found = edr("/collections", **asked, limit=limit).json(), []
    while True:
        conforms(page, "/collections")
        assert "numberMatched" not in page
        found += [each["id"] for each in page["collections"]]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        if url is None:
            break
        page = server.client.get(url).json()
    # what has no place, or no times that the calendar knows, is selected too
    assert found == expected


def test_pages_for_people(edr):
    for path in ("", "/conformance", "/collections", "/collections/utm"):
        answer = edr(path, f="html")
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.text.startswith("<!doctype html>")
        browser = edr(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert browser.text == answer.text
        assert edr(path, headers={"Accept": "*/*"}).json() == edr(path, f="json").json()
    text = edr("", f="html", headers={"Host": 'x"><script>alert(1)</script>'}).text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("path", "asked"),
    [("", {"f": "xml"}), ("/collections", {"limit": "0"}), ("/collections", {"limit": "101"}), ("/collections", {"offset": "-1"}), ("/collections", {"bbox": "1,2,3"}), ("/collections", {"datetime": "2020-13"}),
     ("/collections", {"limit": "x"}), ("/collections/utm", {"f": "xml"}), ("/conformance", {"what": "1"})],
)  # fmt: skip
def test_documents_refuse_what_they_do_not_know(edr, path, asked):
    problem = edr(path, status=400, **asked).json()
    assert problem["parameter"] == next(iter(asked))


def test_the_checklist_names_tests_that_exist():
    root = Path(__file__).parents[3]
    text = (root / "docs" / "edr.md").read_text("utf-8")
    named = set(re.findall(r"`(?:[\w/]+\.py::)?(test_\w+)`", text))
    tests = "".join(file.read_text("utf-8") for file in (root / "tests" / "plugins").rglob("test_*.py"))
    assert {
        name for name in named if not re.search(rf"^(?:async )?def {name}\(", tests, re.MULTILINE)
    } == set()
    assert len(named) > 20
    files = set(re.findall(r"`([\w/]*test_\w+\.py)`", text))
    assert {
        name for name in files if not list(root.glob(name if "/" in name else f"tests/**/{name}"))
    } == set()
    assert len(files) > 3
