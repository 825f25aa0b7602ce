"""Tiles over HTTP: one variable at one date as PNG, with TileJSON, legends and OGC API - Tiles' documents."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, LimitSettings, datacube, limits
from cubegate.api.pictures import PNG, draw, gallery, prepare, respond_small
from cubegate.query.in_thread import in_thread
from cubegate.query.parameters import Parameter
from cubegate.tiling import metadata
from cubegate.tiling.legend import draw_legend
from cubegate.tiling.matrices import NATIVE, WEB_MERCATOR, WORLD_CRS84, find_matrix_set
from cubegate.tiling.parameters import STYLE_PARAMETERS, TILE_PARAMETERS, read_tile
from cubegate.tiling.style import choose_style

TILE_DESCRIPTION = """One variable at one date, as a PNG of 256 x 256 pixels, each of which shows the cell
that holds its centre. Missing cells, and what lies outside of the cube, are transparent.

A dimension beyond x, y and time is selected by a parameter of its own name, such as `level=500`."""
JSON = "application/json"
MATRIX_SET = Parameter(
    "tileMatrixSet",
    f"{WEB_MERCATOR} (default), {WORLD_CRS84}, or {NATIVE}: the cube's own grid.",
    WEB_MERCATOR,
)
HELD = {304: {"description": "The client's copy is still right"}, **PROBLEM_RESPONSES}

Mounted = Annotated[Cube, Depends(datacube)]
Limits = Annotated[LimitSettings, Depends(limits)]
MatrixSetName = Annotated[
    str, Path(alias="tileMatrixSet", description=MATRIX_SET.description, examples=[WEB_MERCATOR])
]
Zoom = Annotated[int, Path(description="The zoom, 0 for the whole world")]
Column = Annotated[int, Path(description="The column, from the west")]
Row = Annotated[int, Path(description="The row, from the north")]


class TilesPlugin(Plugin):
    """Serves `/tiles`, `/tilejson.json` and `/legend.png` below every dataset."""

    name: str = "tiles"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("maps",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        one = "/tiles/{tileMatrixSet}"
        routes: tuple[tuple[str, Any, str, str, tuple[Parameter, ...]], ...] = (
            (one + "/{z}/{x}/{y}.png", read_tile_png, "One tile", PNG, TILE_PARAMETERS),
            ("/tilejson.json", read_tilejson, "TileJSON", JSON, (MATRIX_SET, *TILE_PARAMETERS)),
            ("/legend.png", read_legend, "The legend of the tiles", PNG, STYLE_PARAMETERS),
            ("/tiles", read_tilesets, "The tilesets", JSON, STYLE_PARAMETERS[:1] + STYLE_PARAMETERS[-1:]),
            (one, read_tileset, "One tileset", JSON, TILE_PARAMETERS),
            (one + "/tileMatrixSet", read_matrix_set, "A tile matrix set", JSON, TILE_PARAMETERS),
        )
        for path, endpoint, summary, media_type, parameters in routes:
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                summary=summary,
                description=TILE_DESCRIPTION if path.endswith("{y}.png") else "",
                response_class=Response,
                responses={200: {"description": summary, "content": {media_type: {}}}, **HELD},
                openapi_extra={"parameters": [each.as_openapi() for each in parameters]},
            )
        return router


async def read_tile_png(
    request: Request,
    cube: Mounted,
    limits: Limits,
    tile_matrix_set: MatrixSetName,
    *,
    z: Zoom,
    x: Column,
    y: Row,
) -> Response:
    """Answer one tile."""
    asked = read_tile(request.query_params.multi_items())

    async def make() -> bytes:
        known = gallery(cube, limits)
        layer = await known.layer(cube, asked.group, asked.variable)
        matrices = find_matrix_set(tile_matrix_set, layer.parts[0].footprint)
        lattice = matrices.lattice(z, x, y)
        picture = await prepare(request, asked.view(layer), lattice, known.limits)
        if not picture.price.within(known.limits):
            zooms = await known.zooms(picture.view, matrices)
            picture.require(known.limits, f"Zoom in: the tiles of this variable begin at zoom {zooms.first}.")
        style = choose_style(await known.style(layer), asked.rescale, asked.colormap)
        return await draw(request, picture, style)

    return await respond_small(request, cube, PNG, make)


async def read_legend(request: Request, cube: Mounted, limits: Limits) -> Response:
    """Answer the legend of a variable."""
    asked = read_tile(request.query_params.multi_items())

    async def make() -> bytes:
        known = gallery(cube, limits)
        layer = await known.layer(cube, asked.group, asked.variable)
        style = choose_style(await known.style(layer), asked.rescale, asked.colormap)
        return await in_thread(lambda: draw_legend(layer, style))

    return await respond_small(request, cube, PNG, make)


async def read_tilejson(request: Request, cube: Mounted, limits: Limits) -> Response:
    """Answer where the tiles of a variable are, and at which zooms."""
    items = request.query_params.multi_items()
    name = next((text for key, text in items if key == MATRIX_SET.name), WEB_MERCATOR)
    asked = read_tile([item for item in items if item[0] != MATRIX_SET.name])

    async def make() -> bytes:
        known = gallery(cube, limits)
        layer = await known.layer(cube, asked.group, asked.variable)
        view = asked.view(layer)
        matrices = find_matrix_set(name, layer.parts[0].footprint)
        zooms = await known.zooms(view, matrices)
        query = _query(request, layer.name, without=(MATRIX_SET.name,))
        base = _address(request, "/tilejson.json")
        tiles = f"{base}/tiles/{name}/{{z}}/{{x}}/{{y}}.png{query}"
        legend = (
            f"{base}/legend.png{_query(request, layer.name, kept=tuple(p.name for p in STYLE_PARAMETERS))}"
        )
        return _as_json(
            metadata.tilejson(layer, cube.title, zooms, tiles=tiles, legend=legend, date=view.date)
        )

    return await respond_small(request, cube, JSON, make)


async def read_tilesets(request: Request, cube: Mounted, limits: Limits) -> Response:
    """Answer the list of tilesets."""
    asked = read_tile(request.query_params.multi_items())

    async def make() -> bytes:
        layer = await gallery(cube, limits).layer(cube, asked.group, asked.variable)
        registered, own = (WEB_MERCATOR, WORLD_CRS84), NATIVE
        found = [find_matrix_set(name, layer.parts[0].footprint) for name in (*registered, own)]
        return _as_json(metadata.tilesets(cube.title, found[-1], found[:-1], _address(request, "")))

    return await respond_small(request, cube, JSON, make)


async def read_tileset(
    request: Request, cube: Mounted, limits: Limits, tile_matrix_set: MatrixSetName
) -> Response:
    """Answer where the tiles of one tileset are."""
    asked = read_tile(request.query_params.multi_items())

    async def make() -> bytes:
        known = gallery(cube, limits)
        layer = await known.layer(cube, asked.group, asked.variable)
        view = asked.view(layer)
        matrices = find_matrix_set(tile_matrix_set, layer.parts[0].footprint)
        zooms = await known.zooms(view, matrices)
        base = _address(request, f"/{matrices.name}")
        return _as_json(
            metadata.tileset(cube.title, matrices, zooms, layer, base=base, query=_query(request, layer.name))
        )

    return await respond_small(request, cube, JSON, make)


async def read_matrix_set(
    request: Request, cube: Mounted, limits: Limits, tile_matrix_set: MatrixSetName
) -> Response:
    """Answer the definition of a tile matrix set."""
    asked = read_tile(request.query_params.multi_items())

    async def make() -> bytes:
        layer = await gallery(cube, limits).layer(cube, asked.group, asked.variable)
        return _as_json(find_matrix_set(tile_matrix_set, layer.parts[0].footprint).document())

    return await respond_small(request, cube, JSON, make)


def _address(request: Request, ending: str) -> str:
    """The address that was asked for, without its query and an ending."""
    return str(request.url.replace(query="")).removesuffix(ending)


def _query(
    request: Request, variable: str, *, kept: tuple[str, ...] | None = None, without: tuple[str, ...] = ()
) -> str:
    """The query that was asked for, with the variable that it means, to be put behind an address."""
    items = [
        (name, text)
        for name, text in request.query_params.multi_items()
        if name not in (*without, "variables") and (kept is None or name in kept)
    ]
    return "?" + urlencode([("variables", variable), *items])


def _as_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
