"""The short way for busy paths: from the server to the application that answers, past the framework."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cubegate.api.metrics import ROUTE
from cubegate.api.problems import ErrorBoundary

_LARGEST_ORIGIN = 256
_MAX_ORIGINS = 256


@runtime_checkable
class AnswersDirectly(Protocol):
    """A plugin of which some routes need nothing of the framework."""

    def direct_applications(self) -> Mapping[str, ASGIApp]:
        """Return by name what answers GET and HEAD of `/datasets/{dataset_id}/<name>/{key}`.

        An application finds `dataset_id` and `key` among its scope's path parameters, raises
        nothing on purpose, and is mounted by the plugin's own routes too.
        """
        ...


def direct_applications(plugins: Iterable[object]) -> dict[str, ASGIApp]:
    """Return the applications of all `plugins` that answer directly, by name."""
    found: dict[str, ASGIApp] = {}
    for plugin in plugins:
        if isinstance(plugin, AnswersDirectly):
            found |= plugin.direct_applications()
    return found


class DirectRoutes:
    """Passes GET and HEAD of the paths of `applications` to them, and all else to `app`.

    What the middleware of `app` would have added is added here: the headers of CORS, which
    `cross_origin` gives as options of Starlette's CORSMiddleware, and the error boundary.
    """

    def __init__(
        self, app: ASGIApp, *, applications: Mapping[str, ASGIApp], cross_origin: Mapping[str, Any]
    ) -> None:
        self._app = app
        self._cross_origin = CrossOriginHeaders(cross_origin)
        self._applications = {
            name: (ErrorBoundary(application), f"/datasets/{{dataset_id}}/{name}/{{key}}")
            for name, application in applications.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        root, datasets, dataset_id, name, key = _divide(scope)
        found = self._applications.get(name)
        if found is None or root or datasets != "datasets" or not dataset_id:
            await self._app(scope, receive, send)
            return
        application, scope[ROUTE] = found
        # what Starlette says of every request
        scope["app"] = self._app
        scope["path_params"] = {"dataset_id": dataset_id, "key": key}
        added = await self._cross_origin.of(scope)

        def with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            return send(message)

        await application(scope, receive, with_headers)


def _divide(scope: Scope) -> list[str]:
    path, prefix = scope["path"], scope.get("root_path", "")
    if prefix and path.startswith(f"{prefix}/"):
        path = path[len(prefix) :]
    parts = path.split("/", 4)
    return parts if len(parts) == 5 else [""] * 5


class CrossOriginHeaders:
    """What Starlette's CORS middleware adds to an answer, asked for once an origin and then remembered."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._middleware = CORSMiddleware(_answer_nothing, **options)
        self._known: dict[bytes | None, list[tuple[bytes, bytes]]] = {}

    async def of(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the headers for the origin of a GET or HEAD, or for one that tells none."""
        origin = None
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
                break
        found = self._known.get(origin)
        return await self._ask(scope, origin) if found is None else found

    async def _ask(self, scope: Scope, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        added: list[tuple[bytes, bytes]] = []

        async def take(message: Message) -> None:
            added.extend(message.get("headers", ()))

        await self._middleware(scope, _receive_nothing, take)
        if len(origin or b"") <= _LARGEST_ORIGIN:
            if len(self._known) >= _MAX_ORIGINS:
                self._known.clear()
            self._known[origin] = added
        return added


async def _answer_nothing(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def _receive_nothing() -> Message:
    return {"type": "http.disconnect"}
