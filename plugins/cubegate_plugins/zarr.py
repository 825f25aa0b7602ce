"""Zarr over HTTP: every cube as Zarr v2 and v3 from one URL, with its chunks verbatim or decoded."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Datacube, problem, services
from cubegate.api.byte_responses import (
    ByteResponse,
    EncodedStore,
    ZarrTree,
    content_etag,
    listing,
)
from cubegate.errors import NotFound, UpstreamTimeout

PINNED = "public, max-age=31536000, immutable"
CURRENT = "public, max-age=60, must-revalidate"
METHODS = ("GET", "HEAD")

VERBATIM_DESCRIPTION = """A document (`.zmetadata`, `zarr.json`, `v/.zarray` ...), a chunk exactly as it is
stored (`v/0.0.0` in Zarr v2, `v/c/0/0/0` in v3), or an HTML listing (a key that ends in `/`).
Open it with `xr.open_zarr("…/datasets/{dataset_id}/zarr")`."""
PLAIN_DESCRIPTION = """The same tree with every chunk decoded here and sent without compressor or filters,
for clients whose codecs fall short: `ZARR:"/vsicurl/http://…/datasets/{dataset_id}/zarr-plain"`."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_CONTENT: dict[str, Any] = {
    "application/json": {"schema": {"type": "object"}},
    "application/octet-stream": _BINARY,
    "text/html": {"schema": {"type": "string"}},
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The document, chunk or listing", "content": _CONTENT},
    206: {"description": "The asked byte range", "content": _CONTENT},
    304: {"description": "The client's copy is still right"},
    307: {"description": "A group or array, at its address with a trailing slash"},
    416: {**PROBLEM_RESPONSES[400], "description": "The range is outside the resource"},
    **{status: PROBLEM_RESPONSES[status] for status in (404, 502, 503, 504)},
}


class ZarrPlugin(Plugin):
    """Serves `/zarr` and `/zarr-plain` below every dataset."""

    name: str = "zarr"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("zarr",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes of both trees."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        _mount(router, "/zarr", ZarrEndpoint(plain=False), VERBATIM_DESCRIPTION)
        _mount(router, "/zarr-plain", ZarrEndpoint(plain=True), PLAIN_DESCRIPTION)
        return router


def _mount(router: APIRouter, path: str, endpoint: ZarrEndpoint, description: str) -> None:
    # Plain Starlette routes answer, at twice the rate of FastAPI's; the API route behind them is
    # what OpenAPI describes.
    router.routes.append(Route(path, endpoint))
    router.routes.append(Route(f"{path}/{{key:path}}", endpoint))

    async def read(
        request: Request,
        dataset_id: Annotated[str, Path(description="A dataset's id, or `id@version`")],  # noqa: ARG001 - described
        key: Annotated[str, Path(description="A Zarr key", examples=["zarr.json"])],  # noqa: ARG001 - described
    ) -> Response:
        return await endpoint.respond(request)

    router.add_api_route(
        f"{path}/{{key:path}}",
        read,
        name=f"read{path.replace('/', '_').replace('-', '_')}_key",
        summary=f"One Zarr key of {path}",
        description=description,
        methods=["GET"],
        response_class=Response,
        responses=RESPONSES,
    )


class ZarrEndpoint:
    """The ASGI application of one of the two trees."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._trees: WeakKeyDictionary[EncodedStore, ZarrTree] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        response = await self.respond(request)
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        """Return the answer to a request whose path holds `dataset_id` and, below the tree, `key`.

        Raises:
            NotFound: there is no such dataset or key.
            UpstreamError: the dataset or the chunk cannot be read, or not within the deadline.
        """
        if request.method not in METHODS:
            allowed = ", ".join(METHODS)
            return problem(
                405, "Method not allowed", f"Zarr is read-only here: {allowed}.", {"Allow": allowed}
            )
        deadline = services(request).limits.deadline
        try:
            async with asyncio.timeout(deadline):
                return await self._answer(request)
        except TimeoutError:
            raise UpstreamTimeout(f"The answer was not there within {deadline:g} s.") from None

    async def _answer(self, request: Request) -> Response:
        dataset_id = request.path_params["dataset_id"]
        cube = await services(request).catalog.get(dataset_id)
        tree = await self._tree(cube)
        key = request.path_params.get("key")
        if key is None:
            return _redirect(request)
        pinned = "@" in dataset_id and cube.store.immutable
        cache_control = PINNED if pinned else CURRENT
        document = tree.document(key)
        if document is not None:
            answer = ByteResponse(document.etag, "application/json", cache_control)
            return answer.not_modified(request) or answer.with_body(request, document.body)
        if not key or key.endswith("/"):
            return _list(request, tree, cube, key[:-1], cache_control)
        if tree.is_node(key):
            return _redirect(request)
        return await self._chunk(request, tree, key, cache_control)

    async def _tree(self, cube: Datacube) -> ZarrTree:
        tree = self._trees.get(cube.store)
        if tree is None:
            tree = ZarrTree(cube.store, await cube.documents(plain=self._plain), plain=self._plain)
            self._trees[cube.store] = tree
        return tree

    async def _chunk(self, request: Request, tree: ZarrTree, key: str, cache_control: str) -> Response:
        address = tree.address(key)
        if not tree.store.immutable:
            body = await tree.chunk(address)
            answer = ByteResponse(content_etag(body), "application/octet-stream", cache_control)
            return answer.not_modified(request) or answer.with_body(request, body)
        # an index never changes under its version, so nothing needs to be read to know the tag
        identity = f"{tree.store.version}\n{self._plain}\n{address.array}\n{address.chunk}"
        etag = f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"'
        answer = ByteResponse(etag, "application/octet-stream", cache_control)
        return answer.not_modified(request) or answer.with_body(request, await tree.chunk(address))


def _list(request: Request, tree: ZarrTree, cube: Datacube, path: str, cache_control: str) -> Response:
    if not tree.is_node(path):
        raise NotFound(f"There is no group or array {path!r} in dataset {cube.id!r}.")
    body = listing(f"{cube.id}: /{path}", tree.children_of(path), tree.notes_on(path))
    answer = ByteResponse(content_etag(body), "text/html; charset=utf-8", cache_control)
    return answer.not_modified(request) or answer.with_body(request, body)


def _redirect(request: Request) -> Response:
    # relative, so that it holds behind any proxy
    name = request.scope["path"].rpartition("/")[2]
    return RedirectResponse(f"{quote(name, safe='')}/", 307)
