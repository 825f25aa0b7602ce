import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from cubegate.catalog.collection import CollectionFiles
from cubegate.demo import make_demo
from cubegate.errors import ConfigurationError
from cubegate.settings import load_settings

BUILD = "import sys; from pathlib import Path; from rich.console import Console; from cubegate.demo import make_demo; "


def quietly(directory):
    printed = io.StringIO()
    return make_demo(directory, Console(file=printed, width=100)), printed.getvalue()


def digest(path):
    # HDF5 notes the time of writing in the first bytes of a paged file
    start = 128 if path.suffix == ".nc" else 0
    return hashlib.sha256(path.read_bytes()[start:]).hexdigest()


def digests(directory):
    return {str(path.relative_to(directory)): digest(path) for path in directory.rglob("*") if path.is_file()}


def modified(directory):
    return {path.name: path.stat().st_mtime_ns for path in (directory / "granules").iterdir()}


@pytest.fixture
def movable(demo, tmp_path):
    """A copy of the demo at the same absolute path as the original, which is put back afterwards."""
    kept = tmp_path / "kept"
    shutil.copytree(demo, kept, copy_function=shutil.copy2)
    yield demo
    shutil.rmtree(demo, ignore_errors=True)
    kept.rename(demo)


def test_a_second_run_writes_nothing(demo):
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*.nc")}
    _, printed = quietly(demo)
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*.nc")} == before
    assert printed == ""


def test_lost_cut_and_changed_parts_are_made_again(movable):
    before = digests(movable)
    granules = sorted((movable / "granules").iterdir())
    granules[3].unlink()
    os.truncate(granules[5], 1000)
    (movable / ".partial-its-live.zarr").mkdir()
    (movable / ".partial-its-live.zarr" / "junk").write_bytes(b"junk")
    (movable / "its-live.zarr" / "v" / "0.0.0").unlink()
    (movable / "opera-f11116.parq" / "displacement" / "refs.1.parq").unlink()
    untouched = modified(movable)[granules[0].name]
    _, printed = quietly(movable)
    after = digests(movable)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} <= {"demo.json"}
    assert modified(movable)[granules[0].name] == untouched
    assert "14/14" in printed


def test_a_killed_run_is_repaired(movable):
    before = digests(movable)
    lost = sorted((movable / "granules").iterdir())[4:12]
    for path in lost:
        path.unlink()
    with subprocess.Popen(
        [sys.executable, "-c", BUILD + "make_demo(Path(sys.argv[1]), Console(quiet=True))", str(movable)]
    ) as process:
        while not lost[1].exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode != 0
    assert not lost[-1].exists()
    quietly(movable)
    after = digests(movable)
    assert {name for name in after if after.get(name) != before.get(name)} <= {"demo.json"}
    assert set(after) == set(before)


def test_a_moved_directory_gets_new_references_and_keeps_its_granules(movable, tmp_path):
    moved = tmp_path / "with a space"
    movable.rename(moved)
    before = modified(moved)
    config, printed = quietly(moved)
    assert modified(moved) == before
    assert "2/2" in printed
    assert str(movable) not in (moved / "opera-f11116.json").read_text()
    assert moved.as_uri() in (moved / "opera-f11116.json").read_text()
    assert list(load_settings(config, {}).upstreams) == [f"{moved.as_uri()}/"]


def test_an_older_format_is_made_anew(movable):
    marker = movable / "demo.json"
    marker.write_text(marker.read_text().replace('"format": 1', '"format": 0'))
    before = modified(movable)
    with subprocess.Popen(
        [sys.executable, "-c", BUILD + "make_demo(Path(sys.argv[1]), Console(quiet=True))", str(movable)]
    ) as process:
        while modified(movable) == before and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert modified(movable) != before


def test_a_directory_of_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "granules").mkdir()
    (tmp_path / "granules" / "mine.nc").write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match=r"not empty.*--directory"):
        quietly(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.nc"]


def test_without_the_extra_the_error_names_it(tmp_path):
    blocked = BUILD.replace("import sys;", "import sys; sys.modules['h5py'] = None;")
    result = subprocess.run(
        [sys.executable, "-c", blocked + "make_demo(Path(sys.argv[1]), Console())", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ConfigurationError: the demo needs the package h5py" in result.stderr
    assert 'pip install "cubegate[demo]"' in result.stderr


def test_the_configuration_names_three_collections_below_its_upstream(demo):
    config = demo / "cubegate.yaml"
    settings = load_settings(config, {})
    collections = CollectionFiles(settings.collections, settings.directory).read()
    sources = {name: collection.source for name, (_, collection) in collections.items()}
    assert {name: source.kind for name, source in sources.items()} == {
        "opera-f11116": "kerchunk",
        "opera-f11116-json": "kerchunk",
        "its-live": "zarr",
    }
    (prefix,) = settings.upstreams
    for source in sources.values():
        assert source.href.startswith(prefix)
        assert (demo / Path(source.href).name).exists()
    assert all(collection.title for _, collection in collections.values())


def test_the_demo_stays_small(demo):
    assert sum(path.stat().st_size for path in demo.rglob("*") if path.is_file()) < 120e6
