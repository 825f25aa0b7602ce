"""Runs the steps of a rechunk by Dask: on threads of this process, or on a cluster of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any

from dask.base import compute
from dask.delayed import delayed

from cubegate.errors import ConfigurationError
from cubegate.rechunk.copying import Done, Endpoints

Work = Callable[[Endpoints, Any], Done]
Opener = Callable[[], AbstractContextManager[Endpoints]]

_KEY = "--scheduler"
_PLUGIN = "cubegate-rechunk"
_SUBMITTED = 1000


class Threads:
    """Runs steps on `count` threads."""

    def __init__(self, endpoints: Endpoints, count: int) -> None:
        self._endpoints, self._count = endpoints, count

    def __call__(self, work: Work, items: Sequence[Any]) -> Iterator[Done]:
        """Yield what came of each item, some at a time."""
        # Dask would look for collections inside of whatever it is given, but a number
        do = delayed(lambda number: work(self._endpoints, items[number]), pure=False)
        numbers = iter(range(len(items)))
        while some := list(islice(numbers, 16 * self._count)):
            yield from compute(*map(do, some), scheduler="threads", num_workers=self._count)


class Cluster:
    """Runs steps on the cluster of the Dask scheduler at `address`.

    Each of its workers calls `opener`, so all of them need cubegate, the configuration at the same path,
    the secrets that it names in their own environment, and the output. Nothing of that is sent.

    Raises:
        ConfigurationError: Dask's distributed is not installed, or no scheduler answers there.
    """

    def __init__(self, address: str, opener: Opener) -> None:
        client = _distributed().Client
        try:
            self._client = client(address, timeout=10, set_as_default=False)
        except (OSError, ValueError):
            mend = "Start one with: dask scheduler"
            raise ConfigurationError(f"no Dask scheduler answers at {address}", key=_KEY, mend=mend) from None
        self._client.register_plugin(_endpoints_plugin(opener), name=_PLUGIN)

    def __call__(self, work: Work, items: Sequence[Any]) -> Iterator[Done]:
        """Yield what came of each item, as it is done."""
        do = partial(_on_worker, work)
        submitted = (self._client.submit(do, item, pure=False) for item in items)
        first = list(islice(submitted, _SUBMITTED))
        running = _distributed().as_completed(first, loop=self._client.loop)
        for future in running:
            yield future.result()
            for more in islice(submitted, 1):
                running.add(more)

    def close(self) -> None:
        """Leave the cluster, which goes on, and close what its workers opened."""
        self._client.unregister_worker_plugin(_PLUGIN)
        self._client.close()


def _distributed() -> Any:
    try:
        return import_module("distributed")
    except ImportError:
        raise ConfigurationError(
            "the package distributed is not installed", key=_KEY, mend="Install cubegate[cluster]."
        ) from None


def _endpoints_plugin(opener: Opener) -> Any:
    base: Any = _distributed().WorkerPlugin

    class Opened(base):  # type: ignore[misc]
        """Holds the endpoints of one worker."""

        name = _PLUGIN

        def setup(self, worker: Any) -> None:  # noqa: ARG002 - given by Dask
            self._held = opener()
            self.endpoints = self._held.__enter__()

        def teardown(self, worker: Any) -> None:  # noqa: ARG002 - given by Dask
            self._held.__exit__(None, None, None)

    return Opened()


def _on_worker(work: Work, item: Any) -> Done:
    endpoints = _distributed().get_worker().plugins[_PLUGIN].endpoints
    return work(endpoints, item)
