"""GDAL draws our WMS and our tiles: over the poles and across the antimeridian as rasterio warps the granules, and the demo's cubes by date."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio.crs
from tests.clients.gdal_tools import NEEDS_GDAL, describe, refused, run, subdatasets, translate, warp
from tests.clients.pictures import numbers_of
from tests.clients.places import COLUMNS, DATES, RESCALE, ROWS
from tests.clients.screens import HALF, Expected

pytestmark = NEEDS_GDAL

COLORMAP = "turbo"
STYLE = f"rescale={RESCALE}&colormap={COLORMAP}"
VERSIONS = ("1.3.0", "1.1.1")
WIDTH, HEIGHT = 240, 180


def shown(raster):
    """The value n + 0.5 of each pixel of colour number n, NaN where it is transparent."""
    return numbers_of(np.moveaxis(raster.values, 0, -1), COLORMAP)


def check(raster, place, date, crs, compared):
    """Compare a picture with rasterio's warp of the granule; at least 0.5% of it must show cells."""
    found = shown(raster)
    crs = "EPSG:4326" if crs == "CRS:84" else crs
    assert raster.crs == rasterio.crs.CRS.from_user_input(crs)
    expected = Expected(place, date, crs, bounds=raster.bounds, size=found.shape[::-1])
    np.testing.assert_array_equal(found[expected.clear], expected.numbers[expected.clear])
    assert expected.clear.mean() > 0.6
    assert expected.present.size > 0.005 * found.size
    compared(expected.numbers[expected.clear])


@dataclass(frozen=True)
class Map:
    """A map in a `crs` with the `bounds` (west, south, east, north) and of the `size` (width, height)."""

    crs: str
    bounds: tuple[float, float, float, float]
    size: tuple[int, int] = (WIDTH, HEIGHT)
    version: str = "1.3.0"

    def write(self, folder, address, layer="v"):
        """Write what GDAL calls a minidriver; returns its path. EPSG:4326 is latitude first in 1.3.0."""
        west, south, east, north = self.bounds
        name = "CRS" if self.version == "1.3.0" else "SRS"
        order = "yxYX" if (self.version, self.crs) == ("1.3.0", "EPSG:4326") else "xyXY"
        file = folder / "map.xml"
        file.write_text(f"""<GDAL_WMS>
  <Service name="WMS">
    <Version>{self.version}</Version>
    <ServerUrl>{address.replace("&", "&amp;")}&amp;</ServerUrl>
    <Layers>{layer}</Layers><{name}>{self.crs}</{name}><ImageFormat>image/png</ImageFormat>
    <Transparent>TRUE</Transparent><BBoxOrder>{order}</BBoxOrder>
  </Service>
  <DataWindow>
    <UpperLeftX>{west}</UpperLeftX><UpperLeftY>{north}</UpperLeftY>
    <LowerRightX>{east}</LowerRightX><LowerRightY>{south}</LowerRightY>
    <SizeX>{self.size[0]}</SizeX><SizeY>{self.size[1]}</SizeY>
  </DataWindow>
  <BandsCount>4</BandsCount><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY><OverviewCount>0</OverviewCount>
</GDAL_WMS>""")
        return str(file)


def address_of(url, place, date):
    return f"{url}/datasets/{place.id}/wms?TIME={np.datetime_as_string(DATES[date], 'D')}&{STYLE}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("id_", ["pole", "south", "seam", "aleutians"])
def test_the_capabilities_lead_to_the_whole_of_a_cube(
    *, places, places_url, tmp_path, compared, id_, version
):
    place = places[id_]
    service = (
        f"WMS:{places_url}/datasets/{id_}/wms?SERVICE=WMS&VERSION={version}&FORMAT=image/png&TRANSPARENT=TRUE"
    )
    (layer,) = subdatasets(service, tmp_path)
    assert "LAYERS=v&" in layer
    assert f"{'CRS' if version == '1.3.0' else 'SRS'}={place.crs}&" in layer
    description = describe(layer, tmp_path)
    box = cube_box(place)
    west, _, _, north = box
    origin = description["geoTransform"][0], description["geoTransform"][3]
    np.testing.assert_allclose(origin, (west, north), rtol=1e-9)
    # what it draws at its own size is 1024 pixels wide
    width, height = next(
        each["size"] for each in description["bands"][0]["overviews"] if each["size"][0] == 1024
    )
    raster = translate(f"{layer}&TIME=2020-01-15&{STYLE}", "-outsize", str(width), str(height), cwd=tmp_path)
    np.testing.assert_allclose(raster.bounds, box, rtol=1e-6)
    check(raster, place, 1, place.crs, compared)


def cube_box(place):
    """What the capabilities state: of degrees across the antimeridian the whole world around."""
    west, south, east, north = place.bounds
    return (-180, south, 180, north) if place.id == "seam" else (west, south, east, north)


# of each cube, by CRS, what a map shows: all of it, its middle, and what goes on beyond the antimeridian
MAPS = [
    ("pole", "EPSG:3413", (-2.6e6, -1.6e6, 2.6e6, 1.6e6)),
    ("pole", "EPSG:3995", (-2.9e6, -2.9e6, 2.9e6, 2.9e6)),
    ("pole", "EPSG:3995", (-3e5, -3e5, 3e5, 3e5)),
    ("pole", "EPSG:4326", (-180, 60, 180, 90)),
    ("pole", "EPSG:4326", (150, 85, 210, 90)),
    ("pole", "CRS:84", (-180, 60, 180, 90)),
    ("pole", "EPSG:3857", (-HALF, 9e6, HALF, 2e7)),
    ("pole", "EPSG:3857", (1.7e7, 1.2e7, 2.3e7, 2e7)),
    ("south", "EPSG:3031", (-2.6e6, -1.6e6, 2.6e6, 1.6e6)),
    ("south", "EPSG:3031", (-3e5, -3e5, 3e5, 3e5)),
    ("south", "EPSG:4326", (-180, -90, 180, -60)),
    ("south", "CRS:84", (-210, -90, -150, -80)),
    ("south", "EPSG:3857", (-HALF, -2e7, HALF, -9e6)),
    ("seam", "EPSG:4326", (165, 55, 195, 75)),
    ("seam", "EPSG:4326", (-195, 55, -165, 75)),
    ("seam", "CRS:84", (-180, 55, 180, 75)),
    ("seam", "EPSG:3857", (1.8e7, 7.9e6, 2.2e7, 1.11e7)),
    ("seam", "EPSG:3857", (-2.2e7, 7.9e6, -1.8e7, 1.11e7)),
    ("seam", "EPSG:3413", (-3e6, 1.2e6, -1.2e6, 3e6)),
    ("seam", "EPSG:3995", (-7e5, 2.1e6, 7e5, 3.6e6)),
    ("seam", "EPSG:32601", (-3e5, 6.4e6, 1e6, 7.8e6)),
    ("seam", "EPSG:32660", (0, 6.4e6, 1.3e6, 7.8e6)),
    ("aleutians", "EPSG:32601", (1.9e5, 5.69e6, 4.1e5, 5.83e6)),
    ("aleutians", "EPSG:32660", (6e5, 5.68e6, 8.3e5, 5.84e6)),
    ("aleutians", "EPSG:4326", (178, 51, 182, 53)),
    ("aleutians", "CRS:84", (-182, 51, -178, 53)),
    ("aleutians", "EPSG:3857", (1.99e7, 6.65e6, 2.02e7, 6.9e6)),
    ("aleutians", "EPSG:3413", (-3.16e6, 2.88e6, -2.9e6, 3.15e6)),
    ("aleutians", "EPSG:3995", (-1.2e5, 4.2e6, 1.1e5, 4.4e6)),
]


def versions():
    """Each map in one version of WMS, those in degrees in both, since these differ in the order of the axes."""
    for number, (id_, crs, bounds) in enumerate(MAPS):
        for version in VERSIONS if crs in ("EPSG:4326", "CRS:84") else VERSIONS[number % 2 :][:1]:
            asked = Map(crs, bounds, version=version)
            yield pytest.param(id_, asked, id=f"{number}-{id_}-{crs}-{version}")


@pytest.mark.parametrize(("id_", "asked"), [*versions()])
def test_a_map_is_rasterios_warp(places, places_url, tmp_path, compared, *, id_, asked):
    date = len(asked.crs) % len(DATES)
    file = asked.write(tmp_path, address_of(places_url, places[id_], date))
    check(translate(file, cwd=tmp_path), places[id_], date, asked.crs, compared)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_place_on_a_map_has_its_value(*, places, places_url, tmp_path, compared, version):
    for id_, crs, bounds, (x, y) in (
        ("pole", "EPSG:3413", (-2.6e6, -1.6e6, 2.6e6, 1.6e6), (12_500, -12_500)),
        ("seam", "EPSG:4326", (165, 55, 195, 75), (184.95, 61.05)),
        ("aleutians", "EPSG:32601", (1.9e5, 5.69e6, 4.1e5, 5.83e6), (200_500, 5_800_500)),
    ):
        place = places[id_]
        file = Map(crs, bounds, version=version).write(tmp_path, address_of(places_url, place, 1))
        said = run("gdallocationinfo", "-b", "1", "-geoloc", file, str(x), str(y), cwd=tmp_path)
        column, row = (int(each) for each in ~place.transform @ (x, y))
        truth = place.values(1)[row, column]
        assert f"<value>{truth}</value>" in said
        assert "<time>2020-01-15T00:00:00Z</time>" in said
        compared(truth)


WARPS = [
    ("pole", "EPSG:4326", (-180, 63, 180, 90)),
    ("pole", "EPSG:3995", (-2.9e6, -2.9e6, 2.9e6, 2.9e6)),
    ("south", "EPSG:3857", (-HALF, -2e7, HALF, -9e6)),
    ("seam", "EPSG:3413", (-3e6, 1.2e6, -1.2e6, 3e6)),
    ("seam", "EPSG:32601", (-3e5, 6.4e6, 1e6, 7.8e6)),
    ("aleutians", "EPSG:4326", (178, 51, 182, 53)),
    ("aleutians", "EPSG:32660", (6e5, 5.68e6, 8.3e5, 5.84e6)),
]


@pytest.mark.parametrize(("id_", "crs", "bounds"), WARPS)
def test_gdal_warps_our_map_as_rasterio_does_the_granule(
    *, places, places_url, tmp_path, compared, id_, crs, bounds
):
    """The map has one pixel for each cell, in the cube's own CRS."""
    place = places[id_]
    whole = Map(place.crs, place.bounds, (COLUMNS, ROWS))
    file = whole.write(tmp_path, address_of(places_url, place, 0))
    check(warp(file, crs, bounds, (WIDTH, HEIGHT), cwd=tmp_path), place, 0, crs, compared)


# the zoom, and where the window of pixels begins
TILES = [
    ("pole", 4, (0, HALF)),
    ("pole", 3, (-HALF, HALF)),
    ("south", 3, (-HALF, -1.1e7)),
    ("seam", 7, (HALF - 3e5, 1e7)),
    ("seam", 6, (-HALF, 1e7)),
    ("aleutians", 9, (-HALF, 6.8e6)),
    ("aleutians", 9, (HALF - 5e4, 6.8e6)),
]
# {z}, {x} and {y} of our addresses, in GDAL's writing
TILE_SERVICE = """<GDAL_WMS>
  <Service name="TMS"><ServerUrl>{address}</ServerUrl></Service>
  <DataWindow>
    <UpperLeftX>-{half}</UpperLeftX><UpperLeftY>{half}</UpperLeftY>
    <LowerRightX>{half}</LowerRightX><LowerRightY>-{half}</LowerRightY>
    <TileLevel>{zoom}</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY><YOrigin>top</YOrigin>
  </DataWindow>
  <Projection>EPSG:3857</Projection>
  <BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY><BandsCount>4</BandsCount>
</GDAL_WMS>"""


@pytest.mark.parametrize(("id_", "zoom", "start"), TILES)
def test_tiles_are_rasterios_warp(*, places, places_url, tmp_path, compared, id_, zoom, start):
    address = f"{places_url}/datasets/{id_}/tiles/WebMercatorQuad/${{z}}/${{x}}/${{y}}.png?datetime=2020-01-27&{STYLE}"
    file = tmp_path / "tiles.xml"
    file.write_text(TILE_SERVICE.format(address=address.replace("&", "&amp;"), half=HALF, zoom=zoom))
    pixel = 2 * HALF / 256 / 2**zoom
    left, top = round((start[0] + HALF) / pixel), round((HALF - start[1]) / pixel)
    width = min(WIDTH, 256 * 2**zoom - left)
    window = ("-srcwin", str(left), str(top), str(width), str(HEIGHT))
    check(translate(str(file), *window, cwd=tmp_path), places[id_], 2, "EPSG:3857", compared)


def numbered(values, low, high):
    """The colour number + 0.5 of values, NaN where they are missing."""
    numbers = np.clip(np.floor((values.astype(float) - low) / (high - low) * 255), 0, 254) + 0.5
    return np.where(np.isnan(values), np.nan, numbers)


def test_the_demos_maps_have_the_granules_values_at_each_date(demo_cubes, demo_url, tmp_path, compared):
    service = f"WMS:{demo_url}/datasets/opera-f11116/wms?VERSION=1.3.0&FORMAT=image/png&TRANSPARENT=TRUE"
    layers = subdatasets(service, tmp_path)
    wanted = {"displacement", "short_wavelength_displacement", "temporal_coherence"}
    assert wanted <= {layer.split("LAYERS=")[1].split("&")[0] for layer in layers}
    west, north = demo_cubes.x[0] - 15, demo_cubes.y[0] + 15
    size = demo_cubes.x.size, demo_cubes.y.size
    whole = Map("EPSG:32611", (west, north - 30 * size[1], west + 30 * size[0], north), size)
    for number in (0, 11, 23):
        asked = demo_cubes.dates()[number].strftime("%Y-%m-%dT%H:%M:%SZ")
        address = f"{demo_url}/datasets/opera-f11116/wms?TIME={asked}&rescale=-0.05,0.05&colormap={COLORMAP}"
        raster = translate(whole.write(tmp_path, address, "displacement"), cwd=tmp_path)
        np.testing.assert_allclose(raster.bounds, whole.bounds)
        truth = demo_cubes.displacement(number)
        np.testing.assert_array_equal(shown(raster), numbered(truth, -0.05, 0.05))
        compared(truth)


def test_the_demos_velocities_are_those_of_their_store(demo_cubes, demo_url, tmp_path, compared):
    ice = demo_cubes.ice()
    x, y = ice["x"][:], ice["y"][:]
    number = int(np.argmin(ice["mid_date"][:]))
    day = np.datetime64("1970-01-01") + np.timedelta64(int(ice["mid_date"][number]), "D")
    truth = ice["v"][number].astype(float)
    truth[truth == -32767] = np.nan
    assert np.isfinite(truth).mean() > 0.3
    # so that an integer is in the middle of its colour
    address = f"{demo_url}/datasets/its-live/wms?TIME={day}&rescale=-0.5,254.5&colormap={COLORMAP}"
    whole = Map("EPSG:3413", (x[0] - 60, y[-1] - 60, x[-1] + 60, y[0] + 60), (x.size, y.size))
    found = shown(translate(whole.write(tmp_path, address), cwd=tmp_path))
    np.testing.assert_array_equal(found, numbered(truth, -0.5, 254.5))
    compared(truth)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_refused_is_an_error_and_no_empty_picture(places, places_url, tmp_path, version):
    place = places["pole"]
    whole = Map(place.crs, place.bounds, version=version)
    for address, layer, crs in (
        (address_of(places_url, place, 0).replace("2020-01-03", "2020-01-04"), "v", place.crs),
        (address_of(places_url, place, 0), "w", place.crs),
        (address_of(places_url, place, 0), "v", "EPSG:2154"),
    ):
        file = replace(whole, crs=crs).write(tmp_path, address, layer)
        errors = refused("gdal_translate", "-q", file, "refused.tif", cwd=tmp_path)
        assert "HTTP status code: 400" in errors
        # GDAL shows what the server says of 1.3.0 only
        assert version == "1.1.1" or "ServiceException code=" in errors
