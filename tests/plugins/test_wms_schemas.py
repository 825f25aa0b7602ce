"""WMS documents against OGC's schemas: the XSD of 1.3.0 and the DTD of 1.1.1."""

import io

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from pyproj import CRS
from tests.wms_schemas import NEW, OLD, WMS, WMSSchemas

from cubegate.app import create_app
from cubegate.settings import load_settings
from cubegate.tiling.legend import draw_legend, legend_size
from cubegate.tiling.style import Categories, Style

VERSIONS = pytest.mark.parametrize("version", [NEW, OLD])
METRES = {"units": "m"}


@pytest.fixture(scope="module")
def schemas():
    return WMSSchemas()


def ask(server, name, version, status=200, request="GetCapabilities", **more):
    asked = {"SERVICE": "WMS", "REQUEST": request, "VERSION": version, **more}
    answer = server.client.get(f"/{name}/wms", params=asked)
    assert answer.status_code == status, answer.text
    return answer


@VERSIONS
@pytest.mark.parametrize("name", ["utm", "polar", "globe"])
def test_capabilities_are_valid(server, schemas, name, version):
    root = schemas.capabilities(ask(server, name, version).content, version)
    assert len(root.findall(f".//{WMS if version == NEW else ''}Style")) > 5


@VERSIONS
def test_what_is_broken_is_found(server, schemas, version):
    text = ask(server, "utm", version).text
    for whole, part in (("<Request>", "<Requests>"), ("<Name>WMS</Name>", ""), ("<Name>OGC:WMS</Name>", "")):
        broken = text.replace(whole, part).replace(whole.replace("<", "</"), part.replace("<", "</"))
        if broken == text:
            continue
        with pytest.raises(AssertionError):
            schemas.capabilities(broken.encode(), version)
    report = ask(server, "utm", version, 400, "GetMap").text
    with pytest.raises(AssertionError):
        schemas.exception(report.replace("ServiceException", "Exception").encode(), version)


BAD = [
    ("utm", {"request": "GetMap"}, 400),
    ("utm", {"request": "GetMap", "LAYERS": "none"}, 400),
    ("utm", {"request": "GetMap", "LAYERS": "a<&\x1b\"'\udfff", "FORMAT": "image/png"}, 400),
    ("utm", {"request": "GetMap", "LAYERS": "v", "FORMAT": "image/jpeg"}, 400),
    ("utm", {"request": "GetTile"}, 400),
    ("utm", {"request": "GetFeatureInfo"}, 400),
    ("utm", {"request": "GetLegendGraphic", "LAYER": "none"}, 400),
    ("utm", {"SERVICE": "WFS"}, 400),
    ("utm", {"group": "none"}, 404),
    ("plain", {}, 400),
]


@VERSIONS
@pytest.mark.parametrize(("name", "asked", "status"), BAD, ids=range(len(BAD)))
def test_exceptions_are_valid(server, schemas, version, *, name, asked, status):
    asked = {key: text.encode("utf-8", "replace").decode() for key, text in asked.items()}
    answer = ask(server, name, version, status, **asked)
    (exception,) = schemas.exception(answer.content, version)
    assert exception.text


def test_an_exception_over_the_budget_is_valid(serve, schemas):
    server = serve("{tile_chunks: 1}")
    asked = {"LAYERS": "displacement", "STYLES": "", "FORMAT": "image/png", "WIDTH": "99", "HEIGHT": "99"}
    box = {"CRS": "EPSG:32611", "BBOX": "400000,3898215,402400,3900015"}
    schemas.exception(ask(server, "utm", NEW, 413, "GetMap", **asked, **box).content, NEW)


def make_odd():
    """Flags, an axis of texts, one without a coordinate, irregular times, and a title that XML has to escape."""
    random = np.random.default_rng(3)
    flags = {
        "flag_values": np.arange(9, dtype="i1"),
        "flag_meanings": " ".join(f"kind_{number}" for number in range(9)),
        "grid_mapping": "mapping",
    }
    speed = {"long_name": 'Speed < 3 & "more"', "units": "m/y", "grid_mapping": "mapping"}
    dims = ("time", "band", "run", "y", "x")
    times = np.datetime64("2001-01-01T00:00:00.123456789", "ns") + np.cumsum(random.integers(1, 10**15, 40))
    cube = xr.Dataset(
        {
            "speed": (dims, random.normal(size=(40, 2, 3, 8, 9)).astype("f4"), speed),
            "kind": (("y", "x"), random.integers(0, 9, (8, 9)).astype("i1"), flags),
        },
        {
            "time": times,
            "band": ("band", np.array(["red & hot", "nir"])),
            "x": ("x", 400_015 + 30.0 * np.arange(9), {"standard_name": "projection_x_coordinate", **METRES}),
            "y": (
                "y",
                3_900_000 - 30.0 * np.arange(8),
                {"standard_name": "projection_y_coordinate", **METRES},
            ),
        },
    )
    cube["mapping"] = ((), np.int32(0), CRS.from_epsg(32611).to_cf())
    return cube


@pytest.fixture(scope="module")
def odd(cubes, tmp_path_factory, running):
    """A server over `odd`, `polar`, and both as one in `both`."""
    directory = tmp_path_factory.mktemp("odd")
    for name, cube in (("odd", make_odd()), ("polar", cubes["polar"])):
        cube.to_zarr(directory / f"{name}.zarr", zarr_format=2)
    sources = {
        name: f'{{kind: zarr, href: "{(directory / f"{name}.zarr").as_uri()}"}}' for name in ("odd", "polar")
    }
    for name, source in {**sources, "both": "{kind: combined, members: [odd, polar]}"}.items():
        (directory / f"{name}.yaml").write_text(f"id: {name}\ntitle: '<{name}> & more'\nsource: {source}\n")
    (directory / "cubegate.yaml").write_text(
        f'upstreams: {{"{directory.as_uri()}/": {{}}}}\ncollections: [odd.yaml, polar.yaml, both.yaml]\n'
    )
    with running(create_app(load_settings(directory / "cubegate.yaml", {}), {})) as client:
        yield type("Server", (), {"client": client})


@VERSIONS
@pytest.mark.parametrize(("name", "layers"), [("odd", ["kind", "speed"]), ("both", ["kind", "speed", "v"])])
def test_odd_and_combined_cubes_have_valid_capabilities(odd, schemas, version, *, name, layers):
    root = schemas.capabilities(ask(odd, name, version).content, version)
    space = WMS if version == NEW else ""
    assert root.findtext(f"{space}Service/{space}Title") == f"<{name}> & more"
    found = {each.findtext(f"{space}Name"): each for each in root.iterfind(f".//{space}Layer/{space}Layer")}
    assert sorted(found) == layers
    assert found["speed"].findtext(f"{space}Title") == 'Speed < 3 & "more" (m/y)'
    stated = {each.get("name"): each.get("default") for each in found["speed"].findall(f"{space}Dimension")}
    assert set(stated) == {"time", "band", "run"}
    extent = "Dimension" if version == NEW else "Extent"
    values = {each.get("name"): each.text for each in found["speed"].findall(f"{space}{extent}")}
    assert (values["band"], values["run"]) == ("red & hot,nir", "0,1,2")
    assert values["time"].count(",") == 39


@VERSIONS
def test_the_size_of_each_legend_is_as_stated(odd, schemas, version):
    root = schemas.capabilities(ask(odd, "odd", version).content, version)
    space = WMS if version == NEW else ""
    sizes = {}
    for legend in root.iterfind(f".//{space}LegendURL"):
        address = legend.find(f"{space}OnlineResource").get("{http://www.w3.org/1999/xlink}href")
        if any(f"style={name}" in address for name in ("default", "viridis")):
            answer = odd.client.get(address)
            assert answer.headers["content-type"] == legend.findtext(f"{space}Format") == "image/png"
            stated = int(legend.get("width")), int(legend.get("height"))
            sizes[address] = Image.open(io.BytesIO(answer.content)).size
            assert sizes[address] == stated
    assert len(sizes) == 4
    assert len(set(sizes.values())) == 2


@pytest.mark.parametrize("count", [1, 2, 4, 39, 60, 61])
def test_legends_of_categories_have_the_size_that_is_told(count):
    layer = type("Layer", (), {"title": "Kinds", "units": ""})
    style = Categories(tuple(map(float, range(count))), tuple("abcdefghij"[n % 10] for n in range(count)))
    assert Image.open(io.BytesIO(draw_legend(layer, style))).size == legend_size(style)


def test_a_legend_of_a_scale_has_the_size_that_is_told():
    layer = type("Layer", (), {"title": "Speed", "units": "m"})
    style = Style("viridis", 0.0, 1.0)
    assert Image.open(io.BytesIO(draw_legend(layer, style))).size == legend_size(style) == legend_size(None)
