"""Clients that pip does not install: which tests drive them and how, and what happens where one is missing."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

REQUIRED = bool(os.environ.get("CUBEGATE_TEST_CLIENTS"))
# Debian builds QGIS for its own Python
DEBIAN_PYTHON = "/usr/bin/python3"
_ROOT = Path(__file__).resolve().parents[2]
# the environment of zarr-python before version 3
ZARR2 = _ROOT / ".venv-zarr2" / "bin" / "python"
# the packages of zarrita, for node and for browsers
ZARRITA = _ROOT / ".zarrita" / "node_modules"


def needs(name, found):
    """Mark tests that drive the client `name`, which is there if `found`, a value or what returns it, is true."""
    return pytest.mark.client(name=name, found=found)


def needs_program(name):
    return needs(name, shutil.which(name))


NEEDS_ZARRITA = [needs("zarrita", ZARRITA.exists()), needs_program("node")]


def answers(*command):
    """Return whether a command exists and ends without an error, asked once and not before a test needs it."""

    @functools.cache
    def found():
        return shutil.which(command[0]) is not None and (
            subprocess.run(command, capture_output=True, check=False).returncode == 0
        )

    return found


def ended(command, cwd):
    """Run a program to its end in `cwd`; returns its exit status and what it says."""
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def check_clients(item):
    """Skip a test whose client is not there, or fail where all clients are required."""
    for mark in item.iter_markers("client"):
        found = mark.kwargs["found"]
        if found() if callable(found) else found:
            continue
        said = f"{mark.kwargs['name']} is not installed; make clients installs it"
        (pytest.fail if REQUIRED else pytest.skip)(said)
