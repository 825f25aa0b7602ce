"""OGC API - Coverages: a box of a collection by its own axes, its domain set and its range type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, LimitSettings, collection, formats, limits, respond
from cubegate.api.collections import describe_collection
from cubegate.edr.coverages import (
    PARAMETERS,
    coverage_names,
    domain_set,
    range_type,
    read_coverage,
    read_group,
)
from cubegate.edr.negotiation import negotiate
from cubegate.edr.parameters import read_page
from cubegate.formats.output import OutputFormat, Result
from cubegate.query.parameters import GROUP

DESCRIPTION = """The cells inside `bbox` or `subset`, at the times inside `datetime`, of the variables that
`properties` names. `subset` takes the names of the collection's own axes, which its domain set lists, or
Lat and Lon."""
DEFAULT_FORMAT = "covjson"
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The coverage, in the format that `f` names"},
    206: {"description": "The asked byte range"},
    304: {"description": "The client's copy is still right"},
    416: {"description": "The range is outside the answer"},
    **PROBLEM_RESPONSES,
}
DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The document", "content": {"application/json": {"schema": {"type": "object"}}}},
    **PROBLEM_RESPONSES,
}

Mounted = Annotated[Cube, Depends(collection)]


class CoveragesPlugin(Plugin):
    """Serves `/coverage` below every collection of `/edr`."""

    name: str = "coverages"
    app_router_prefix: str = "/edr/collections/{collection_id}/coverage"
    app_router_tags: tuple[str, ...] = ("coverages",)

    @hookimpl
    def app_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes."""
        router = APIRouter(prefix=self.app_router_prefix, tags=list(self.app_router_tags))
        router.add_api_route(
            "",
            read_box,
            methods=["GET"],
            summary="A box of the coverage",
            description=DESCRIPTION,
            response_class=Response,
            responses=RESPONSES,
            openapi_extra={"parameters": [each.as_openapi() for each in PARAMETERS]},
        )
        for path, endpoint, summary in (
            ("/domainset", read_domain_set, "Where the coverage has values"),
            ("/rangetype", read_range_type, "What the values are"),
        ):
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                summary=summary,
                response_class=Response,
                responses=DOCUMENT,
                openapi_extra={"parameters": [GROUP.as_openapi()]},
            )
        return router


async def read_box(
    request: Request,
    cube: Mounted,
    limits: Annotated[LimitSettings, Depends(limits)],
    formats: Annotated[Mapping[str, OutputFormat], Depends(formats)],
) -> Response:
    """Answer the box that the query string names."""
    with coverage_names():
        items = request.query_params.multi_items()
        query, asked = read_coverage(items, await describe_collection(cube, read_group(items)))
        named, accept = asked.given.get("f"), request.headers.get("accept", "")
        output_format = negotiate(formats, named, accept, "cube", DEFAULT_FORMAT)
        plan = await cube.plan(asked.group, query.query, limits)
        selection = await plan.enforce()
    about = {"title": cube.title, "dataset": cube.id, "version": cube.version, **asked.conditions}

    async def produce() -> Result:
        with coverage_names():
            loaded = query.answer(await selection.load())
        facts = {**about, **loaded.facts}
        return Result("cube", loaded.dataset, loaded.x, loaded.y, loaded.time, loaded.crs, facts, {})

    response = await respond(
        request, cube, output_format, produce, filename=f"{cube.id}-coverage", nbytes=selection.nbytes
    )
    response.headers["Vary"] = "Accept"
    return response


async def read_domain_set(request: Request, cube: Mounted) -> Response:
    """Answer the axes and what is on them."""
    given = read_page(request.query_params.multi_items(), (GROUP,))
    return _document(domain_set(await describe_collection(cube, given.get(GROUP.name, ""))))


async def read_range_type(request: Request, cube: Mounted) -> Response:
    """Answer the variables and their units."""
    given = read_page(request.query_params.multi_items(), (GROUP,))
    return _document(range_type(await describe_collection(cube, given.get(GROUP.name, ""))))


def _document(document: dict[str, Any]) -> Response:
    return Response(
        json.dumps(document, allow_nan=False), 200, {"Cache-Control": "no-cache"}, "application/json"
    )
