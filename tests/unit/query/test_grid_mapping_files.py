"""A grid mapping comes with the data: it must not make PROJ read files."""

import os
import threading

import numpy as np
import pytest
import xarray as xr
from pyproj import CRS, Transformer

from cubegate.query.grid_mapping import find_crs

BASE = 'GEOGCS["a",DATUM["a",SPHEROID["a",6378137,298]{}],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'


def bound(path):
    """NAD27 bound to WGS 84 by a grid, in WKT and PROJJSON."""
    return CRS.from_user_input(f"+proj=longlat +ellps=clrk66 +nadgrids={path} +type=crs")


FORMS = {
    "PROJ, grids": lambda path: f"+proj=longlat +ellps=WGS84 +nadgrids={path} +type=crs",
    "PROJ, optional grids": lambda path: f"+proj=longlat +ellps=WGS84 +nadgrids=us.gsb,@{path} +type=crs",
    "PROJ, grids of heights": lambda path: f"+proj=longlat +ellps=WGS84 +geoidgrids={path} +type=crs",
    "PROJ, init": lambda path: f"+init={path}:1",
    "init": lambda path: f"init={path}:1",
    "WKT": lambda path: BASE.format(f',EXTENSION["PROJ4_GRIDS","{path}"]'),
    "WKT of PROJ": lambda path: BASE.format("").replace(
        "]]", f'],EXTENSION["PROJ4","+proj=longlat +ellps=WGS84 +nadgrids={path}"]]'
    ),
    "WKT 2": lambda path: bound(path).to_wkt(),
    "WKT 2 in lines": lambda path: bound(path).to_wkt(pretty=True),
    "PROJJSON": lambda path: bound(path).to_json(),
    "PROJJSON in lines": lambda path: bound(path).to_json(pretty=True),
}


def dataset(text, key="crs_wkt"):
    return xr.Dataset(
        {"v": (("y", "x"), np.zeros((2, 2)), {"grid_mapping": "m"}), "m": ((), 0, {key: text})},
        {"x": ("x", [0.0, 1.0]), "y": ("y", [0.0, 1.0])},
    )


def find(text, key="crs_wkt"):
    cube = dataset(text, key)
    return find_crs(cube, cube.v.variable, "x", "y", configured=None, lonlat=True)


@pytest.mark.parametrize("key", ["crs_wkt", "spatial_ref"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_no_file_is_opened(tmp_path, form, key):
    # whoever opens a pipe to read it waits until it can be opened to write
    pipe, opened, found = tmp_path / "grid.gsb", [], []
    text = FORMS[form](pipe)
    os.mkfifo(pipe)

    def use():
        crs = find(text, key).crs
        found.append(crs)
        if crs is not None:
            Transformer.from_crs(crs, 32611, always_xy=True).transform(-117, 34)

    using = threading.Thread(target=use)
    using.start()
    while using.is_alive():
        using.join(0.02)
        try:
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        opened.append(form)
    assert opened == []
    assert found == [None]


@pytest.mark.parametrize(
    "text",
    [
        CRS.from_epsg(32611).to_wkt(), CRS.from_epsg(3857).to_wkt("WKT1_GDAL"), CRS.from_epsg(4326).to_json(),
        "+proj=merc +a=6378137 +b=6378137 +nadgrids=@null +wktext +no_defs +type=crs",
        CRS.from_epsg(4267).to_wkt(), "EPSG:3413", CRS.from_epsg(3413).to_json(pretty=True),
        "+proj=longlat +ellps=clrk66 +nadgrids=conus +type=crs", "http://www.opengis.net/def/crs/EPSG/0/4326",
    ],
)  # fmt: skip
def test_what_names_no_path_is_read(text):
    lonlat = CRS.from_user_input(text).is_geographic
    cube = dataset(text)
    assert find_crs(
        cube, cube.v.variable, "x", "y", configured=None, lonlat=lonlat
    ).crs == CRS.from_user_input(text)
