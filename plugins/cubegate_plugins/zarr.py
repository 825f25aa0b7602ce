"""Zarr over HTTP: every cube as Zarr v2 and v3 from one URL, with its chunks verbatim or decoded."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Annotated, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Path
from pydantic import PrivateAttr
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Datacube, Services, problem, problem_of
from cubegate.api.admission import late
from cubegate.api.byte_responses import ChunkAddress, Entity, ZarrTree, content_etag, listing
from cubegate.api.leaving import ClientLeft, while_connected
from cubegate.errors import CubegateError, NotFound

PINNED = "public, max-age=31536000, immutable"
CURRENT = "public, max-age=60, must-revalidate"
METHODS = ("GET", "HEAD")
BYTES = "application/octet-stream"
# About a kilobyte each, all cubes together.
MAX_RESOURCES = 16_384

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
    _verbatim: ZarrEndpoint = PrivateAttr(default_factory=lambda: ZarrEndpoint(plain=False))
    _plain: ZarrEndpoint = PrivateAttr(default_factory=lambda: ZarrEndpoint(plain=True))

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes of both trees."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        _mount(router, "/zarr", self._verbatim, VERBATIM_DESCRIPTION)
        _mount(router, "/zarr-plain", self._plain, PLAIN_DESCRIPTION)
        return router

    def direct_applications(self) -> Mapping[str, ASGIApp]:
        """Return the applications of both trees; see `cubegate.api.direct`."""
        return {} if self.dataset_router_prefix else {"zarr": self._verbatim, "zarr-plain": self._plain}


def _mount(router: APIRouter, path: str, endpoint: ZarrEndpoint, description: str) -> None:
    # Plain Starlette routes answer, at twice the rate of FastAPI's; the API route behind them is
    # what OpenAPI describes.
    router.routes.append(Route(path, endpoint))
    router.routes.append(Route(f"{path}/{{key:path}}", endpoint))

    async def read(
        dataset_id: Annotated[str, Path(description="A dataset's id, or `id@version`")],  # noqa: ARG001 - described
        key: Annotated[str, Path(description="A Zarr key", examples=["zarr.json"])],  # noqa: ARG001 - described
    ) -> Response:
        return _Delegated(endpoint)

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


class _Delegated(Response):
    """An answer that another ASGI application gives."""

    def __init__(self, application: ASGIApp) -> None:
        super().__init__()
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Mount:
    """One tree of one opened cube; no two have the same `number`."""

    number: int
    tree: ZarrTree
    dataset_id: str


@dataclass(frozen=True, slots=True)
class _Resource:
    """What is known of a key without its bytes: its entity, and the chunk where it is no document."""

    entity: Entity
    address: ChunkAddress | None = None


class ZarrEndpoint:
    """The ASGI application of one of the two trees.

    The path parameters of a scope are `dataset_id` and, below the tree, `key`. What is known of a
    key is remembered; its bytes are left to the cube's documents and to the chunk cache.
    """

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._numbers = count()
        # nothing kept here refers to a cube, so that it ends when the catalog has opened another
        self._mounts: WeakKeyDictionary[Datacube, _Mount] = WeakKeyDictionary()
        self._resources: OrderedDict[tuple[int, bool, str], _Resource] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error raised on purpose is answered as its problem."""
        if scope["method"] not in METHODS:
            await _refuse(scope, receive, send)
            return
        found: Services = scope["app"].state.services
        held = self._find_held(found, **scope["path_params"])
        if held is not None:
            entity, body = held
            await entity.send(scope, receive, send, body, len(body))
            return
        deadline = found.limits.deadline
        try:
            async with asyncio.timeout(deadline):
                answer = await while_connected(receive, self._find(found, scope, **scope["path_params"]))
        except ClientLeft as left:
            answer = left.answer()
        except TimeoutError:
            answer = late(scope, deadline)
        except CubegateError as error:
            answer = problem_of(error)
        await answer(scope, receive, send)

    def _find_held(
        self, found: Services, dataset_id: str, key: str | None = None
    ) -> tuple[Entity, bytes] | None:
        """Return what answers a key that was asked for before, where that is in memory."""
        cube = found.catalog.held(dataset_id)
        mount = self._mounts.get(cube) if isinstance(cube, Datacube) else None
        if mount is None or key is None:
            return None
        resource = self._resources.get((mount.number, "@" in dataset_id, key))
        if resource is None:
            return None
        if resource.address is not None:
            body = mount.tree.held(resource.address)
            return None if body is None else (resource.entity, body)
        document = mount.tree.document(key)
        return None if document is None else (resource.entity, document.body)

    async def _find(self, found: Services, scope: Scope, dataset_id: str, key: str | None = None) -> ASGIApp:
        """Return what answers a key, having read what it needs.

        Raises:
            NotFound: there is no such dataset or key.
            UpstreamError: the dataset or the chunk cannot be read.
        """
        mount = await self._mount(await found.catalog.stored(dataset_id))
        tree, pinned = mount.tree, "@" in dataset_id
        if key is None or (key and tree.is_node(key)):
            return _redirect(scope)
        cache_control = PINNED if pinned and tree.store.immutable else CURRENT
        document = tree.document(key)
        if document is not None:
            entity = Entity(document.etag, "application/json", cache_control)
            self._remember((mount.number, pinned, key), _Resource(entity))
            return _whole(entity, document.body)
        if not key or key.endswith("/"):
            page = _list(tree, mount.dataset_id, key[:-1])
            return _whole(Entity(content_etag(page), "text/html; charset=utf-8", cache_control), page)
        address = tree.address(key)
        if not tree.store.immutable:
            chunk = await tree.chunk(address)
            return _whole(Entity(content_etag(chunk), BYTES, cache_control), chunk)
        # an index never changes under its version, so nothing needs to be read to know the tag
        entity = Entity(self._etag(tree, address), BYTES, cache_control)
        self._remember((mount.number, pinned, key), _Resource(entity, address))
        if entity.is_held(scope):
            return _whole(entity, b"")
        length = tree.nbytes(address) if scope["method"] == "HEAD" else None
        return _whole(entity, await tree.chunk(address)) if length is None else _whole(entity, b"", length)

    async def _mount(self, cube: Datacube) -> _Mount:
        mount = self._mounts.get(cube)
        if mount is None:
            tree = ZarrTree(cube.store, await cube.documents(plain=self._plain), plain=self._plain)
            mount = self._mounts[cube] = _Mount(next(self._numbers), tree, cube.id)
        return mount

    def _etag(self, tree: ZarrTree, address: ChunkAddress) -> str:
        identity = f"{tree.store.version}\n{self._plain}\n{address.array}\n{address.chunk}"
        return content_etag(identity.encode())

    def _remember(self, place: tuple[int, bool, str], resource: _Resource) -> None:
        self._resources[place] = resource
        if len(self._resources) > MAX_RESOURCES:
            self._resources.popitem(last=False)


def _whole(entity: Entity, body: bytes, length: int | None = None) -> ASGIApp:
    return partial(entity.send, body=body, length=len(body) if length is None else length)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    allowed = ", ".join(METHODS)
    refused = problem(405, "Method not allowed", f"Zarr is read-only here: {allowed}.", {"Allow": allowed})
    await refused(scope, receive, send)


def _list(tree: ZarrTree, dataset_id: str, path: str) -> bytes:
    if not tree.is_node(path):
        raise NotFound(f"There is no group or array {path!r} in dataset {dataset_id!r}.")
    return listing(f"{dataset_id}: /{path}", tree.children_of(path), tree.notes_on(path))


def _redirect(scope: Scope) -> Response:
    # relative, so that it holds behind any proxy
    name = scope["path"].rpartition("/")[2]
    return RedirectResponse(f"{quote(name, safe='')}/", 307)
