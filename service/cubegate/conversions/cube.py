"""One cube for as long as a command reads all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from cubegate.app import open_catalog
from cubegate.catalog.datacube import Datacube
from cubegate.chunks.upstream import Upstreams
from cubegate.settings import CacheSettings, Settings
from cubegate.store.bridge import LoopThread

# neighbouring blocks may share chunks of the cube
_CACHE_NBYTES = 2**28


@dataclass(frozen=True, eq=False)
class OpenedCube:
    """A cube, the loop that it is read in, and the upstreams that it is read from."""

    cube: Datacube
    bridge: LoopThread
    upstreams: Upstreams


@contextmanager
def opened_cube(settings: Settings, dataset: str) -> Iterator[OpenedCube]:
    """Yield a cube of `settings`, whose cache is in memory alone, and close all that this took.

    Raises:
        NotFound: there is no such dataset, or it is combined of others.
        ConfigurationError, UpstreamError: it cannot be opened.
    """
    reading = settings.model_copy(update={"cache": CacheSettings(memory=_CACHE_NBYTES)})
    catalog, upstreams, bridge, cache = open_catalog(reading, os.environ)
    with ExitStack() as closing:
        closing.callback(bridge.close)
        closing.callback(lambda: bridge.run(cache.aclose()))
        closing.callback(lambda: bridge.run(upstreams.aclose()))
        yield OpenedCube(bridge.run(catalog.stored(dataset)), bridge, upstreams)
