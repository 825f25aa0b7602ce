"""Time series over HTTP: the values of the pixels that hold one point, or many."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, LimitSettings, datacube, formats, limits, respond
from cubegate.errors import BudgetExceeded
from cubegate.formats.output import OutputFormat, Result, Shape, choose_format
from cubegate.query import parameters
from cubegate.query.points import MAX_BODY, MEDIA_TYPES, read_points

GET_DESCRIPTION = """The values of one pixel at all times, sorted by time. The point is `lon` and `lat`, or
`x` and `y` in the dataset's own CRS, or `coords` in any CRS; a point outside the grid is an error.

A dimension beyond x, y and time is selected by a parameter of its own name, such as `level=500`: by
a value of its coordinate, or by an index from 0 where it has none."""
POST_DESCRIPTION = """The values of many pixels at all times, as one table. The body is GeoJSON (a Feature or
FeatureCollection of Points or MultiPoints, in longitude and latitude) or CSV with the columns `lon,lat`
or `x,y`, and maybe `id`."""

_GEOJSON_EXAMPLE = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "a",
            "properties": {},
            "geometry": {"type": "Point", "coordinates": [-118.2, 34.1]},
        }
    ],
}
_CONTENT: dict[str, Any] = {
    media_type: {"schema": {"type": "object"}, "example": _GEOJSON_EXAMPLE}
    for media_type in MEDIA_TYPES
    if "json" in media_type
} | {"text/csv": {"schema": {"type": "string"}, "example": "id,lon,lat\na,-118.2,34.1\n"}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The series, in the format that `f` names"},
    304: {"description": "The client's copy is still right"},
    **PROBLEM_RESPONSES,
}

Mounted = Annotated[Cube, Depends(datacube)]
Formats = Annotated[Mapping[str, OutputFormat], Depends(formats)]
Limits = Annotated[LimitSettings, Depends(limits)]


class TimeSeriesPlugin(Plugin):
    """Serves `/timeseries` below every dataset."""

    name: str = "timeseries"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("timeseries",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes for one point and for many."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        described = [each.as_openapi() for each in parameters.POSITION_PARAMETERS]
        table = [each.as_openapi() for each in parameters.TABLE_PARAMETERS]
        router.add_api_route(
            "/timeseries",
            read_one,
            methods=["GET"],
            summary="One point's time series",
            description=GET_DESCRIPTION,
            response_class=Response,
            responses=RESPONSES,
            openapi_extra={"parameters": described},
        )
        router.add_api_route(
            "/timeseries",
            read_many,
            methods=["POST"],
            summary="Many points' time series",
            description=POST_DESCRIPTION,
            response_class=Response,
            responses=RESPONSES,
            openapi_extra={"parameters": table, "requestBody": {"required": True, "content": _CONTENT}},
        )
        return router


async def read_one(request: Request, cube: Mounted, limits: Limits, formats: Formats) -> Response:
    """Answer the series at the point that the query string names."""
    asked = parameters.read_position(request.query_params.multi_items())
    return await _answer(request, cube, asked, "series", limits=limits, formats=formats)


async def read_many(request: Request, cube: Mounted, limits: Limits, formats: Formats) -> Response:
    """Answer the series at the points of the body."""
    items = request.query_params.multi_items()
    body = await _read_body(request)
    crs = parameters.read_crs(items)
    media_type = request.headers.get("content-type", "")
    points = await asyncio.to_thread(read_points, body, media_type, crs, limits.points)
    asked = parameters.read_table(items, points)
    return await _answer(request, cube, asked, "points", limits=limits, formats=formats, body=body)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise BudgetExceeded({"bytes": len(body)}, {"bytes": MAX_BODY}, "Send fewer points at a time.")
    return bytes(body)


async def _answer(
    request: Request,
    cube: Cube,
    asked: parameters.Request,
    shape: Shape,
    *,
    limits: LimitSettings,
    formats: Mapping[str, OutputFormat],
    body: bytes = b"",
) -> Response:
    output_format = choose_format(formats, asked.format or "json", shape)
    plan = await cube.plan(asked.group, asked.query, limits)
    selection = await plan.enforce()
    about = {"title": cube.title, "dataset": cube.id, "version": cube.version, **asked.conditions}

    async def produce() -> Result:
        loaded = await selection.load()
        facts = {**about, **loaded.facts}
        return Result(
            shape, loaded.dataset, loaded.x, loaded.y, loaded.time, loaded.crs, facts, asked.options
        )

    return await respond(
        request,
        cube,
        output_format,
        produce,
        filename=f"{cube.id}-timeseries",
        body=body,
        nbytes=selection.nbytes,
    )
