"""OGC API - EDR: every answer against the standard's schemas, and its values against the arrays."""

import copy
import io
import json
from itertools import pairwise
from pathlib import Path

import h5py
import jsonschema
import numpy as np
import pandas as pd
import pytest
import rasterio
import referencing
import shapely
import xarray as xr
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator
from pyproj import Transformer

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

CONFORMANCE = Path(__file__).parents[3] / "shared" / "data" / "conformance"
BUNDLED = CONFORMANCE / "ogc_edr" / "ogcapi-environmental-data-retrieval-1.bundled.json"
COVJSON = CONFORMANCE / "covjson" / "validator" / "schemas"
EDR_CLASSES = ("core", "collections", "queries", "json", "geojson", "edr-geojson", "covjson", "html", "oas30")

POINT = "POINT(-118.0899 35.2301)"
POINTS = "MULTIPOINT((-118.0899 35.2301),(-118.0951 35.2251))"
TRIANGLE = "POLYGON((-118.096 35.2245,-118.0885 35.226,-118.091 35.234,-118.096 35.2245))"
LINE = "LINESTRING(-118.096 35.2245,-118.0885 35.226,-118.091 35.229)"
# from 2020-01-10 to 2020-06-01
TIMED = "LINESTRINGM(-118.096 35.2245 1578614400,-118.0885 35.226 1585000000,-118.091 35.229 1590969600)"


def in_degrees(code, *places):
    x, y = Transformer.from_crs(code, 4326, always_xy=True).transform(*np.transpose(places))
    return [(float(lon), float(lat)) for lon, lat in zip(x, y, strict=True)]


ON_POLAR = in_degrees(3413, (-232_300, -2_030_700), (-213_200, -2_036_100), (-218_400, -2_018_900))
BOX = "-118.096,35.2245,-118.0885,35.234"


@pytest.fixture
def edr(server):
    """`ask(path, status=200, **parameters)` below `/edr`; `_` in a name is `-`."""
    root = str(server.client.base_url).removesuffix("/datasets/")

    def ask(path="", status=200, headers=None, **parameters):
        query = {name.replace("_", "-"): value for name, value in parameters.items()}
        answer = server.client.get(f"{root}/edr{path}", params=query, headers=headers or {})
        assert answer.status_code == status, answer.text
        return answer

    return ask


def any_of_several(validator, forms, instance, schema):
    """Check `oneOf` as `anyOf`.

    The bundled schemas refuse each CoverageJSON document otherwise, the standard's own examples too: a domain
    with x and y meets both forms of axes, and an array of numbers two of its four.
    """
    return OAS30Validator.VALIDATORS["anyOf"](validator, forms, instance, schema)


EDRValidator = jsonschema.validators.extend(OAS30Validator, {"oneOf": any_of_several})


def mend(document):
    """Write out a schema that references lead through, and allow the geographic reference systems that it forgot."""
    collections = document["paths"]["/collections"]["get"]["responses"]["200"]["content"]["application/json"]
    one = document["paths"]["/collections/{collectionId}"]["get"]["responses"]["200"]["content"]
    collections["schema"]["properties"]["collections"]["items"] = one["application/json"]["schema"]
    content = document["paths"]["/collections/{collectionId}/area"]["get"]["responses"]["200"]["content"]
    coverage = content["application/vnd.cov+json"]["schema"]["properties"]
    del coverage["referencing"]["items"]["properties"]["system"]["oneOf"]
    return document


@pytest.fixture(scope="module")
def conforms():
    """Check a document against the OGC EDR 1.1 schema of an address and media type."""
    if not BUNDLED.is_file():
        pytest.skip("the bundled OGC EDR schema is not here")
    document = mend(json.loads(BUNDLED.read_text("utf-8")))
    registry = referencing.Registry().with_resource(
        "urn:edr", referencing.Resource(document, referencing.jsonschema.DRAFT4)
    )

    def check(found, address, media_type="application/json"):
        path = address.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
        kind = media_type.replace("/", "~1").replace("+", "%2B")
        reference = f"urn:edr#/paths/{path}/get/responses/200/content/{kind}/schema"
        EDRValidator({"$ref": reference}, registry=registry).validate(found)

    return check


@pytest.fixture(scope="module")
def is_covjson(conforms):
    """Check a document against the CoverageJSON schemas, and against that of EDR."""
    contents = [json.loads(file.read_text()) for file in COVJSON.glob("*.json")]
    registry = referencing.Registry().with_resources(
        (content["$id"], referencing.Resource(content, referencing.jsonschema.DRAFT202012))
        for content in contents
    )
    schema = next(content for content in contents if content["$id"] == "/schemas/coveragejson")

    def check(found):
        jsonschema.Draft202012Validator(schema, registry=registry).validate(found)
        conforms(found, "/collections/{collectionId}/area", "application/vnd.cov+json")

    return check


def test_the_schemas_refuse_what_is_wrong(conforms, is_covjson, edr):
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
        assert "covjson" in query["link"]["variables"]["output_formats"]
        assert ("geotiff" in query["link"]["variables"]["output_formats"]) == (kind in ("area", "cube"))
        assert ("geojson" in query["link"]["variables"]["output_formats"]) == (
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
        == {"utm": "EPSG:32611", "polar": "EPSG:3413", "globe": "OGC:CRS84", "plain": "native"}[name]
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
    assert edr("/collections", offset="9").json()["collections"] == []


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


def table(answer):
    return pd.read_csv(io.StringIO(answer.text), comment="#", parse_dates=["time"])


def test_a_point_is_its_pixels_series_in_every_format(edr, decoded, conforms, is_covjson, tmp_path):
    cube = decoded["utm"]
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(-118.0899, 35.2301)
    pixel = cube.sel(x=x, y=y, method="nearest")
    asked = {"coords": POINT, "parameter_name": "displacement,counts"}
    found = edr("/collections/utm/position", **asked).json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "PointSeries"
    assert (found["domain"]["axes"]["x"]["values"], found["domain"]["axes"]["y"]["values"]) == (
        [pixel.x],
        [pixel.y],
    )
    np.testing.assert_array_equal(np.float32(found["ranges"]["displacement"]["values"]), pixel.displacement)
    features = edr("/collections/utm/position", **asked, f="geojson").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert len(features["features"]) == 12
    for feature, time, value, count in zip(
        features["features"],
        pixel.time.to_numpy(),
        pixel.displacement.to_numpy(),
        pixel.counts.to_numpy(),
        strict=True,
    ):
        properties = feature["properties"]
        assert np.datetime64(properties["datetime"].rstrip("Z")) == time
        assert np.float32(properties["displacement"]) == value
        assert properties["counts"] == (None if np.isnan(count) else count)
        assert feature["geometry"]["coordinates"] == pytest.approx([-118.0899, 35.2301], abs=3e-4)
        assert properties["edrqueryendpoint"] == "/edr/collections/utm/position"
        assert properties["parameter-name"] == ["displacement", "counts"]
    rows = table(edr("/collections/utm/position", **asked, f="csv"))
    np.testing.assert_array_equal(rows.displacement.astype("f4"), pixel.displacement)
    file = tmp_path / "position.nc"
    file.write_bytes(edr("/collections/utm/position", **asked, f="netcdf").content)
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(dataset.displacement.to_numpy().reshape(-1), pixel.displacement)


def test_many_points_are_features_each(edr, decoded, conforms, is_covjson):
    cube = decoded["utm"]
    found = edr("/collections/utm/position", coords=POINTS, parameter_name="quality,displacement").json()
    is_covjson(found)
    features = edr("/collections/utm/position", coords=POINTS, f="geojson", datetime="2020-02").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert len(features["features"]) == 4
    to_grid = Transformer.from_crs(4326, 32611, always_xy=True)
    for feature in features["features"]:
        x, y = to_grid.transform(*feature["geometry"]["coordinates"])
        time = np.datetime64(feature["properties"]["datetime"].rstrip("Z"))
        expected = cube.sel(x=x, y=y, method="nearest").sel(time=time)
        assert np.float32(feature["properties"]["displacement"]) == expected.displacement
        assert feature["properties"]["quality"] == expected.quality


def test_what_crs_names_is_of_the_coordinates_and_of_the_answer(edr, decoded, is_covjson):
    pixel = decoded["utm"].isel(x=40, y=20)
    native = edr(
        "/collections/utm/position",
        coords=f"POINT({float(pixel.x) + 9} {float(pixel.y) - 9})",
        crs="EPSG:32611",
        parameter_name="displacement",
    ).json()
    assert native["domain"]["axes"]["x"]["values"] == [float(pixel.x)]
    mercator = Transformer.from_crs(32611, 3857, always_xy=True).transform(float(pixel.x), float(pixel.y))
    found = edr(
        "/collections/utm/position",
        coords=f"POINT({mercator[0]!r} {mercator[1]!r})",
        crs="EPSG:3857",
        parameter_name="displacement",
    ).json()
    is_covjson(found)
    assert found["domain"]["axes"]["x"]["values"] == pytest.approx([mercator[0]], abs=1e-3)
    assert found["domain"]["referencing"][0]["system"]["id"].endswith("/3857")
    np.testing.assert_array_equal(np.float32(found["ranges"]["displacement"]["values"]), pixel.displacement)
    degrees = Transformer.from_crs(32611, 4326, always_xy=True).transform(float(pixel.x), float(pixel.y))
    rows = table(
        edr(
            "/collections/utm/position",
            coords=f"MULTIPOINT({degrees[0]!r} {degrees[1]!r})",
            crs="OGC:CRS84",
            f="csv",
        )
    )
    assert rows.lon.to_numpy() == pytest.approx(degrees[0])
    np.testing.assert_array_equal(rows.displacement.astype("f4"), pixel.displacement)


def in_polygon(cube, code, ring, names=("x", "y")):
    """Which centres lie in a ring given in degrees, its edges drawn by 10,000 points on the grid."""
    closed = shapely.LineString(ring)
    dense = [closed.interpolate(share, normalized=True).coords[0] for share in np.linspace(0, 1, 10_000)]
    corners = Transformer.from_crs(4326, code, always_xy=True).transform(*np.transpose([*dense, *ring]))
    order = np.argsort(
        [
            *np.linspace(0, 1, 10_000),
            *(closed.project(shapely.Point(c), normalized=True) for c in ring[:-1]),
            1.0,
        ],
        kind="stable",
    )
    polygon = shapely.Polygon(np.transpose(corners)[order])
    x, y = np.meshgrid(cube[names[0]], cube[names[1]])
    return shapely.contains_xy(polygon, x, y)


RINGS = {
    "utm": (32611, [(-118.096, 35.2245), (-118.0885, 35.226), (-118.091, 35.234), (-118.096, 35.2245)], "displacement"),
    "polar": (3413, [*ON_POLAR, ON_POLAR[0]], "v"),
}  # fmt: skip


@pytest.mark.parametrize("name", RINGS)
def test_an_area_is_the_cells_whose_centre_lies_inside(edr, decoded, name, is_covjson):
    code, ring, variable = RINGS[name]
    cube = decoded[name]
    inside = in_polygon(cube, code, ring)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert 50 < inside.sum() < 0.8 * rows.size * columns.size
    asked = {"coords": shapely.Polygon(ring).wkt, "parameter_name": variable}
    found = edr(f"/collections/{name}/area", **asked).json()
    is_covjson(found)
    coverages = [found] if found["type"] == "Coverage" else found["coverages"]
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    expected = np.where(inside[box], cube[variable].to_numpy()[:, box[0], box[1]], np.nan)
    time = cube[variable].dims[0]
    for coverage in coverages:
        axes, values = coverage["domain"]["axes"], coverage["ranges"][variable]
        assert axes["x"]["values"] == cube.x.to_numpy()[box[1]].tolist()
        assert axes["y"]["values"] == cube.y.to_numpy()[box[0]].tolist()
        array = np.array([np.nan if cell is None else cell for cell in values["values"]], "f8").reshape(
            values["shape"]
        )
        for text, layer in zip(axes["t"]["values"], array, strict=True):
            same = np.flatnonzero(cube[time].to_numpy() == np.datetime64(text.rstrip("Z")))
            assert any(
                np.array_equal(layer.astype(cube[variable].dtype), expected[number], equal_nan=True)
                for number in same
            )


def test_areas_as_files(edr, decoded, tmp_path):
    code, ring, variable = RINGS["utm"]
    cube, asked = decoded["utm"], {"coords": shapely.Polygon(ring).wkt, "datetime": "2020-03-15"}
    inside = in_polygon(cube, code, ring)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    with rasterio.open(
        io.BytesIO(edr("/collections/utm/area", **asked, parameter_name=variable, f="geotiff").content)
    ) as tiff:
        expected = np.where(inside, cube.displacement.sel(time="2020-03-15"), np.nan)[box]
        np.testing.assert_array_equal(tiff.read(1), expected)
        assert tiff.xy(0, 0) == (cube.x[columns[0]], cube.y[rows[0]])
    file = tmp_path / "area.nc"
    file.write_bytes(edr("/collections/utm/area", **asked, f="netcdf").content)
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        # bytes have no value that means missing
        np.testing.assert_array_equal(dataset.quality, np.where(inside, cube.quality, np.nan)[box])
        assert dataset.quality.dtype == "f4"
        assert h5py.File(file)["displacement"].shape == (1, rows.size, columns.size)
    cells = pd.read_csv(
        io.StringIO(
            edr("/collections/utm/area", coords=asked["coords"], parameter_name="quality", f="csv").text
        ),
        comment="#",
    )
    assert cells.quality.notna().sum() == inside.sum()


def test_holes_and_several_polygons(edr, decoded):
    cube = decoded["utm"]
    outer = shapely.box(400_300, 3_899_000, 401_000, 3_899_700)
    hole, other = (
        shapely.box(400_500, 3_899_200, 400_700, 3_899_400),
        shapely.box(401_500, 3_899_100, 401_600, 3_899_200),
    )
    shape = shapely.MultiPolygon([outer.difference(hole), other])
    cells = pd.read_csv(
        io.StringIO(
            edr(
                "/collections/utm/area", coords=shape.wkt, crs="EPSG:32611", parameter_name="quality", f="csv"
            ).text
        ),
        comment="#",
    )
    x, y = np.meshgrid(cube.x, cube.y)
    inside = shapely.intersects_xy(shape, x, y)
    kept = cells[cells.quality.notna()]
    assert sorted(zip(kept.y, kept.x, strict=True)) == sorted(zip(y[inside], x[inside], strict=True))
    assert sorted(kept.quality) == sorted(cube.quality.to_numpy()[inside])


def test_an_area_over_the_seam_of_longitudes(edr, decoded):
    cube = decoded["globe"].t.sel(level=500).isel(member=1, time=0)
    text = edr(
        "/collections/globe/area",
        coords="POLYGON((-13 -13,13 -13,0 18,-13 -13))",
        z="500",
        member="1",
        f="csv",
    ).text
    cells = pd.read_csv(io.StringIO(text), comment="#")
    cells = cells[cells.time == cells.time.iloc[0]].dropna()
    lon, lat = np.meshgrid((cube.lon + 180) % 360 - 180, cube.lat)
    inside = shapely.intersects_xy(shapely.Polygon([(-13, -13), (13, -13), (0, 18)]), lon, lat)
    assert inside.sum() > 10
    found = {
        (round((x + 180) % 360 - 180, 6), y): value
        for x, y, value in zip(cells.lon, cells.lat, cells.t, strict=True)
    }
    expected = dict(
        zip(zip(lon[inside].round(6), lat[inside], strict=True), cube.to_numpy()[inside], strict=True)
    )
    assert {place: np.float32(value) for place, value in found.items()} == expected


def test_a_cube_is_the_cells_in_the_box(edr, decoded, is_covjson):
    cube = decoded["utm"]
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(*np.meshgrid(cube.x, cube.y))
    west, south, east, north = map(float, BOX.split(","))
    inside = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    found = edr(
        "/collections/utm/cube", bbox=BOX, parameter_name="displacement", datetime="2020-02-03"
    ).json()
    is_covjson(found)
    axes = found["domain"]["axes"]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert set(cube.x.to_numpy()[columns]) <= set(axes["x"]["values"])
    assert set(cube.y.to_numpy()[rows]) <= set(axes["y"]["values"])
    expected = cube.displacement.sel(time="2020-02-03", x=axes["x"]["values"], y=axes["y"]["values"])
    values = [np.nan if cell is None else cell for cell in found["ranges"]["displacement"]["values"]]
    np.testing.assert_array_equal(np.array(values, "f4").reshape(expected.shape), expected)


def test_a_cube_with_heights_and_over_the_antimeridian(edr, decoded):
    cube = decoded["globe"].t.sel(level=850).isel(member=0)
    for asked in (
        {"bbox": "168,-10,-168,10", "z": "850"},
        {"bbox": "168,-10,800,-168,10,900"},
        {"bbox": "168,-10,192,10", "z": "800/900"},
    ):
        found = edr("/collections/globe/cube", **asked, member="0").json()
        assert found["domain"]["axes"]["x"]["values"] == [170, 175, 180, 185, 190]
        expected = cube.sel(lon=[170, 175, 180, 185, 190], lat=slice(10, -10))
        np.testing.assert_array_equal(
            np.float32(found["ranges"]["t"]["values"]), expected.to_numpy().reshape(-1)
        )
    flat = edr(
        "/collections/utm/cube",
        bbox="-118.096,35.2245,0,-118.0885,35.234,100",
        datetime="2020-02-03",
        z="5",
        parameter_name="displacement",
    ).json()
    assert flat["ranges"]["displacement"]["values"]


def test_a_cube_in_another_crs_is_reprojected_as_a_subset_is(edr, server):
    asked = {"datetime": "2020-01-03", "f": "geotiff"}
    found = edr(
        "/collections/utm/cube", bbox=BOX, crs="OGC:CRS84", parameter_name="displacement", **asked
    ).content
    subset = server.client.get(
        "utm/subset", params={"bbox": BOX, "crs": "OGC:CRS84", "variables": "displacement", **asked}
    )
    with rasterio.open(io.BytesIO(found)) as one, rasterio.open(io.BytesIO(subset.content)) as other:
        assert one.transform == other.transform
        assert one.crs.is_geographic
        np.testing.assert_array_equal(one.read(), other.read())


@pytest.mark.parametrize(
    ("name", "line"),
    [("utm", LINE), ("polar", shapely.LineString(ON_POLAR).wkt.replace("LINESTRING (", "LINESTRING("))],
)
def test_a_trajectory_is_the_pixels_along_the_line(edr, decoded, name, line, is_covjson, conforms):  # noqa: PLR0917 - fixtures
    cube = decoded[name]
    code, time, variable = {"utm": (32611, "time", "displacement"), "polar": (3413, "mid_date", "v")}[name]
    asked = {"coords": line, "parameter_name": variable}
    found = edr(f"/collections/{name}/trajectory", **asked).json()
    is_covjson(found)
    coverages = [found] if found["type"] == "Coverage" else found["coverages"]
    vertices = np.array([each.split() for each in line[11:-1].split(",")], float)
    dense = np.concatenate([np.linspace(a, b, 40_000) for a, b in pairwise(vertices)])
    x, y = Transformer.from_crs(4326, code, always_xy=True).transform(*dense.T)
    columns = np.abs(x[:, None] - cube.x.to_numpy()[None]).argmin(1)
    rows = np.abs(y[:, None] - cube.y.to_numpy()[None]).argmin(1)
    cells = np.column_stack([rows, columns])
    runs = cells[np.append(True, (np.diff(cells, axis=0) != 0).any(1))]
    for coverage in coverages:
        composite = coverage["domain"]["axes"]["composite"]
        assert (coverage["domain"]["domainType"], composite["coordinates"]) in (
            ("MultiPointSeries", ["x", "y"]),
            ("Trajectory", ["t", "x", "y"]),
        )
        places = np.array([each[-2:] for each in composite["values"]], float)
        np.testing.assert_array_equal(
            places, np.column_stack([cube.x.to_numpy()[runs[:, 1]], cube.y.to_numpy()[runs[:, 0]]])
        )
        values = coverage["ranges"][variable]
        shape = values.get("shape", [len(places)])
        array = np.array(
            [np.nan if cell is None else cell for cell in values["values"]], cube[variable].dtype
        ).reshape(len(places), -1)
        assert shape[0] == len(places) == len(runs) > 30
        texts = coverage["domain"]["axes"].get("t", {}).get("values") or [composite["values"][0][0]]
        for number, text in enumerate(texts):
            same = np.flatnonzero(cube[time].to_numpy() == np.datetime64(text.rstrip("Z")))
            expected = cube[variable].to_numpy()[same][:, runs[:, 0], runs[:, 1]]
            assert any(np.array_equal(array[:, number], layer, equal_nan=True) for layer in expected)
    features = edr(f"/collections/{name}/trajectory", **asked, f="geojson").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert len(features["features"]) == len(runs) * cube.sizes[time]


def test_a_line_with_times_takes_the_nearest_at_each_pixel(edr, decoded, is_covjson, conforms, tmp_path):
    cube = decoded["utm"]
    asked = {"coords": TIMED, "parameter_name": "displacement"}
    found = edr("/collections/utm/trajectory", **asked).json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "Trajectory"
    assert set(found["domain"]["axes"]) == {"composite"}
    tuples = found["domain"]["axes"]["composite"]["values"]
    values = found["ranges"]["displacement"]["values"]
    vertices = np.array([each.split() for each in TIMED[12:-1].split(",")], float)
    dense = np.concatenate([np.linspace(a, b, 40_000) for a, b in pairwise(vertices)])
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(*dense[:, :2].T)
    seconds = cube.time.to_numpy().astype("M8[s]").astype(int)
    columns, rows = (
        np.abs(x[:, None] - cube.x.to_numpy()).argmin(1),
        np.abs(y[:, None] - cube.y.to_numpy()).argmin(1),
    )
    checked = 0
    for (text, at_x, at_y), value in zip(tuples, values, strict=True):
        there = (cube.x.to_numpy()[columns] == at_x) & (cube.y.to_numpy()[rows] == at_y)
        assert there.any()
        passing = dense[there, 2]
        time = np.datetime64(text.rstrip("Z"), "s").astype(int)
        near = {
            seconds[np.abs(seconds - moment).argmin()]
            for moment in (passing.min(), np.median(passing), passing.max())
        }
        assert time in near
        checked += len(near) == 1
        expected = cube.displacement.sel(time=text.rstrip("Z"), x=at_x, y=at_y)
        assert (np.isnan(expected) and value is None) or np.float32(value) == expected
    assert checked > 30
    assert len({text for text, _, _ in tuples}) > 6
    features = edr("/collections/utm/trajectory", **asked, f="geojson").json()
    conforms(features, "/collections/{collectionId}/area", "application/geo+json")
    assert [feature["properties"]["datetime"] for feature in features["features"]] == [
        text for text, _, _ in tuples
    ]
    rows = table(edr("/collections/utm/trajectory", **asked, f="csv"))
    assert [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in rows.time] == [text for text, _, _ in tuples]
    file = tmp_path / "path.nc"
    file.write_bytes(edr("/collections/utm/trajectory", **asked, f="netcdf").content)
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(
            dataset.displacement, np.array([np.nan if v is None else v for v in values], "f4")
        )
        assert (
            dataset.time.to_numpy() == np.array([text.rstrip("Z") for text, _, _ in tuples], "M8[ns]")
        ).all()


def test_a_line_at_one_time_is_a_trajectory_and_without_times_points(edr, is_covjson):
    found = edr(
        "/collections/utm/trajectory", coords=LINE, parameter_name="displacement", datetime="2020-01-15"
    ).json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "Trajectory"
    assert {each[0] for each in found["domain"]["axes"]["composite"]["values"]} == {"2020-01-15T00:00:00Z"}
    found = edr("/collections/utm/trajectory", coords=LINE, parameter_name="quality").json()
    is_covjson(found)
    assert found["domain"]["domainType"] == "MultiPoint"


def test_conditions_hold_here_too(edr, decoded):
    pixel = decoded["utm"].isel(x=40, y=20)
    coords = f"POINT({float(pixel.x)} {float(pixel.y)})"
    kept = table(
        edr(
            "/collections/utm/position",
            coords=coords,
            crs="native",
            mask="counts>0",
            parameter_name="displacement",
            f="csv",
        )
    )
    expected = pixel.displacement.where(pixel.counts > 0)
    np.testing.assert_array_equal(kept.displacement.astype("f4"), expected)
    dates = table(
        edr(
            "/collections/utm/position",
            coords=coords,
            crs="native",
            where="time>=2020-04-01",
            parameter_name="displacement",
            f="csv",
        )
    )
    assert dates.time.dt.tz_localize(None).tolist() == list(
        pd.to_datetime(pixel.time.sel(time=slice("2020-04-01", None)))
    )


def test_formats_by_name_and_by_header(edr):
    assert (
        edr("/collections/utm/position", coords=POINT).headers["content-type"]
        == "application/prs.coverage+json"
    )
    assert (
        edr("/collections/utm/position", coords=POINT, f="CoverageJSON").headers["content-type"]
        == "application/prs.coverage+json"
    )
    for accept, kind in (
        ("application/geo+json", "application/geo+json"),
        ("text/csv;q=0.5, application/x-netcdf", "application/x-netcdf"),
        ("image/tiff, text/csv;q=0.1", "text/csv; charset=utf-8"),
        ("*/*", "application/prs.coverage+json"),
        ("nonsense;q=x", "application/prs.coverage+json"),
    ):
        answer = edr("/collections/utm/position", coords=POINT, headers={"Accept": accept})
        assert answer.headers["content-type"] == kind
        assert "Accept" in answer.headers["vary"]


def test_answers_have_heads_and_ranges(edr, server):
    answer = edr("/collections/utm/position", coords=POINT)
    url = str(answer.url)
    part = server.client.get(url, headers={"Range": "bytes=2-9"})
    assert (part.status_code, part.content) == (206, answer.content[2:10])
    head = server.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]


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
    ("z", "levels"),
    [("500", [500]), ("400/900", [500, 850]), ("400/600", [500]), ("500,850", [500, 850]), ("850", [850]), ("R3/500/175", [500, 850])],
)  # fmt: skip
def test_levels_in_every_form(edr, decoded, z, levels):
    found = edr("/collections/globe/position", coords="POINT(11 12)", z=z, f="netcdf").content
    with xr.open_dataset(io.BytesIO(found), engine="h5netcdf") as dataset:
        expected = decoded["globe"].t.sel(lon=10, lat=12.5, level=levels)
        assert np.atleast_1d(dataset.level).tolist() == levels
        values = dataset.t if "level" in dataset.t.dims else dataset.t.expand_dims("level")
        np.testing.assert_array_equal(values.transpose("time", "level", "member"), expected)


@pytest.mark.parametrize(
    "path",
    ["/collections/none", "/collections/none/position", "/collections/none/area", "/collections/none/cube", "/collections/none/trajectory",
     "/collections/utm@0000000000000000/position", "/collections/utm/radius", "/collections/utm/corridor", "/collections/utm/locations", "/nothing"],
)  # fmt: skip
def test_what_is_not_there_is_404(edr, path):
    answer = edr(path, status=404, coords=POINT, bbox=BOX)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "asked"),
    [("", {"f": "xml"}), ("/collections", {"limit": "0"}), ("/collections", {"limit": "101"}), ("/collections", {"offset": "-1"}),
     ("/collections", {"limit": "x"}), ("/collections/utm", {"f": "xml"}), ("/conformance", {"what": "1"})],
)  # fmt: skip
def test_documents_refuse_what_they_do_not_know(edr, path, asked):
    problem = edr(path, status=400, **asked).json()
    assert problem["parameter"] == next(iter(asked))


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
