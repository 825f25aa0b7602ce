"""One misbehaving upstream, and gateways over it."""

import pytest

from .canaries import LogSearch, Search
from .cube import make_cube
from .upstream import Upstream
from .world import World


@pytest.fixture(scope="session")
def cube():
    return make_cube()


@pytest.fixture
def search():
    """What is said while a test lasts is searched, the log of all loggers included."""
    search = Search()
    with LogSearch(search):
        yield search


@pytest.fixture(scope="session")
def world(cube, tmp_path_factory):
    with Upstream(cube) as upstream:
        yield World(tmp_path_factory.mktemp("world"), cube, upstream)
