"""Merges what many tasks ask for in one turn of the event loop, so that it takes one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batching(Generic[Item, Result]):
    """Calls `work` once with the entries of all calls that came in before it could start.

    All of them get its result. It belongs to one event loop; a cancelled caller does not stop
    the work for the others.
    """

    def __init__(self, work: Callable[[Mapping[str, Item]], Awaitable[Result]]) -> None:
        self._work = work
        self._waiting: dict[str, Item] = {}
        self._next: asyncio.Task[Result] | None = None

    async def join(self, entries: Mapping[str, Item]) -> Result:
        """Return the result of the call of `work` that `entries` are part of."""
        self._waiting.update(entries)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> Result:
        entries, self._waiting, self._next = self._waiting, {}, None
        return await self._work(entries)
