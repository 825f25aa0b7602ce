"""Drive QGIS in a process of its own, with a home of its own, and compare its maps with GDAL's warp of the granules."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import numpy as np
from tests.clients.places import RESCALE
from tests.clients.programs import DEBIAN_PYTHON, answers, needs
from tests.clients.screens import Expected

CLIENT = Path(__file__).with_name("qgis_client.py")
NEEDS_QGIS = needs("PyQGIS", answers(DEBIAN_PYTHON, "-c", "import qgis.core"))
COLORMAP = "viridis"
STYLE = f"rescale={RESCALE}&colormap={COLORMAP}"
# below all layers
BACKGROUND = (12, 34, 56)
# in what identifies a pixel, as text
VALUE = re.compile(r"^value = (\S+)$", re.MULTILINE)


def ask(folder, *tasks):
    """Have QGIS do tasks, see `qgis_client.Tasks`; returns its answers, with arrays in place of their names."""
    home = Path(tempfile.mkdtemp(dir=folder))
    (home / "tasks.json").write_text(json.dumps(tasks))
    # far from UTC, as instants are to be understood there too
    environment = {
        "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "QT_QPA_PLATFORM": "offscreen", "TZ": "America/Adak",
        "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    done = subprocess.run(
        [DEBIAN_PYTHON, CLIENT, home], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((home / "answers.json").read_text())
    for answer in found:
        for name in {"pixels", "values", "missing"} & answer.keys():
            answer[name] = np.load(home / answer[name])
    return found


def wms(url, cube, layer, crs, query=STYLE, **more):
    """The source of a WMS layer, as QGIS's dialog writes it."""
    address = f"{url}/datasets/{cube}/wms?{query}" if query else f"{url}/datasets/{cube}/wms"
    return _source(crs=crs, format="image/png", layers=layer, styles="", url=address, **more)


def wms_time(url, cube, layer, crs, dates, **more):
    """The same with a time dimension, whose `dates` QGIS's dialog takes from the capabilities."""
    temporal = {"type": "wmst", "temporalSource": "provider", "allowTemporalUpdates": "true"}
    return wms(url, cube, layer, crs, **temporal, timeDimensionExtent=dates, **more)


def xyz(template, first, last):
    return _source(type="xyz", zmin=first, zmax=last, url=template)


def _source(**parts):
    return ["&".join(f"{name}={quote(str(text), safe=':/{}')}" for name, text in parts.items()), "wms"]


def draw(source, crs, bounds, size, **more):
    """The task of drawing a layer."""
    width, height = size
    return {
        "do": "render", "source": source, "crs": crs, "bounds": bounds, "width": width, "height": height,
        "background": BACKGROUND, **more,
    }  # fmt: skip


def check_map(answer, place, date, frame, compared):
    """Compare a map that is drawn in a `frame`, (CRS, bounds), with the granule; a hundredth of it must show cells."""
    crs, bounds = frame
    assert answer.get("errors") == [], answer
    assert answer["log"] == []
    # else QGIS has shown another box, so that the pixels had the wanted shape
    np.testing.assert_allclose(answer["extent"], bounds, rtol=1e-12)
    height, width = answer["pixels"].shape[:2]
    expected = Expected(place, date, crs, bounds=bounds, size=(width, height))
    assert expected.wrong(answer["pixels"][..., :3], COLORMAP, BACKGROUND) == 0
    assert expected.clear.mean() > 0.7
    assert expected.present.size > 0.01 * width * height
    compared(expected.numbers[expected.clear])


def is_blank(answer):
    return bool((answer["pixels"][..., :3] == BACKGROUND).all())
