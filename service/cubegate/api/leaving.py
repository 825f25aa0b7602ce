"""Work for a client ends when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive

T = TypeVar("T")

# What nginx counts such requests as; nobody is there to see it.
LEFT = 499


class ClientLeft(Exception):
    """The client closed the connection before its answer was there."""

    def answer(self) -> Response:
        """Return what stands for an answer, in the metrics and nowhere else."""
        return Response(status_code=LEFT)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which is cancelled when the client leaves.

    The request's body has been read, or does not matter: what `receive` gives is dropped.

    Raises:
        ClientLeft: it did.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_leave(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeft
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
