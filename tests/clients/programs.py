"""Clients that pip does not install: what `make test` skips without them, and `make test-clients` does not."""

import os
import shutil
import subprocess

import pytest

REQUIRED = bool(os.environ.get("CUBEGATE_TEST_CLIENTS"))
# Debian builds QGIS for its own Python
DEBIAN_PYTHON = "/usr/bin/python3"


def needs(name, found):
    """Mark tests that drive the client `name`; where it is not there they skip, or fail if all clients are required."""
    return pytest.mark.skipif(
        not found and not REQUIRED, reason=f"{name} is not installed; make test-clients installs it"
    )


def needs_program(name):
    return needs(name, shutil.which(name))


def answers(*command):
    """Whether a command exists and ends without an error."""
    return shutil.which(command[0]) is not None and (
        subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
