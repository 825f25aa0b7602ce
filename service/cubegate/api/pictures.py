"""Pictures of cubes over HTTP: what is known of each cube's layers, and small answers by ETag."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, proxy

from fastapi import Request
from starlette.responses import Response

from cubegate import __version__
from cubegate.api.dependencies import services
from cubegate.api.leaving import ClientLeft, while_connected
from cubegate.api.problems import PUBLIC_DETAILS, problem_of
from cubegate.catalog.combined import CombinedCube
from cubegate.catalog.cube import Cube
from cubegate.catalog.datacube import Datacube
from cubegate.errors import CubegateError, Overloaded
from cubegate.query.budget import Limits
from cubegate.query.in_thread import in_thread
from cubegate.query.lattice import Lattice
from cubegate.settings import LimitSettings
from cubegate.tiling.layers import Layer, choose_layer, find_layers
from cubegate.tiling.matrices import TILE, MatrixSet
from cubegate.tiling.picture import PIXEL_NBYTES, Picture, View, enlarged, plan_picture
from cubegate.tiling.statistics import find_style
from cubegate.tiling.style import AnyStyle, paint
from cubegate.tiling.wms_errors import MEDIA_TYPES as ERROR_TYPES
from cubegate.tiling.wms_errors import code_of, exception_report
from cubegate.tiling.zooms import Zooms, find_zooms

T = TypeVar("T")

PNG = "image/png"
_MOST_REMEMBERED = 256


class Gallery:
    """The layers of one version of one cube, with their default styles and zooms, each found once."""

    def __init__(self, cube: Cube, limits: LimitSettings) -> None:
        self.identity = cube.picture_identity
        self.limits = limits.model_copy(update={"chunks": min(limits.tile_chunks, limits.chunks)})
        self._known: dict[tuple[Any, ...], Any] = {}
        self._turns: dict[tuple[Any, ...], tuple[asyncio.Lock, int]] = {}

    async def layers(self, cube: Cube, group: str) -> dict[str, Layer]:
        """Return what can be drawn of a group, by name; see `find_layers`."""

        async def find() -> dict[str, Layer]:
            if isinstance(cube, CombinedCube):
                sources = [await member.open() for member in cube.members]
            else:
                assert isinstance(cube, Datacube)  # noqa: S101 - narrows to the only other kind
                sources = [cube]
            # what is remembered of a cube must not keep it
            return await find_layers([proxy(source) for source in sources], group)

        return await self._once(("layers", group), find())

    async def layer(self, cube: Cube, group: str, name: str | None, parameter: str = "variables") -> Layer:
        """Return one of the layers; see `choose_layer`."""
        return choose_layer(await self.layers(cube, group.strip("/")), name, parameter)

    async def style(self, layer: Layer) -> AnyStyle:
        """Return the default style of a layer."""
        return await self._once(("style", layer.group, layer.name), find_style(layer, self.limits))

    async def zooms(self, view: View, matrices: MatrixSet) -> Zooms:
        """Return where the tiles of a view's layer begin and end; with conditions, without its overviews."""
        layer, alone = view.layer, bool(view.where or view.mask)
        if alone:
            parts = tuple(replace(part, overviews=()) for part in layer.parts)
            layer = replace(layer, parts=parts)
        key = ("zooms", layer.group, layer.name, matrices.name, alone)
        return await self._once(key, find_zooms(layer, matrices, self.limits))

    async def _once(self, key: tuple[Any, ...], work: Coroutine[Any, Any, T]) -> T:
        try:
            if key in self._known:
                found: T = self._known[key]
                return found
            async with self._turn((*key, id(asyncio.get_running_loop()))):
                if key in self._known:
                    known: T = self._known[key]
                    return known
                made = await work
                while len(self._known) >= _MOST_REMEMBERED:
                    self._known.pop(next(iter(self._known)))
                self._known[key] = made
                return made
        finally:
            work.close()

    @asynccontextmanager
    async def _turn(self, key: tuple[Any, ...]) -> AsyncIterator[None]:
        """Let one in at a time; nothing is left behind when the last has gone."""
        lock, waiting = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns.pop(key)
            if waiting > 1:
                self._turns[key] = lock, waiting - 1

    def limits_of(self, picture_pixels: int) -> LimitSettings:
        """Return the limits of a picture by its size."""
        chunks = enlarged(self.limits.chunks, picture_pixels, TILE)
        return self.limits.model_copy(update={"chunks": chunks})


_galleries: WeakKeyDictionary[Cube, Gallery] = WeakKeyDictionary()


def gallery(cube: Cube, limits: LimitSettings) -> Gallery:
    """Return what is known of the pictures of a cube as it is now."""
    cube.refresh_overviews()
    found = _galleries.get(cube)
    if found is None or found.identity != cube.picture_identity:
        found = _galleries[cube] = Gallery(cube, limits)
    return found


def etag_of(request: Request, cube: Cube) -> str:
    """Name an answer by all that it is made of."""
    identity = "\n".join((__version__, cube.picture_identity, str(request.url)))
    return f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"'


async def respond_small(
    request: Request, cube: Cube, media_type: str, make: Callable[[], Awaitable[bytes]]
) -> Response:
    """Answer with what `make` returns, or 304 where the client holds it: then nothing is read."""
    headers = {"Cache-Control": "public, max-age=300" if cube.immutable else "no-cache"}
    if cube.immutable:
        headers["ETag"] = etag_of(request, cube)
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
    try:
        content = await while_connected(request.receive, _made(make))
    except ClientLeft as left:
        return left.answer()
    return Response(content, 200, headers, media_type)


async def _made(make: Callable[[], Awaitable[bytes]]) -> bytes:
    return await make()


async def prepare(request: Request, view: View, lattice: Lattice, limits: Limits) -> Picture:
    """Find and price what a picture shows, within the server's own limits; see `plan_picture`."""
    async with services(request).queries.slot(PIXEL_NBYTES * lattice.width * lattice.height):
        return await plan_picture(view, lattice, limits)


async def draw(
    request: Request,
    picture: Picture,
    style: AnyStyle,
    background: tuple[int, int, int] | None = None,
) -> bytes:
    """Read a picture that is within its limits, and return it as PNG, within the server's own limits."""
    async with services(request).queries.slot(picture.nbytes):
        values = await picture.load()
        return await in_thread(partial(paint, values, style, background))


def respond_wms_error(error: CubegateError, version: str) -> Response:
    """Answer an error as WMS does, with the status and the words that it has everywhere else."""
    told = problem_of(error)
    public = PUBLIC_DETAILS.get(told.status_code) if told.status_code >= 500 else None
    if isinstance(error, Overloaded):
        public = None
    code = code_of(error, version)
    headers = {name: each for name, each in told.headers.items() if name in ("retry-after", "cache-control")}
    content = exception_report(code, str(error) if public is None else public, version)
    return Response(content, told.status_code, headers, ERROR_TYPES[version])
