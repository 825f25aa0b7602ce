import io
from pathlib import Path

import pytest
from rich.console import Console

from cubegate.demo import make_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The demo directory, made once; tests that change it work on a copy."""
    directory = tmp_path_factory.mktemp("demo") / "demo-data"
    make_demo(directory, Console(file=io.StringIO()))
    return directory


@pytest.fixture(scope="session")
def granules(demo) -> list[Path]:
    """The granules in the order of their secondary date."""
    return sorted((demo / "granules").iterdir(), key=lambda path: path.name.split("_")[7])
