"""OGC API - Environmental Data Retrieval: collections, and position, area, cube and trajectory queries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import (
    PROBLEM_RESPONSES,
    Cube,
    LimitSettings,
    Services,
    collection,
    formats,
    limits,
    respond,
    services,
)
from cubegate.api.collections import describe_collection, find_collections, grids_of
from cubegate.edr import documents, parameters
from cubegate.edr.description import Dimension
from cubegate.edr.html import page
from cubegate.edr.negotiation import negotiate, wants_html
from cubegate.edr.openapi import edr_openapi
from cubegate.edr.queries import Query, area_query, cube_query, position_query, trajectory_query
from cubegate.edr.search import BBOX, DATETIME, read_search
from cubegate.errors import InvalidParameter
from cubegate.formats.output import OutputFormat, Result
from cubegate.query.in_thread import in_thread
from cubegate.query.parameters import Parameter

PAGE = 50
LARGEST_PAGE = 100
# the pages load nothing
_HTML_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
DESCRIPTIONS = {
    "position": "The series of the cells that hold the points of `coords`, a POINT or MULTIPOINT.",
    "area": "The cells whose centre lies in the POLYGON or MULTIPOLYGON `coords`, in the smallest box around "
    "them, where others are missing.",
    "cube": "The cells whose centre lies in `bbox`; one with its west in the east crosses the antimeridian.",
    "trajectory": "The cells that the LINESTRING `coords` crosses, in order. With LINESTRINGM, each at the "
    "time nearest to that of the line.",
}
DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/html": {"schema": {"type": "string"}},
        },
    },
    400: PROBLEM_RESPONSES[400],
}
INTERFACE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The document", "content": {documents.OPENAPI: {"schema": {"type": "object"}}}}
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The values, in the format that `f` names"},
    206: {"description": "The asked byte range"},
    304: {"description": "The client's copy is still right"},
    416: {"description": "The range is outside the answer"},
    **PROBLEM_RESPONSES,
}

Found = Annotated[Services, Depends(services)]
Formats = Annotated[Mapping[str, OutputFormat], Depends(formats)]
Limits = Annotated[LimitSettings, Depends(limits)]

Mounted = Annotated[Cube, Depends(collection)]


class EDRPlugin(Plugin):
    """Serves `/edr`."""

    name: str = "edr"
    app_router_prefix: str = "/edr"
    app_router_tags: tuple[str, ...] = ("edr",)

    @hookimpl
    def app_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes."""
        router = APIRouter(prefix=self.app_router_prefix, tags=list(self.app_router_tags))
        for path, endpoint, summary in (
            ("", landing, "The landing page of OGC API - EDR"),
            ("/conformance", conformance, "The conformance classes"),
            ("/api", interface, "The interface, as OpenAPI 3.0"),
            ("/collections", collections, "The collections, a page at a time"),
            ("/collections/{collection_id}", one_collection, "One collection"),
        ):
            known = _page_parameters(path)
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                summary=summary,
                response_class=Response,
                responses=INTERFACE
                if path == "/api"
                else {**DOCUMENT, **(PROBLEM_RESPONSES if "{" in path else {})},
                openapi_extra={"parameters": [each.as_openapi() for each in known]},
            )
        # where a client joins an address that ends in a slash
        router.add_api_route("/", landing, methods=["GET"], response_class=Response, include_in_schema=False)
        for kind, make in QUERIES.items():
            router.add_api_route(
                f"/collections/{{collection_id}}/{kind}",
                _answering(kind, make),
                methods=["GET"],
                summary=f"EDR {kind} query",
                description=DESCRIPTIONS[kind],
                response_class=Response,
                responses=RESPONSES,
                openapi_extra={"parameters": [each.as_openapi() for each in parameters.PARAMETERS[kind]]},
            )
        return router


def _page_parameters(path: str) -> tuple[Parameter, ...]:
    if path == "/api":
        return ()
    paged = (parameters.LIMIT, parameters.OFFSET, BBOX, DATETIME) if path == "/collections" else ()
    return (*paged, parameters.PAGE_FORMAT)


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _document(request: Request, given: Mapping[str, str], document: dict[str, Any]) -> Response:
    named = given.get("f")
    if named is not None and named.lower() not in ("json", "html", "application/json", "text/html"):
        raise InvalidParameter("f", f"There is no format {named[:80]!r} here.", accepted="json, html")
    # the links are to the address that was asked
    headers = {"Cache-Control": "no-cache", "Vary": "Accept, Host"}
    if wants_html(named and named.removeprefix("text/"), request.headers.get("accept", "")):
        return HTMLResponse(page(document), headers={**headers, **_HTML_HEADERS})
    return Response(json.dumps(document, allow_nan=False), 200, headers, "application/json")


async def landing(request: Request) -> Response:
    """Answer the landing page."""
    given = parameters.read_page(request.query_params.multi_items(), _page_parameters(""))
    return _document(request, given, documents.landing_page(_base(request)))


async def conformance(request: Request) -> Response:
    """Answer what is conformed to."""
    given = parameters.read_page(request.query_params.multi_items(), _page_parameters(""))
    return _document(request, given, documents.conformance(_base(request)))


async def interface(request: Request) -> Response:
    """Answer the part of the OpenAPI document that is about `/edr`."""
    document = edr_openapi(request.app.openapi(), _base(request))
    headers = {"Cache-Control": "no-cache", "Vary": "Host"}
    return Response(json.dumps(document), 200, headers, documents.OPENAPI)


async def collections(request: Request, found: Found) -> Response:
    """Answer one page of the collections that can be opened, and that a place and time ask for."""
    given = parameters.read_page(request.query_params.multi_items(), _page_parameters("/collections"))
    limit = parameters.read_count(given, parameters.LIMIT, PAGE, 1, LARGEST_PAGE)
    offset = parameters.read_count(given, parameters.OFFSET, 0, 0, 10**9)
    described, following = await find_collections(found, offset, limit, read_search(given).finds)
    base = _base(request)
    listed = [documents.collection(base, each, found.formats) for each in described]
    asked = {name: text for name, text in given.items() if name in (BBOX.name, DATETIME.name)}
    matched = None if asked else len(found.catalog.ids())
    asked[parameters.LIMIT.name] = str(limit)
    return _document(
        request, given, documents.collections(base, listed, asked, offset, following, matched=matched)
    )


async def one_collection(request: Request, cube: Mounted, formats: Formats) -> Response:
    """Answer the description of one collection."""
    given = parameters.read_page(request.query_params.multi_items(), _page_parameters("/{}"))
    described = await describe_collection(cube)
    return _document(request, given, documents.collection(_base(request), described, formats))


Maker = Callable[[Cube, parameters.Asked, LimitSettings, Dimension | None], Any]


async def _position(
    cube: Cube, asked: parameters.Asked, limits: LimitSettings, vertical: Dimension | None
) -> Query:
    del cube
    return position_query(asked, vertical, limits.points)


async def _area(
    cube: Cube, asked: parameters.Asked, limits: LimitSettings, vertical: Dimension | None
) -> Query:
    del limits
    area = await in_thread(partial(parameters.read_area, asked))
    grids = await grids_of(cube, asked.variables, parameters.degrees(area.bounds, area.crs), asked.group)
    return await in_thread(partial(area_query, asked, area, grids, vertical))


async def _cube(
    cube: Cube, asked: parameters.Asked, limits: LimitSettings, vertical: Dimension | None
) -> Query:
    del limits
    grids = await grids_of(cube, asked.variables, group=asked.group)
    return cube_query(asked, grids, vertical)


async def _trajectory(
    cube: Cube, asked: parameters.Asked, limits: LimitSettings, vertical: Dimension | None
) -> Query:
    line = parameters.read_line(asked)
    grids = await grids_of(cube, asked.variables, parameters.degrees(line.bounds, line.crs), asked.group)
    times = () if line.m is None else (await describe_collection(cube, asked.group)).times
    return await in_thread(
        partial(trajectory_query, asked, line, grids, times=times, vertical=vertical, limit=limits.points)
    )


QUERIES: Mapping[str, Maker] = {
    "position": _position,
    "area": _area,
    "cube": _cube,
    "trajectory": _trajectory,
}


def _answering(kind: str, make: Maker) -> Callable[..., Any]:
    """Return the endpoint of one kind of query."""

    async def answer(request: Request, cube: Mounted, formats: Formats, limits: Limits) -> Response:
        with parameters.edr_names():
            asked = parameters.read_query(request.query_params.multi_items(), kind)
            parameters.require(asked, kind)
            if asked.target_crs is not None:
                documents.require_crs(asked.target_crs, await describe_collection(cube, asked.group))
            high = parameters.asks_height(asked)
            vertical = (await describe_collection(cube, asked.group)).vertical if high else None
            query: Query = await make(cube, asked, limits, vertical)
            named, accept = asked.given.get("f"), request.headers.get("accept", "")
            output_format = negotiate(formats, named, accept, query.shape, documents.DEFAULT_FORMAT)
            plan = await cube.plan(asked.group, query.query, limits)
            selection = await plan.enforce()
        options = {"endpoint": request.url.path, **query.options}
        about = {"title": cube.title, "dataset": cube.id, "version": cube.version, **asked.conditions}

        async def produce() -> Result:
            with parameters.edr_names():
                loaded = await selection.load()
                done = await in_thread(partial(query.answer, loaded))
            facts = {**about, **loaded.facts}
            return Result(query.shape, done.dataset, done.x, done.y, done.time, done.crs, facts, options)

        response = await respond(
            request,
            cube,
            output_format,
            produce,
            filename=f"{cube.id}-{kind}",
            nbytes=query.copies * selection.nbytes,
        )
        response.headers["Vary"] = "Accept"
        return response

    answer.__name__ = kind
    return answer
