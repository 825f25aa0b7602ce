"""WMS 1.3.0 and 1.1.1 over HTTP: the variables of a cube as layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, LimitSettings, datacube, limits
from cubegate.api.pictures import PNG, Gallery, draw, gallery, prepare, respond_small, respond_wms_error
from cubegate.errors import CubegateError, InvalidParameter
from cubegate.query.in_thread import in_thread
from cubegate.tiling import wms
from cubegate.tiling.capabilities import MEDIA_TYPES, ServiceFacts, write_capabilities
from cubegate.tiling.feature_info import describe_cell, write_info
from cubegate.tiling.layers import choose_layer
from cubegate.tiling.legend import draw_legend
from cubegate.tiling.map_crs import known_crs
from cubegate.tiling.picture import Picture, value_at
from cubegate.tiling.style import choose_style
from cubegate.tiling.wms import MapRequest

DESCRIPTION = """The Web Map Service: `REQUEST=GetCapabilities`, `GetMap`, `GetFeatureInfo` or
`GetLegendGraphic`, of version 1.3.0 or 1.1.1. Layers are the cube's variables; `rescale`, `colormap`,
`where`, `mask` and `group` are as for tiles."""
XML = "text/xml"
_MEDIA_TYPES = (PNG, *wms.INFO_FORMATS, XML, *MEDIA_TYPES.values(), "application/vnd.ogc.se_xml")
_CONTENT: dict[str, Any] = {media_type: {} for media_type in _MEDIA_TYPES}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {**response, "content": {**response["content"], **_CONTENT}}
    for status, response in PROBLEM_RESPONSES.items()
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The capabilities, the map, the values or the legend", "content": _CONTENT},
    304: {"description": "The client's copy is still right"},
    **_ERRORS,
}

Mounted = Annotated[Cube, Depends(datacube)]
Limits = Annotated[LimitSettings, Depends(limits)]


class WMSPlugin(Plugin):
    """Serves `/wms` below every dataset."""

    name: str = "wms"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("maps",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the route."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        router.add_api_route(
            "/wms",
            answer,
            methods=["GET"],
            summary="A Web Map Service",
            description=DESCRIPTION,
            response_class=Response,
            responses=RESPONSES,
            openapi_extra={"parameters": [each.as_openapi() for each in wms.PARAMETERS]},
        )
        return router


async def answer(request: Request, cube: Mounted, limits: Limits) -> Response:
    """Answer one operation; errors are service exceptions."""
    version = wms.NEW
    try:
        given = wms.read_names(request.query_params.multi_items())
        version = wms.read_version(given)
        operation = wms.read_operation(given)
        return await _OPERATIONS[operation](request, cube, gallery(cube, limits), given, version)
    except CubegateError as error:
        return respond_wms_error(error, version)


async def _capabilities(
    request: Request, cube: Cube, known: Gallery, given: Mapping[str, str], version: str
) -> Response:
    facts = ServiceFacts(cube.title, str(request.url.replace(query="")), version, wms.read_kept(given))

    async def make() -> bytes:
        layers = await known.layers(cube, given.get("group", ""))
        names = [name for name in given.get("layers", "").split(",") if name] or list(layers)
        chosen = [choose_layer(layers, name, "layers") for name in dict.fromkeys(names)]
        return await in_thread(lambda: write_capabilities(facts, chosen))

    return await respond_small(request, cube, MEDIA_TYPES[version], make)


async def _map(
    request: Request, cube: Cube, known: Gallery, given: Mapping[str, str], version: str
) -> Response:
    asked = wms.read_map(given, version)

    async def make() -> bytes:
        picture = await _plan(request, cube, known, asked)
        style = choose_style(await known.style(picture.view.layer), asked.asked.rescale, asked.asked.colormap)
        return await draw(request, picture, style, asked.background)

    return await respond_small(request, cube, PNG, make)


async def _feature_info(
    request: Request, cube: Cube, known: Gallery, given: Mapping[str, str], version: str
) -> Response:
    asked = wms.read_feature_info(given, version)

    async def make() -> bytes:
        picture = await _plan(request, cube, known, asked)
        found = value_at(picture, *asked.point)
        if found is None:
            return write_info(None, asked.info_format)
        part, cell = found
        view = picture.view
        plan = await part.source.plan(part.group, view.query(cell), known.limits)
        values = await Picture(view, picture.lattice, ((part, cell, plan),)).load()
        style = await known.style(view.layer)
        facts = await in_thread(lambda: describe_cell(view, part, cell, float(values[0, 0]), style))
        return write_info(facts, asked.info_format)

    return await respond_small(request, cube, asked.info_format, make)


async def _legend(
    request: Request,
    cube: Cube,
    known: Gallery,
    given: Mapping[str, str],
    version: str,  # noqa: ARG001 - one signature
) -> Response:
    asked = wms.read_legend(given)

    async def make() -> bytes:
        layer = await known.layer(cube, asked.asked.group, asked.layer, "layers")
        style = choose_style(await known.style(layer), asked.asked.rescale, asked.asked.colormap)
        return await in_thread(lambda: draw_legend(layer, style))

    return await respond_small(request, cube, PNG, make)


async def _plan(request: Request, cube: Cube, known: Gallery, asked: MapRequest) -> Picture:
    layer = await known.layer(cube, asked.asked.group, asked.layer, "layers")
    lattice = asked.lattice
    assert lattice is not None  # noqa: S101 - only a legend has none
    accepted = await in_thread(lambda: known_crs(layer))
    if not any(lattice.crs is crs or lattice.crs == crs for crs in accepted.values()):
        raise InvalidParameter("crs", "The layer is not offered in this CRS.", accepted=", ".join(accepted))
    picture = await prepare(request, asked.complete(layer).view(layer), lattice, known.limits)
    hint = "Zoom in, or ask for a smaller part; tilejson.json says at which zoom tiles begin."
    picture.require(known.limits_of(lattice.width * lattice.height), hint)
    return picture


_OPERATIONS = {
    "GetCapabilities": _capabilities,
    "GetMap": _map,
    "GetFeatureInfo": _feature_info,
    "GetLegendGraphic": _legend,
}
