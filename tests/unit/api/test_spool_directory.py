"""Spools of processes that were killed are removed, and nothing else is."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cubegate.api.spool import Spool
from cubegate.api.spool_directory import LOCK, PREFIX, SpoolDirectory

HOLD = """
import sys, time
from cubegate.api.spool import Spool
spool = Spool(100)
(spool._directory.path / "1").write_bytes(b"answer")
print(spool._directory.path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def parent(tmp_path, monkeypatch):
    """The directory for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def left(parent):
    """Make what a killed process leaves."""

    def make(name, *, lock=True):
        directory = parent / f"{PREFIX}{name}"
        directory.mkdir()
        (directory / "1").write_bytes(b"answer")
        if lock:
            (directory / LOCK).touch()
        return directory

    return make


def start_another():
    directory = SpoolDirectory()
    directory.close()
    assert not directory.path.exists()


def test_the_spool_of_a_killed_process_is_removed_and_not_before(parent):
    environment = {**os.environ, "TMPDIR": str(parent)}
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env=environment) as process:
        try:
            said = process.stdout.readline().decode().strip()
            (other,) = parent.iterdir()
            assert str(other) == said
            start_another()
            assert (other / "1").read_bytes() == b"answer"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    start_another()
    assert not list(parent.iterdir())


def test_spools_of_one_process_leave_each_other_alone(parent):
    first, second = Spool(1), Spool(1)
    assert len(list(parent.iterdir())) == 2
    second.close()
    assert first._directory.path.exists()
    first.close()
    assert not list(parent.iterdir())


def test_a_directory_that_is_just_being_made_is_left_alone(left):
    young, old = left("young", lock=False), left("old", lock=False)
    os.utime(old, (time.time() - 86_400,) * 2)
    start_another()
    assert young.exists()
    assert not old.exists()


def test_links_are_not_followed(parent, left):
    precious = parent / "precious"
    left("a").rename(precious)
    (parent / f"{PREFIX}b").symlink_to(precious)
    inside = left("c")
    (inside / "link").symlink_to(precious)
    locked = left("d", lock=False)
    (locked / LOCK).symlink_to(precious / LOCK)
    start_another()
    assert sorted(path.name for path in precious.iterdir()) == ["1", LOCK]
    assert not inside.exists()
    assert locked.exists()


def test_what_belongs_to_somebody_else_is_left_alone(left, monkeypatch):
    theirs = left("theirs")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        start_another()
    assert theirs.exists()
    start_another()
    assert not theirs.exists()


def test_other_directories_are_left_alone(parent, left):
    other = left("a").rename(parent / "cubegate-other")
    start_another()
    assert other.exists()
