"""A catalog over small cubes, whose files are looked at anew whenever it is asked."""

import contextlib

import pytest

from cubegate.app import open_catalog
from cubegate.catalog import catalog as module
from cubegate.settings import load_settings


@pytest.fixture
def stack(make_stack, tmp_path):
    return make_stack(tmp_path / "stack")


@pytest.fixture
def look_always(monkeypatch):
    """Spare the tests the interval between two looks at the files."""
    monkeypatch.setattr(module, "CHECK_INTERVAL", 0.0)


@pytest.fixture
async def opened(tmp_path, write_configuration, look_always):
    """Open a catalog over collections given as YAML."""
    async with contextlib.AsyncExitStack() as closing:

        def opened(more="", **collections):
            file = write_configuration(tmp_path, more, **collections)
            catalog, upstreams, bridge, cache = open_catalog(load_settings(file, {}), {})
            closing.callback(bridge.close)
            closing.push_async_callback(cache.aclose)
            closing.push_async_callback(upstreams.aclose)
            return catalog

        yield opened


@pytest.fixture
def other_stack(make_stack, tmp_path):
    """The same cube with other values."""
    return make_stack(tmp_path / "other", seed=1)
