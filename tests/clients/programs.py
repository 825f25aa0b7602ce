"""Clients that pip does not install: which tests drive them, and what happens where one is missing."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

REQUIRED = bool(os.environ.get("CUBEGATE_TEST_CLIENTS"))
# Debian builds QGIS for its own Python
DEBIAN_PYTHON = "/usr/bin/python3"
# the environment of zarr-python before version 3
ZARR2 = Path(__file__).resolve().parents[2] / ".venv-zarr2" / "bin" / "python"


def needs(name, found):
    """Mark tests that drive the client `name`, which is there if `found`, a value or what returns it, is true."""
    return pytest.mark.client(name=name, found=found)


def needs_program(name):
    return needs(name, shutil.which(name))


def answers(*command):
    """Return whether a command exists and ends without an error, asked once and not before a test needs it."""

    @functools.cache
    def found():
        return shutil.which(command[0]) is not None and (
            subprocess.run(command, capture_output=True, check=False).returncode == 0
        )

    return found


def check_clients(item):
    """Skip a test whose client is not there, or fail where all clients are required."""
    for mark in item.iter_markers("client"):
        found = mark.kwargs["found"]
        if found() if callable(found) else found:
            continue
        said = f"{mark.kwargs['name']} is not installed; make clients installs it"
        (pytest.fail if REQUIRED else pytest.skip)(said)
