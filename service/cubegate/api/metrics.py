"""What the server counts: /metrics, and the counting of HTTP requests."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cubegate.api.dependencies import Services, services
from cubegate.metrics.metrics import Metrics

# In the scope of a request: its route template, where a busy route spares others to find it.
ROUTE = "cubegate.route"
UNMATCHED = "unmatched"
ABORTED = "aborted"
REFRESH_SECONDS = 1.0

_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_TEXT = {"schema": {"type": "string"}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The metrics of all workers",
        "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
    }
}

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="What the server counts, for Prometheus",
    response_class=PlainTextResponse,
    responses=_RESPONSES,
)
def read_metrics(request: Request, found: Annotated[Services, Depends(services)]) -> Response:
    """Answer in the text format, or as OpenMetrics where that is asked for."""
    body, media_type = found.metrics.exposition(request.headers.get("accept", ""))
    return Response(body, media_type=media_type, headers={"Cache-Control": "no-store", "Vary": "Accept"})


@asynccontextmanager
async def refreshed(metrics: Metrics) -> AsyncIterator[None]:
    """Take the watched numbers anew every second, for the workers that are asked in place of this one."""

    async def refresh() -> None:
        while True:
            metrics.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    task = asyncio.create_task(refresh())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class RouteTemplates:
    """Finds the route template that a path belongs to, without asking the router.

    What ends in a placeholder also stands for longer paths, and for the one that ends before it, since a
    template does not tell whether its last placeholder takes slashes.
    """

    def __init__(self, templates: Iterable[str]) -> None:
        self._templates = sorted(set(templates), key=lambda template: -len(_PLACEHOLDER.sub("", template)))
        self._match = re.compile("|".join(map(_pattern, self._templates)), re.DOTALL).fullmatch

    def of(self, path: str) -> str:
        """Return the template of `path`, or `UNMATCHED`."""
        found = self._match(path)
        return UNMATCHED if found is None or found.lastindex is None else self._templates[found.lastindex - 1]


def _pattern(template: str) -> str:
    head, slash, last = template.rpartition("/")
    pattern, tail = (head, "(?:/.*)?") if _PLACEHOLDER.fullmatch(last) else (head + slash + last, "")
    return f"({'[^/]+'.join(map(re.escape, _PLACEHOLDER.split(pattern)))}{tail})"


class RequestMetrics:
    """Counts every request and its time, by the templates of `templates`, which is called once.

    A request counts before its last byte is sent, so that whoever has seen the answer finds it counted.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, templates: Callable[[], Iterable[str]]) -> None:
        self._app = app
        self._answered = metrics.requests.answered
        self._template_of = RouteTemplates(templates()).of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; what ends without its last byte counts as aborted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int | str | None = ABORTED

        # returns what is to be awaited: a coroutine more for each message would double the cost
        def watched(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status is not None and not message.get("more_body"):
                self._count(scope, status, started)
                status = None
            return send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if status is not None:
                self._count(scope, ABORTED, started)

    def _count(self, scope: Scope, status: int | str, started: float) -> None:
        route = scope.get(ROUTE) or self._template_of(scope["path"])
        self._answered(route, scope["method"], status, time.perf_counter() - started)
