"""Whatever a client sends, the server neither fails nor leaves its own OpenAPI document."""

import json
import random

import httpx
import netCDF4
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from kerchunk.combine import MultiZarrToZarr
from pyproj import CRS
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cubegate.app import create_app
from cubegate.settings import load_settings

OPERATIONS = [
    ("/datasets", "GET"),
    ("/datasets/{dataset_id}/zarr/{key}", "GET"),
    ("/datasets/{dataset_id}/zarr-plain/{key}", "GET"),
    ("/datasets/{dataset_id}/timeseries", "GET"),
    ("/datasets/{dataset_id}/timeseries", "POST"),
    ("/datasets/{dataset_id}/subset", "GET"),
    ("/datasets/{dataset_id}/estimate", "GET"),
    ("/datasets/{dataset_id}/description", "GET"),
    ("/datasets/{dataset_id}/statistics", "POST"),
    ("/datasets/{dataset_id}/opendap.dds", "GET"),
    ("/datasets/{dataset_id}/opendap.das", "GET"),
    ("/datasets/{dataset_id}/opendap.dods", "GET"),
    ("/datasets/{dataset_id}/opendap.ascii", "GET"),
    ("/datasets/{dataset_id}/opendap.ver", "GET"),
    ("/datasets/{dataset_id}/opendap.html", "GET"),
    ("/datasets/{dataset_id}/tiles", "GET"),
    ("/datasets/{dataset_id}/tiles/{tileMatrixSet}", "GET"),
    ("/datasets/{dataset_id}/tiles/{tileMatrixSet}/tileMatrixSet", "GET"),
    ("/datasets/{dataset_id}/tiles/{tileMatrixSet}/{z}/{x}/{y}.png", "GET"),
    ("/datasets/{dataset_id}/tilejson.json", "GET"),
    ("/datasets/{dataset_id}/legend.png", "GET"),
    ("/datasets/{dataset_id}/wms", "GET"),
    ("/edr", "GET"),
    ("/edr/conformance", "GET"),
    ("/edr/api", "GET"),
    ("/edr/collections", "GET"),
    ("/edr/collections/{collection_id}", "GET"),
    ("/edr/collections/{collection_id}/position", "GET"),
    ("/edr/collections/{collection_id}/area", "GET"),
    ("/edr/collections/{collection_id}/cube", "GET"),
    ("/edr/collections/{collection_id}/trajectory", "GET"),
    ("/edr/collections/{collection_id}/coverage", "GET"),
    ("/edr/collections/{collection_id}/coverage/domainset", "GET"),
    ("/edr/collections/{collection_id}/coverage/rangetype", "GET"),
    ("/stac", "GET"),
    ("/stac/api", "GET"),
    ("/stac/conformance", "GET"),
    ("/stac/collections", "GET"),
    ("/stac/collections/{collection_id}", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
    ("/metrics", "GET"),
]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

# Values that reach the code behind the parsers, which arbitrary text hardly does: right ones and nearly right ones.
PLAUSIBLE = {
    "dataset_id": ["stack", "stack", "stack", "stack@1", "none"],
    "collection_id": ["stack", "stack", "stack", "stack@1", "none"],
    "parameter-name": ["height", "flag", "height,flag", "days", "x", "none", "", ",", "spatial_ref"],
    "properties": ["height", "flag", "height,flag", "sensor", "x", "none", "", ","],
    "z": ["0", "0", "3", "14", "500", "1/2", "1,2", "R5/1/2", "x", ""],
    "subset": [
        "Lat(36.13:36.15),Lon(-117:-116.99)", "x(500000:500300)", "y(*:3999910)", 'time("2020-01-01":"2020-01-13")', "time(2020-01-13)",
        "Lat(36.14)", "Lat(36.14:36.14),x(1:2)", "Lon(170:-170),Lat(-90:90)", "x(5:1)", "x(nan:inf)", "x()", "x(:)", "x(*)", "none(1)", "x(1:2", "", ",",
        "x(500000:500300),x(1:2)", "E(500000:500300),N(3999700:*)", 'x("a":"b")', "time(2021:2020)", "(((((",
    ],
    "subset-crs": ["EPSG:32611", "native", "OGC:CRS84", "EPSG:3413", "none"],
    "q": ["stack", "made up,none", "none", "", ",", "a" * 2000],
    "limit": ["1", "50", "100", "101", "0", "-1", "x", "", "1e9"],
    "offset": ["0", "1", "5", "-1", "x", "99999999999999999999"],
    "key": ["zarr.json", ".zmetadata", "height/0.0.0", "height/c/1/1/1", "height/9.9.9", "height/", "x", "..", "height/c/-1"],
    "lon": ["-117", "-116.995", "243.005", "0", "181", "361", "nan", "inf", "1e400", "-0", "", "1,2", "\u0663"],
    "lat": ["36.14", "36.1", "90", "-90", "91", "nan", "1e-320", "-1e308", " 36.14"],
    "x": ["0", "2867", "500090", "500000", "500719.99", "0", "1e308", "-inf", "5e5", "0x10"],
    "y": ["0", "6427", "3999910", "4000000", "0", "NaN", "1_000"],
    "coords": ["POINT(-117 36.14)", "POINT(500090 3999910)", "POINT EMPTY", "POINT(1 2 3)", "POINT(nan 1)", "LINESTRING(0 0,1 1)", "POINT(",
        "MULTIPOINT((-117 36.14),(-116.999 36.14))", "MULTIPOINT(-117 36.14,0 0)", "LINESTRING(-117 36.14,-116.995 36.142)", "LINESTRING(-180 0,180 0)",
        "LINESTRINGM(-117 36.14 1578000000,-116.995 36.142 1578700000)", "LINESTRING M(-117 36.14 0,-116.995 36.142 9e99)", "LINESTRING(0 0)",
        "LINESTRINGZ(-117 36.14 1,-116.995 36.142 2)", "LINESTRING(-117 36.14,-117 36.14)", "LINESTRING(500000 4000000,500700 3999400)",
        "POLYGON((-117 36.13,-116.99 36.13,-116.99 36.15,-117 36.13))", "POLYGON((500000 4000000,500700 3999400,500700 4000000,500000 4000000))",
        "POLYGON((0 0,1 1,1 0,0 1,0 0))", "POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))", "POLYGON((0 0,0 0,0 0,0 0))", "POLYGON(())", "POLYGON((",
        "MULTIPOLYGON(((-117 36.13,-116.99 36.13,-116.99 36.15,-117 36.13)))", "POLYGON((-117 36.14,-116.99999 36.14,-117 36.14001,-117 36.14))", ""],
    "crs": ["EPSG:4326", "EPSG:32611", "native", "OGC:CRS84", "EPSG:3413", "EPSG:5773", "EPSG:999999", "+proj=utm", "{}", ""],
    "bbox": [
        "-117,36.13,-116.99,36.15", "500000,3999700,500300,4000000", "170,36,-170,37", "1,1,1,1", "0,0,0", "-180,-90,180,90",
        "-1e308,-1e308,1e308,1e308", "nan,0,1,1", "500090,3999910,500091,3999911", "-inf,-inf,inf,inf",
    ],
    "bbox-crs": ["EPSG:32611", "native", "EPSG:3857", "OGC:CRS84", "EPSG:3413", "none", "+proj=ortho +lon_0=60"],
    "resampling": ["nearest", "bilinear", "average", "mode", "best", ""],
    "variables": ["height", "flag", "height,flag", "height,days,sensor", "days", "x", "none", "", ",", "height,height", "spatial_ref"],
    "datetime": ["2020-01-13", "2020", "../2020-01-05", "2020-01-10/..", "../..", "2021/2020", "0000", "9999-12-31T23:59:60Z", "/", "2020-01-01T00:00:00+14:00/.."],
    "where": [
        "time>=2020-01-10", "time!=2020-01-13,time<2021", "time", "time<60d", "time>2020-02-30", "days<14d", "days!=0", "days<0.5h", "days='x'",
        "sensor='1A'", "sensor!=1A", "sensor<'1A'", "sensor='", "height>0", "none=1", "days<1e999", "days<1e-999", "=", ",", "", "a" * 2000,
    ],
    "mask": [
        "flag", "flag=1", "flag!=1,height>0", "height<=-1e300", "height", "flag>=0.5", "flag=1d", "sensor", "none", "height>'x'", "<1", "",
    ],
    "f": ["html", "geojson", "GeoJSON", "CoverageJSON", "json", "csv", "covjson", "netcdf", "geotiff", "parquet", "png", "xml", "JSON", ""],
    "compress": ["0", "4", "9", "10", "-1", "x", "1e1", ""],
    "group": ["", "/", "none", ".."],
    "bins": ["1", "10", "1000", "1001", "0", "-1", "1e1", "", "x"],
    "range": ["-1,1", "0,0", "1,-1", "nan,1", "0", "1e308,-1e308", "-1e308,1e308", ""],
    "tileMatrixSet": ["native", "native", "WebMercatorQuad", "WorldCRS84Quad", "none", ""],
    "rescale": ["-1,1", "0,1e308", "-1e308,1e308", "1,1", "nan,1", "1", "0,1e-320", "", "0,5e-324"],
    "colormap": ["viridis", "RdBu_r", "twilight", "none", "", "../viridis"],
    "service": ["WMS", "wms", "WFS", ""],
    "request": ["GetMap", "GetFeatureInfo", "GetLegendGraphic", "GetCapabilities", "getmap", "GetTile", ""],
    "version": ["1.3.0", "1.1.1", "1.0.0", "1.3", "x", "", "9" * 50],
    "layers": ["height", "flag", "height,flag", "none", ""],
    "layer": ["height", "flag", "none", ""],
    "query_layers": ["height", "flag", "none", ""],
    "styles": ["", "default", "viridis", "none", ","],
    "style": ["", "default", "viridis", "none"],
    "srs": ["EPSG:4326", "EPSG:32611", "EPSG:5773", "none"],
    "width": ["1", "16", "2048", "2049", "0", "-1", "x", "1e2"],
    "height": ["1", "16", "2048", "2049", "0", "-1", "x"],
    "format": ["image/png", "image/png; mode=8bit", "image/jpeg", ""],
    "info_format": ["application/json", "text/plain", "text/html", "text/xml", ""],
    "transparent": ["TRUE", "false", "x", ""],
    "bgcolor": ["0xFFFFFF", "0x123abc", "red", ""],
    "time": ["2020-01-13", "2020-01-13T00:00:00Z", "2020", "now", "2020-01-13,2020-01-25", "/", ""],
    "i": ["0", "15", "16", "-1", "x"],
    "j": ["0", "15", "16", "-1", "x"],
}  # fmt: skip
POINTS = [
    {"lon": "-116.999", "lat": "36.142"},
    {"x": "500090", "y": "3999910"},
    {"coords": "POINT(500090 3999910)", "crs": "EPSG:32611"},
    {
        "lon": "-116.999",
        "lat": "36.142",
        "variables": "height,days,sensor",
        "where": "sensor!=8",
        "mask": "flag",
    },
]
BOXES = [
    {"variables": "flag"},
    {"bbox": "-117,36.13,-116.99,36.15", "variables": "height"},
    {"bbox": "500000,3999700,500200,4000000", "bbox-crs": "native"},
    {
        "bbox": "-117,36.142,-116.996,36.144",
        "variables": "height",
        "where": "days<7d",
        "mask": "flag!=0,height>-9",
    },
]
EDR = {
    "position": [
        {"coords": "POINT(-116.999 36.142)"},
        {"coords": "MULTIPOINT((-116.999 36.142),(-116.998 36.142))", "f": "geojson", "parameter-name": "height"},
        {"coords": "POINT(500090 3999910)", "crs": "native", "parameter-name": "height", "mask": "flag", "f": "csv"},
    ],
    "area": [
        {"coords": "POLYGON((-117 36.141,-116.994 36.141,-116.994 36.144,-117 36.141))", "parameter-name": "height", "datetime": "2020-01-13"},
        {"coords": "POLYGON((500000 4000000,500200 3999800,500200 4000000,500000 4000000))", "crs": "EPSG:32611", "f": "netcdf"},
    ],
    "cube": [
        {"bbox": "-117,36.142,-116.996,36.144", "parameter-name": "height"},
        {"bbox": "500000,3999700,500200,4000000", "crs": "EPSG:32611", "f": "geotiff", "parameter-name": "height"},
    ],
    "trajectory": [
        {"coords": "LINESTRING(500000 3999800,500040 3999802)", "crs": "EPSG:32611", "parameter-name": "height"},
        {"coords": "LINESTRINGM(500000 3999800 1577900000,500040 3999802 1578700000)", "crs": "EPSG:32611", "f": "csv"},
    ],
    "coverage": [
        {"subset": "x(500000:500300),y(3999700:*)", "properties": "height"},
        {"subset": "Lat(36.142:36.144),Lon(-117:-116.996)", "f": "netcdf", "properties": "height"},
        {"bbox": "-117,36.142,-116.996,36.144", "properties": "flag", "datetime": "2020-01-13"},
    ],
}  # fmt: skip
MAP = {
    "request": "GetMap", "version": "1.3.0", "layers": "height", "styles": "", "crs": "EPSG:4326", "width": "16", "height": "16",
    "bbox": "36.13,-117,36.15,-116.99", "format": "image/png",
}  # fmt: skip
WMS = [
    {"request": "GetCapabilities"},
    MAP,
    {**MAP, "version": "1.1.1", "srs": "EPSG:32611", "bbox": "500000,3999400,500700,4000000", "time": "2020-01-13", "mask": "flag"},
    {**MAP, "request": "GetFeatureInfo", "query_layers": "height", "i": "3", "j": "4", "info_format": "text/plain"},
    {"request": "GetLegendGraphic", "layer": "flag", "format": "image/png", "style": "magma"},
]  # fmt: skip
STATISTICS = [
    {"variables": "flag", "bins": "3"},
    {
        "variables": "flag",
        "bins": "2",
        "range": "-1,1",
        "f": "csv",
        "mask": "height>0",
        "datetime": "2020-01-13",
    },
    {"variables": "flag", "datetime": "2020-01-13/..", "f": "parquet"},
]
ANSWERED = {
    "GET /datasets/{dataset_id}/tilejson.json": [{}, {"variables": "flag", "tileMatrixSet": "native"}],
    "GET /datasets/{dataset_id}/legend.png": [
        {},
        {"variables": "flag", "rescale": "0,2", "colormap": "magma"},
    ],
    "GET /datasets/{dataset_id}/tiles": [{}],
    "GET /datasets/{dataset_id}/wms": WMS,
    "GET /datasets/{dataset_id}/timeseries": POINTS,
    "GET /datasets/{dataset_id}/subset": BOXES,
    "GET /datasets/{dataset_id}/estimate": [*POINTS, *BOXES],
    "POST /datasets/{dataset_id}/timeseries": [{}],
    "POST /datasets/{dataset_id}/statistics": STATISTICS,
    **{f"GET /edr/collections/{{collection_id}}/{kind}": queries for kind, queries in EDR.items()},
}
BODIES = {
    "application/json": [
        {"type": "Point", "coordinates": [-116.999, 36.142]},
        {"type": "Feature", "properties": None, "geometry": {"type": "MultiPoint", "coordinates": [[-117, 36.14], [0, 0]]}},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": None}]},
        {"type": "Point", "coordinates": [1e300, "x"]},
        {"type": "Polygon", "coordinates": []},
        {"type": "FeatureCollection", "features": [[]]},
        {},
    ],
    "text/csv": ["lon,lat\n-116.999,36.142\n", "x,y,id\n500090,3999910,a\n500090,3999910,a\n", "lon,lat\n", "lon\n1", 'x,y\n"1', "", "x,y\nnan,1\n"],
}  # fmt: skip
BODIES["application/geo+json"] = BODIES["application/json"]
POLYGONS = [
    {
        "type": "Polygon",
        "coordinates": [[[-117, 36.139], [-116.994, 36.139], [-116.994, 36.142], [-117, 36.139]]],
    },
    {"type": "MultiPolygon", "coordinates": [[[[-117, 36.1], [-116, 36.1], [-116, 37], [-117, 36.1]]]]},
    {
        "type": "Feature",
        "id": 1,
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 0]]]},
    },
    {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None}]},
    {"type": "Polygon", "coordinates": [[[-200, -95], [200, -95], [200, 95], [-200, 95], [-200, -95]]]},
    {"type": "Polygon", "coordinates": [[[1e299, 0], [1e300, "x"], [0, 0], [1, 1]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [1e200, 0], [1e200, 1e200], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [0, 0], [0, 0], [0, 0]]]},
    *BODIES["application/json"],
]
BODIES_OF = {
    "POST /datasets/{dataset_id}/statistics": dict.fromkeys(
        ["application/json", "application/geo+json"], POLYGONS
    )
}


def write_granule(path, number):
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", 1), ("y", 20), ("x", 24), ("letters", 2)):
            file.createDimension(name, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2020-01-01", 12.0 * number
        for name, values in (("y", 4_000_000 - 30.0 * np.arange(20)), ("x", 500_000 + 30.0 * np.arange(24))):
            variable = file.createVariable(name, "f8", (name,))
            variable.standard_name, variable.units = f"projection_{name}_coordinate", "m"
            variable[:] = values
        days = file.createVariable("days", "i2", ("time",), fill_value=-1)
        days.units, days[:] = "days", [6, -1, 12][number]
        sensor = file.createVariable("sensor", "S1", ("time", "letters"))
        sensor[:] = np.array([["1A", "1B", "8 "][number]], "S2").view("S1").reshape(1, 2)
        file.createVariable("spatial_ref", "i4").setncatts(CRS.from_epsg(32611).to_cf())
        rng = np.random.default_rng(number)
        height = rng.normal(size=(20, 24))
        height[:3] = np.nan
        for name, dtype, values in (("height", "f4", height), ("flag", "u1", rng.integers(0, 3, (20, 24)))):
            options = {"zlib": True, "shuffle": True, "chunksizes": (1, 8, 8)}
            variable = file.createVariable(name, dtype, ("time", "y", "x"), fill_value=False, **options)
            variable.grid_mapping, variable[0] = "spatial_ref", values


@pytest.fixture(scope="module")
def server(tmp_path_factory, scan_granule, serving):
    root = tmp_path_factory.mktemp("schemathesis")
    granules = [root / f"granule{number}.nc" for number in range(3)]
    for number, path in enumerate(granules):
        write_granule(path, number)
    parts = [scan_granule(path, inline_threshold=0) for path in granules]
    same = ["x", "y", "spatial_ref"]
    combined = MultiZarrToZarr(
        parts, concat_dims=["time"], identical_dims=same, remote_protocol="file", inline_threshold=0
    )
    (root / "stack.json").write_text(json.dumps(combined.translate()), "utf-8")
    (root / "stack.yaml").write_text("id: stack\nsource: {kind: kerchunk, href: stack.json}\n")
    (root / "cubegate.yaml").write_text(
        f"upstreams: {{'{root.as_uri()}/': {{}}}}\ncollections: [stack.yaml]\nlimits: {{chunks: 30, points: 3}}\n"
    )
    app = create_app(load_settings(root / "cubegate.yaml", {}), {})
    with serving(app) as url:
        yield url


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(f"{server}/openapi.json")


def test_every_operation_is_tried(schema):
    found = {(result.ok().path, result.ok().method.upper()) for result in schema.get_all_operations()}
    assert found == set(OPERATIONS)


def make_plausible(case, choice):
    """Start from a query that can be answered, where there is one, and put other values in some places."""
    path, query = dict(case.path_parameters or {}), dict(case.query or {})
    for parameter in case.operation.path_parameters:
        if choice.random() < 0.9:
            path[parameter.name] = choice.choice(PLAUSIBLE[parameter.name])
    if choice.random() < 0.9:
        query = dict(choice.choice(ANSWERED.get(case.operation.label, [{}])))
        for parameter in case.operation.query:
            if choice.random() < 0.15:
                query[parameter.name] = choice.choice(PLAUSIBLE[parameter.name])
    case.path_parameters, case.query = path, query
    bodies = BODIES_OF.get(case.operation.label, BODIES)
    if case.media_type in bodies and choice.random() < 0.7:
        case.body = choice.choice(bodies[case.media_type])


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda part: part)
def test_no_request_fails_the_server(schema, path, method):
    operation = schema[path][method]
    choice = random.Random(operation.label)
    failures = []

    @settings(
        max_examples=250 if operation.query else 40,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def send(case):
        make_plausible(case, choice)
        response = case.call()
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as failure:
            failures.append(str(failure))

    send()
    assert failures == []


@pytest.mark.parametrize("label", ANSWERED)
def test_the_requests_that_the_others_are_drawn_from_are_answered(schema, label):
    method, path = label.split()
    operation = schema[path][method]
    for query in ANSWERED[label]:
        bodies = BODIES_OF.get(label, BODIES)
        for media_type in bodies if operation.body else [None]:
            sent = {"media_type": media_type, "body": bodies[media_type][0]} if media_type else {}
            names = {parameter.name: "stack" for parameter in operation.path_parameters}
            case = operation.Case(path_parameters=names, query=query, **sent)
            response = case.call()
            assert response.status_code == 200, (query, sent, response.text)
            case.validate_response(response, checks=CHECKS)


def test_requests_that_once_failed(server):
    for query, status in {
        # nothing on the grid, and so nothing to reproject
        "subset?variables=spatial_ref&crs=EPSG:3413": 400,
        "subset?variables=spatial_ref&bbox=-117,36.13,-116.99,36.15&f=json": 400,
    }.items():
        assert httpx.get(f"{server}/datasets/stack/{query}").status_code == status, query
