"""Statistics of polygons over HTTP: mean, median and others of the cells inside, at each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, LimitSettings, QueryPlan, datacube, limits, services
from cubegate.api.leaving import ClientLeft, while_connected
from cubegate.errors import BudgetExceeded, InvalidParameter
from cubegate.formats.statistics import FORMATS, AreaRows, write_statistics
from cubegate.query.budget import Price, exceeded
from cubegate.query.in_thread import in_thread
from cubegate.query.polygons import MAX_BODY, MEDIA_TYPES, NamedArea, read_polygons
from cubegate.query.selection import Selection
from cubegate.query.statistics import Row, statistics_of, weights_of
from cubegate.query.statistics_parameters import (
    STATISTICS_PARAMETERS,
    StatisticsRequest,
    read_statistics,
)

DESCRIPTION = """The mean, median, standard deviation, least and largest value, number of values and share of
valid cells inside polygons, for each variable at each time, and with `bins` a histogram. The body is
GeoJSON: a Polygon, a MultiPolygon, or features of them, each of which has statistics of its own.

A cell counts where its centre lies inside. On a geographic grid cells are weighted by the cosine of their
latitude; least and largest value, numbers and histograms are never weighted.

A dimension beyond x, y and time is selected by a parameter of its own name, such as `level=500`; without it
there are statistics for each place along it."""
_EXAMPLE = {
    "type": "Polygon",
    "coordinates": [[[-118.3, 34.0], [-118.1, 34.0], [-118.1, 34.2], [-118.3, 34.2], [-118.3, 34.0]]],
}
_CONTENT: dict[str, Any] = {
    media_type: {"schema": {"type": "object"}, "example": _EXAMPLE} for media_type in MEDIA_TYPES
}
_ANSWERS: dict[str, Any] = {
    "application/json": {"schema": {"type": "object"}},
    "text/csv": {"schema": {"type": "string"}},
    "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The statistics, in the format that `f` names", "content": _ANSWERS},
    **PROBLEM_RESPONSES,
}
# of what was read: values as doubles, those of one plane sorted
_COPIES = 3


class StatisticsPlugin(Plugin):
    """Serves `/statistics` below every dataset."""

    name: str = "statistics"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("statistics",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the route."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        router.add_api_route(
            "/statistics",
            read_areas,
            methods=["POST"],
            summary="Statistics of polygons",
            description=DESCRIPTION,
            response_class=Response,
            responses=RESPONSES,
            openapi_extra={
                "parameters": [each.as_openapi() for each in STATISTICS_PARAMETERS],
                "requestBody": {"required": True, "content": _CONTENT},
            },
        )
        return router


async def read_areas(
    request: Request,
    cube: Annotated[Cube, Depends(datacube)],
    limits: Annotated[LimitSettings, Depends(limits)],
) -> Response:
    """Answer the statistics of the polygons of the body."""
    asked = read_statistics(request.query_params.multi_items())
    name = asked.request.format or "json"
    if name not in FORMATS:
        raise InvalidParameter(
            "f", f"There is no output format {name!r} for this query.", accepted=", ".join(FORMATS)
        )
    body = await _read_body(request)
    media_type = request.headers.get("content-type", "")
    areas = await in_thread(lambda: read_polygons(body, media_type, asked.crs, limits.points))
    plans = [await _plan(cube, asked, area, limits) for area in areas]
    await _enforce([plan.price for plan in plans], plans, limits)
    planned = list(zip(areas, plans, strict=True))
    try:
        document = await while_connected(request.receive, _read(request, cube, asked, planned, name))
    except ClientLeft as left:
        return left.answer()
    headers = {
        "Cache-Control": "no-cache",
        "Content-Disposition": f'inline; filename="{cube.id}-statistics.{name}"',
    }
    return Response(document, 200, headers, FORMATS[name])


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise BudgetExceeded({"bytes": len(body)}, {"bytes": MAX_BODY}, "Send fewer polygons at a time.")
    return bytes(body)


async def _plan(cube: Cube, asked: StatisticsRequest, named: NamedArea, limits: LimitSettings) -> QueryPlan:
    bounds, crs = named.area.bounds, named.area.crs
    try:
        return await cube.plan(asked.request.group, replace(asked.query, bounds=bounds, crs=crs), limits)
    except InvalidParameter as error:
        if error.parameter not in ("bbox", "bbox-crs"):
            raise
        detail = f"The box around polygon {named.id[:80]!r} cannot be read: {error.detail}"
        raise InvalidParameter("body", detail, accepted=error.accepted) from None


async def _enforce(prices: Sequence[Price], plans: Sequence[QueryPlan], limits: LimitSettings) -> None:
    """Refuse what costs more together than the limits."""
    total = Price(
        sum(each.chunks for each in prices),
        sum(each.bytes for each in prices),
        sum(each.cells for each in prices),
    )
    if total.within(limits):
        return
    hint = "Send fewer or smaller polygons at a time, or a shorter datetime=."
    if len(plans) == 1:
        found = await plans[0].hint()
        hint = found if "bbox=" not in found else "Send a smaller polygon, or a shorter datetime=."
    raise exceeded(total, limits, hint)


async def _read(
    request: Request,
    cube: Cube,
    asked: StatisticsRequest,
    planned: Sequence[tuple[NamedArea, QueryPlan]],
    name: str,
) -> bytes:
    queries = services(request).queries
    facts = {"title": cube.title, "dataset": cube.id, "version": cube.version, **asked.request.conditions}
    found: list[AreaRows] = []
    time: str | None = None
    for named, plan in planned:
        answer = await plan.enforce()
        async with queries.slot(_COPIES * answer.nbytes):
            loaded = await answer.load()
            rows = await in_thread(partial(_rows, loaded, named, asked))
        time = loaded.time
        facts |= {**loaded.facts, "crs": loaded.crs, "weights": weights_of(loaded)}
        found.append(AreaRows(named.id, rows))
    return await in_thread(lambda: write_statistics(name, found, time, facts))


def _rows(loaded: Selection, named: NamedArea, asked: StatisticsRequest) -> list[Row]:
    is_named = asked.query.variables is not None
    return list(statistics_of(loaded, named.area, asked.histogram, named=is_named))
