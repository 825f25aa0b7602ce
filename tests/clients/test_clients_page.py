"""Runs every block of the clients' page as printed, each with the client that it is for, and looks for the granule's value in what it prints."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyproj
import pytest
from tests.clients.chromium import LONGEST, PROGRAM, chromium
from tests.clients.programs import DEBIAN_PYTHON, ZARR2, ZARRITA, answers, needs, needs_program

from cubegate.demo.lines import LAT, LON

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "clients.md"
PRINTED = "http://127.0.0.1:8000"
BLOCK = re.compile(
    r"^## (?P<title>[^\n]+)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:[eE][-+]?\d+)?(?![\w.])")
UNTRIED = ("julia", "matlab")
# what a first line names, where it is not what runs the language
PYTHONS = {
    "# PyQGIS": (DEBIAN_PYTHON, needs("PyQGIS", answers(DEBIAN_PYTHON, "-c", "import qgis"))),
    "# zarr 2": (ZARR2, needs("zarr 2", ZARR2.exists())),
}


def blocks():
    """The title of the section, the language and the text of each block of the page."""
    title, counts = "", Counter()
    for found in BLOCK.finditer(PAGE.read_text()):
        if found["title"]:
            title = found["title"]
            continue
        counts[title] += 1
        name = f"{title} {counts[title]}" if counts[title] > 1 else title
        yield name, found["language"], found["text"]


def cases():
    for name, language, text in blocks():
        if language not in UNTRIED:
            yield pytest.param(language, text, id=name, marks=client(language, text))


def client(language, text):
    """What a block is run with has to be installed."""
    first = text.splitlines()[0]
    if language == "python":
        return PYTHONS[first][1] if first in PYTHONS else ()
    if language == "html":
        return needs("chromium", PROGRAM)
    if language == "js":
        return needs("zarrita", shutil.which("node") and (ZARRITA / "zarrita").exists())
    if language == "r":
        return needs("R's terra", answers("Rscript", "-e", "library(terra)"))
    return [needs_program(word) for word in sorted(set(re.findall(r"^\w+(?= )", text, re.MULTILINE)))]


def command(language, text, directory):
    if language == "python":
        interpreter = PYTHONS.get(text.splitlines()[0], (sys.executable,))[0]
        return [str(interpreter), "-c", text]
    if language == "js":
        (directory / "node_modules").symlink_to(ZARRITA)
        (directory / "lines.mjs").write_text(text)
        return ["node", "lines.mjs"]
    if language == "r":
        (directory / "lines.R").write_text(text)
        return ["Rscript", "lines.R"]
    return ["bash", "-euo", "pipefail", "-c", text]


@pytest.fixture
def value(demo_cubes):
    """The displacement of the demo's pixel on the last date, which all blocks ask for."""
    x, y = pyproj.Transformer.from_crs(4326, 32611, always_xy=True).transform(LON, LAT)
    return demo_cubes.series(x, y)[-1]


@pytest.mark.parametrize(("language", "text"), [case for case in cases() if case.values[0] != "html"])
def test_lines_print_the_value_of_the_granule(language, text, value, demo_url, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        command(language, text.replace(PRINTED, demo_url), home), cwd=home, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "HOME": str(home), "QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(home)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    numbers = np.array([float(found) for found in NUMBER.findall(done.stdout)])
    # some print six digits behind the point
    assert np.isclose(numbers, value, rtol=0, atol=6e-7).any(), (value, done.stdout, done.stderr)


@pytest.mark.parametrize(("language", "text"), [case for case in cases() if case.values[0] == "html"])
def test_pages_show_a_map(language, text, demo_url, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text(text.replace(PRINTED, demo_url))
    if ZARRITA.exists():
        (folder / "node_modules").symlink_to(ZARRITA)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        chromium(tmp_path / "chromium") as page,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page.open(f"http://127.0.0.1:{server.server_port}/")
            # the page says so itself
            deadline = time.monotonic() + LONGEST
            while not page.logs:
                assert time.monotonic() < deadline, page.errors
                page.run("new Promise((done) => setTimeout(done, 50))")
            assert page.errors == []
        finally:
            server.shutdown()


def test_what_is_untried_says_so():
    text = PAGE.read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    for language in UNTRIED:
        (section,) = [each for each in sections if f"```{language}\n" in each]
        assert "untried" in section.casefold()
