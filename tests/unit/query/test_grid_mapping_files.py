"""A grid mapping comes with the data: it must not make PROJ read files."""

import contextlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
from pyproj import CRS

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


def dataset(text):
    return xr.Dataset(
        {"v": (("y", "x"), np.zeros((2, 2)), {"grid_mapping": "m"}), "m": ((), 0, {"crs_wkt": text})},
        {"x": ("x", [0.0, 1.0]), "y": ("y", [0.0, 1.0])},
    )


SCRIPT = """
import json, sys, warnings
import numpy as np, xarray as xr
from pyproj import Transformer
from cubegate.query.grid_mapping import find_crs

warnings.simplefilter("ignore")
for text in json.loads(sys.argv[1]):
    for key in ("crs_wkt", "spatial_ref"):
        mapping = xr.Dataset(
            {"v": (("y", "x"), np.zeros((2, 2)), {"grid_mapping": "m"}), "m": ((), 0, {key: text})},
            {"x": ("x", [0.0, 1.0]), "y": ("y", [0.0, 1.0])},
        )
        crs = find_crs(mapping, mapping.v.variable, "x", "y", configured=None, lonlat=True).crs
        if crs is not None:
            Transformer.from_crs(crs, 32611, always_xy=True).transform(-117, 34)
        print("none" if crs is None else "one")
"""


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_no_file_is_opened(tmp_path):
    # whoever opens a pipe to read it waits until it can be opened to write
    pipes = {form: tmp_path / f"{number}.gsb" for number, form in enumerate(FORMS)}
    texts = [FORMS[form](pipe) for form, pipe in pipes.items()]
    for pipe in pipes.values():
        os.mkfifo(pipe)
    command = [sys.executable, "-c", SCRIPT, json.dumps(texts)]
    opened = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(0.02)
            for form, pipe in pipes.items():
                with contextlib.suppress(OSError):
                    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                    opened.add(form)
        found = process.stdout.read().split()
    assert opened == set()
    assert found == ["none"] * 2 * len(FORMS)


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
