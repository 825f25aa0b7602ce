"""What OGC's executable test suite for EDR asks of a server: its requests, put together from the documents as it does."""

import httpx
import numpy as np
import pytest

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
CORE = "http://www.opengis.net/spec/ogcapi-edr-1/1.0/conf/core"
PLACED = ["utm", "polar"]


def root_of(server):
    return f"{str(server.client.base_url).removesuffix('/datasets/')}/edr"


@pytest.fixture(scope="module")
def root(server):
    return root_of(server)


def ask(address, status=200, **asked):
    answer = httpx.get(address, params=asked or None, timeout=60)
    assert answer.status_code == status, answer.text
    return answer


@pytest.mark.parametrize("address", ["", "/", "?f=json", "?f=application/json"])
def test_the_landing_page_is_at_the_root_with_and_without_a_slash(root, address):
    found = ask(f"{root}{address}").json()
    links = {link["rel"]: link for link in found["links"]}
    assert {"service-doc", "conformance", "data"} <= set(links)
    api = next(link for link in found["links"] if link["rel"] == "service-desc")
    assert api["type"] == "application/vnd.oai.openapi+json;version=3.0"
    assert ask(api["href"]).json()["openapi"].startswith("3.0")
    classes = ask(f"{root}/conformance?f=json").json()["conformsTo"]
    assert CORE in classes
    # with that it would look for locations
    assert CORE.replace("core", "geojson") not in classes


def test_each_collection_has_the_links_and_the_crs_that_are_looked_for(root):
    for summary in ask(f"{root}/collections").json()["collections"]:
        found = ask(f"{root}/collections/{summary['id']}").json()
        relations = {link["rel"] for link in found["links"]}
        assert {"self", "alternate", "data", "collection"} <= relations
        if summary["id"] != "plain":
            assert CRS84 in found["crs"]
            assert found["extent"]["spatial"]["bbox"]
        for each in found["parameter_names"].values():
            assert {"type", "observedProperty"} <= set(each)


def sample(root, name):
    """The description of a collection, the middle of its box, its first parameter and its times."""
    found = ask(f"{root}/collections/{name}").json()
    (west, south, east, north), *_ = found["extent"]["spatial"]["bbox"]
    ((start, end),) = found["extent"]["temporal"]["interval"]
    place = west + (east - west) / 2, south + (north - south) / 2
    return found, place, next(iter(found["parameter_names"])), start, end


def geometry(kind, x, y, half=1):
    low, high = (x - half, y - half), (x + half, y + half)
    ring = [low, (low[0], high[1]), high, (high[0], low[1]), low]
    return {
        "position": f"POINT({x} {y})",
        "area": f"POLYGON(({','.join(f'{a} {b}' for a, b in ring)}))",
        "trajectory": f"LINESTRING({low[0]} {low[1]},{x} {y},{high[0]} {high[1]})",
    }[kind]


@pytest.mark.parametrize("kind", ["position", "area"])
@pytest.mark.parametrize("name", PLACED)
def test_a_query_in_the_listed_format_and_crs_is_answered(root, name, kind):
    assert_answered(root, name, kind)


def test_a_line_in_the_listed_format_is_answered(serve):
    root = root_of(serve("{points: 1000}"))
    for name in PLACED:
        assert_answered(root, name, "trajectory")


def assert_answered(root, name, kind):
    found, place, parameter, start, end = sample(root, name)
    listed = found["data_queries"][kind]["link"]["variables"]
    formats = [each for each in listed["output_formats"] if "CoverageJSON" in each]
    assert formats == [listed["default_output_format"]]
    asked = {
        "parameter-name": parameter, "coords": geometry(kind, *place), "f": formats[0], "datetime": f"{start}/{end}",
        **({"crs": next(crs for crs in found["crs"] if CRS84 in crs)} if kind != "trajectory" else {}),
    }  # fmt: skip
    answer = ask(f"{root}/collections/{name}/{kind}", **asked).json()
    assert answer["type"] in ("Coverage", "CoverageCollection")
    assert parameter in (answer if "ranges" in answer else answer["coverages"][0])["ranges"]


@pytest.mark.parametrize("kind", ["position", "area", "cube", "trajectory"])
def test_each_listed_format_is_understood_by_its_name(root, kind):
    found, (x, y), parameter, start, _ = sample(root, "utm")
    listed = found["data_queries"][kind]["link"]
    if kind == "cube":
        where = {"bbox": f"{x - 0.0005},{y - 0.0005},{x + 0.0005},{y + 0.0005}"}
    else:
        where = {"coords": geometry(kind, x, y, 0.0005)}
    kinds = set()
    for name in listed["variables"]["output_formats"]:
        assert name in found["output_formats"]
        answer = ask(listed["href"], **where, f=name, datetime=start, **{"parameter-name": parameter})
        kinds.add(answer.headers["content-type"].partition(";")[0])
    assert len(kinds) == len(listed["variables"]["output_formats"]) >= 6


@pytest.mark.parametrize("name", PLACED)
def test_positions_are_geojson_and_coveragejson_in_crs84(root, name):
    found, (x, y), parameter, start, end = sample(root, name)
    link = found["data_queries"]["position"]["link"]
    assert "GeoJSON" in link["variables"]["output_formats"]
    asked = {"coords": f"POINT({x} {y})", "crs": "CRS84", "parameter-name": parameter}
    features = ask(link["href"], **asked, f="GeoJSON", datetime=f"{start}/{end}").json()
    assert (features["type"], features["features"][0]["geometry"]["type"]) == ("FeatureCollection", "Point")
    later = np.datetime_as_string(np.datetime64(start.rstrip("Z")) + np.timedelta64(3, "h"), "s")
    coverage = ask(link["href"], **asked, f="CoverageJSON", datetime=f"{start}/{later}Z").json()
    assert coverage["type"] in ("Coverage", "CoverageCollection")


EMPTY = {
    "position": ["", "POINT()"],
    "area": ["", "POLYGON()"],
    "trajectory": ["", "LINESTRING()", "LINESTRINGM()", "LINESTRINGZM()", "LINESTRINGZ()"],
}


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("name", [*PLACED, "globe", "plain"])
def test_empty_coordinates_are_400_everywhere(root, name, kind):
    address = f"{root}/collections/{name}/{kind}"
    ask(address, 400)
    for text in EMPTY[kind]:
        ask(address, 400, coords=text)


@pytest.mark.parametrize("kind", ["position", "area", "cube", "trajectory"])
def test_the_interface_defines_parameters_as_the_standard_does(root, kind):
    document = ask(f"{root}/api").json()
    operation = document["paths"][f"/collections/{{collection_id}}/{kind}"]["get"]
    known = {each["name"]: each for each in operation["parameters"] if each["in"] == "query"}
    first = "bbox" if kind == "cube" else "coords"
    assert {first, "datetime", "parameter-name", "crs", "f", "z", "group"} <= set(known)
    for name, each in known.items():
        assert each["required"] is (name == first)
        assert (each["style"], each["explode"], each["schema"]["type"]) == ("form", False, "string")
