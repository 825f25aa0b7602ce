"""A cube is brought up to date under a running server, and nobody who opened it before reads another value."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.unit.archives.archive import FRAME

from cubegate.app import create_app
from cubegate.archives.update import why_not_appended
from cubegate.catalog import catalog as catalog_module
from cubegate.cli import main
from cubegate.index.file import open_index
from cubegate.index.index import Index
from cubegate.index.table import UNALLOCATED, Column, TextTable
from cubegate.settings import load_settings

CUBE = f"opera-f{FRAME}"


@pytest.fixture
def build(run, tmp_path):
    return lambda: run("build", "opera-disp-s1", "--frame", str(FRAME), "-o", str(tmp_path / "cubes"))


@pytest.fixture
def server(configuration, serving, monkeypatch):
    """Serve the cubes while the context lasts; each request looks at the files. Gives the address."""
    monkeypatch.setattr(catalog_module, "CHECK_INTERVAL", 0.0)

    @contextlib.contextmanager
    def server():
        with serving(create_app(load_settings(configuration, {}), {})) as url:
            yield url

    return server


@pytest.fixture
def frame(archive, publish, build, run, server):
    """Everything that a test does with the archive and its cube."""
    return SimpleNamespace(archive=archive, publish=publish, build=build, run=run, server=server)


def opened(url, name=CUBE):
    return xr.open_zarr(f"{url}/datasets/{name}/zarr", chunks=None, zarr_format=2)


def held(dataset, expected, compared):
    assert np.array_equal(dataset.displacement.values, np.stack(list(expected)))
    compared(dataset.displacement.values)


def test_dates_at_the_end_are_appended_under_a_running_server(frame, compared):
    values = [frame.publish(0), frame.publish(1)]
    before = frame.build()["version"]
    with frame.server() as url:
        old = opened(url)
        values += [frame.publish(2), frame.publish(3)]
        report = frame.run("update", CUBE)
        assert report["outcome"] == "appended"
        assert len(report["added"]) == 2
        after = report["after"]
        held(opened(url), values, compared)
        # whoever opened it before reads what there was, all of it only now
        held(old, values[:2], compared)
        assert list(old.baseline.values) == [0.0, np.float32(11 * 1.5)]
        assert (old.reference_time.values == np.datetime64("2019-12-23T14:07:34")).all()
        assert httpx.get(f"{url}/datasets/{CUBE}/zarr/.zmetadata").status_code == 200
        held(opened(url, f"{CUBE}@{before}"), values[:2], compared)
        held(opened(url, f"{CUBE}@{after}"), values, compared)
        assert frame.run("update", CUBE)["outcome"] == "unchanged"


@pytest.mark.parametrize("change", ["late", "produced again"])
def test_what_would_shift_or_change_chunks_becomes_another_version(frame, compared, change, tmp_path):
    values = {number: frame.publish(number) for number in (0, 2)}
    before = frame.build()["version"]
    with frame.server() as url:
        old = opened(url)
        if change == "late":
            now = [values[0], frame.publish(1), values[2]]
        else:
            now = [values[0], frame.publish(2, production="20260101T000000")]
        report = frame.run("update", str(tmp_path / "cubes" / f"{CUBE}.yaml"))
        assert report["outcome"] == "new version"
        assert len(report["gone"]) == (change != "late")
        after = report["after"]
        # the address without a version stays what it was, for who opened it and for who opens it
        for dataset in (old, opened(url), opened(url, f"{CUBE}@{before}")):
            held(dataset, values.values(), compared)
        held(opened(url, f"{CUBE}@{after}"), now, compared)
        assert frame.run("update", CUBE, "--replace")["outcome"] == "replaced"
        held(opened(url), now, compared)
        held(opened(url, f"{CUBE}@{before}"), values.values(), compared)
        assert frame.run("update", CUBE)["outcome"] == "unchanged"


def test_a_granule_that_was_written_over_is_another_version(frame, scan_granule, tmp_path):
    frame.publish(0)
    frame.publish(1)
    frame.build()
    name = frame.archive.granules[1]
    path = tmp_path / f"{name}.nc"
    path.write_bytes(frame.archive.files[f"{name}.nc"] + b"more")
    frame.archive.granules.remove(name)
    frame.archive.add(name, path, scan_granule(tmp_path / f"{name}.nc", inline_threshold=0))
    report = frame.run("update", CUBE)
    assert report["outcome"] == "new version"
    assert "has other chunks" in report["reason"]


def test_a_version_is_mounted_as_long_as_its_file_is_kept(frame, tmp_path):
    frame.publish(0)
    frame.publish(1)
    before = frame.build()["version"]
    frame.publish(2)
    frame.run("update", CUBE)
    with frame.server() as url:
        assert httpx.get(f"{url}/datasets/{CUBE}@{before}/zarr/.zmetadata").status_code == 200
        (tmp_path / "cubes" / f"{CUBE}.{before}.index").unlink()
        for name in (f"{CUBE}@{before}", f"{CUBE}@{'0' * 16}", f"{CUBE}@..%2Fx", f"{CUBE}@"):
            assert httpx.get(f"{url}/datasets/{name}/zarr/.zmetadata").status_code == 404
        # a file under the name of a version that it is not
        other = "0" * 16
        (tmp_path / "cubes" / f"{CUBE}.{other}.index").write_bytes(
            (tmp_path / "cubes" / f"{CUBE}.index").read_bytes()
        )
        assert httpx.get(f"{url}/datasets/{CUBE}@{other}/zarr/.zmetadata").status_code == 404


def _changed(index, path, column, row, value):
    """Return `index` with another value in one row of the table of an array."""
    table = index.content.tables[path]
    values = getattr(table, column).all().copy()
    values[row] = value
    tables = {**index.content.tables, path: replace(table, **{column: Column(values)})}
    return Index(replace(index.content, tables=tables))


def _with_attributes(index, path, **attributes):
    stored = index.content.arrays[path]
    changed = replace(stored, attributes={**stored.attributes, **attributes})
    return Index(replace(index.content, arrays={**index.content.arrays, path: changed}))


def _without(index, path):
    arrays = {name: array for name, array in index.content.arrays.items() if name != path}
    return Index(replace(index.content, arrays=arrays))


def _with_validators(index):
    validators = TextTable.of(f'"{number}"' for number in range(index.granules))
    return Index(replace(index.content, validators=validators))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda index: index, None),
        (lambda index: _with_attributes(index, "displacement", comment="new"), None),
        # of the table of three dates, the first one of the last chunk
        (
            lambda index: _changed(index, "displacement", "offset", -3, 7),
            "'displacement' has other chunks, 0.2.2",
        ),
        (
            lambda index: _changed(index, "displacement", "length", 0, 7),
            "'displacement' has other chunks, 0.0.0",
        ),
        (lambda index: _changed(index, "displacement", "granule", 0, 1), "'displacement' has other chunks"),
        (lambda index: _changed(index, "displacement", "granule", 0, UNALLOCATED), "has other chunks, 0.0.0"),
        # the date that was added may be anything
        (lambda index: _changed(index, "displacement", "offset", -1, 7), None),
        (lambda index: _with_attributes(index, "displacement", scale_factor=2.0), "has another scale_factor"),
        (lambda index: _with_attributes(index, "time", units="days since 1970-01-01"), "has another units"),
        (lambda index: _with_attributes(index, "displacement", _FillValue=0.0), "has another declared fill"),
        (lambda index: _without(index, "baseline"), "'baseline' is gone"),
        (_with_validators, "has other chunks"),
    ],
)
def test_only_more_of_the_same_is_an_addition(frame, tmp_path, change, reason):
    frame.publish(0)
    frame.publish(1)
    frame.build()
    file = tmp_path / "cubes" / f"{CUBE}.index"
    before = open_index(file)
    frame.publish(2)
    frame.run("update", CUBE)
    found = why_not_appended(before, change(open_index(file)))
    assert (found is None) if reason is None else (found is not None and reason in found)
    assert why_not_appended(open_index(file), before) is not None


def test_an_update_that_fails_leaves_everything_as_it_was(frame, configuration, tmp_path, capsys):
    frame.publish(0)
    frame.build()
    names = {path.name: path.read_bytes() for path in (tmp_path / "cubes").iterdir()}
    frame.publish(1)
    sidecar = f"{frame.archive.granules[1]}.zarr.json.gz"
    frame.archive.broken.add(sidecar)
    assert main(["update", CUBE, "--config", str(configuration)]) == 1
    assert f"1 of 2 granules cannot be used: {frame.archive.granules[1]}" in " ".join(
        capsys.readouterr().err.split()
    )
    kept = {path.name: path.read_bytes() for path in (tmp_path / "cubes").iterdir() if path.is_file()}
    assert kept == names


def test_what_cannot_be_updated_is_said(frame, configuration, tmp_path, capsys):
    frame.publish(0)
    frame.build()
    record = tmp_path / "cubes" / f"{CUBE}.build.json"
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "is no record of a build"),
        (record.read_text().replace('"format": 1', '"format": 7'), "another version of cubegate"),
        (record.read_text().replace("opera-disp-s1", "other"), "whose cubes are not updated"),
        (record.read_text().replace('"frame"', '"farm"'), "does not say what was searched for"),
    ):
        record.write_text(text)
        assert main(["update", CUBE, "--config", str(configuration)]) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    record.unlink()
    assert main(["update", CUBE, "--config", str(configuration)]) == 1
    assert "Build the cube again" in " ".join(capsys.readouterr().err.split())
    assert main(["update", "nothing", "--config", str(configuration)]) == 1
    assert f"There is no cube 'nothing'. Accepted: a collection file, or: {CUBE}" in " ".join(
        capsys.readouterr().err.split()
    )
