"""STAC API over HTTP: the cubes as collections of one catalog, with the datacube extension."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Services, services
from cubegate.api.collections import describe_collection, find_collections
from cubegate.edr.description import Description
from cubegate.edr.parameters import LIMIT, OFFSET, read_count, read_page
from cubegate.edr.search import BBOX, DATETIME, WORDS, read_search
from cubegate.errors import NotFound
from cubegate.query.in_thread import in_thread
from cubegate.stac import documents

PAGE = 50
LARGEST_PAGE = 100
JSON = "application/json"
PAGE_PARAMETERS = (LIMIT, OFFSET, BBOX, DATETIME, WORDS)

Found = Annotated[Services, Depends(services)]
CollectionId = Annotated[str, Path(description="A dataset's id, or `id@version`", examples=["opera-f11116"])]


class STACPlugin(Plugin):
    """Serves `/stac`."""

    name: str = "stac"
    app_router_prefix: str = "/stac"
    app_router_tags: tuple[str, ...] = ("stac",)

    @hookimpl
    def app_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes."""
        router = APIRouter(prefix=self.app_router_prefix, tags=list(self.app_router_tags))
        for path, endpoint, summary in (
            ("", landing, "The landing page of the STAC API, a catalog"),
            ("/conformance", conformance, "The conformance classes"),
            ("/api", interface, "The interface, as OpenAPI"),
            ("/collections", collections, "The cubes as STAC collections, a page at a time"),
            ("/collections/{collection_id}", one_collection, "One cube as a STAC collection"),
        ):
            paged = PAGE_PARAMETERS if path == "/collections" else ()
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                summary=summary,
                response_class=Response,
                responses=_responses(path),
                openapi_extra={"parameters": [each.as_openapi() for each in paged]},
            )
        # where a client joins an address that ends in a slash
        router.add_api_route("/", landing, methods=["GET"], response_class=Response, include_in_schema=False)
        return router


def _responses(path: str) -> dict[int | str, dict[str, Any]]:
    media_type = documents.OPENAPI if path == "/api" else JSON
    answer = {"description": "The document", "content": {media_type: {"schema": {"type": "object"}}}}
    return {200: answer, **(PROBLEM_RESPONSES if "{" in path else {400: PROBLEM_RESPONSES[400]})}


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _document(document: dict[str, Any], media_type: str = JSON) -> Response:
    # the links are to the address that was asked
    headers = {"Cache-Control": "no-cache", "Vary": "Host"}
    return Response(json.dumps(document, allow_nan=False), 200, headers, media_type)


def _routes(request: Request) -> frozenset[str]:
    return frozenset(re.sub(r"\{[^}]*\}", "{}", path) for path in request.app.openapi()["paths"])


async def landing(request: Request, found: Found) -> Response:
    """Answer the catalog."""
    read_page(request.query_params.multi_items(), ())
    await found.catalog.refresh()
    return _document(documents.landing_page(_base(request), found.catalog.ids()))


async def conformance(request: Request) -> Response:
    """Answer what is conformed to."""
    read_page(request.query_params.multi_items(), ())
    return _document(documents.conformance())


async def interface(request: Request) -> Response:
    """Answer the part of the OpenAPI document that is about `/stac`."""
    whole = request.app.openapi()
    paths = {path: each for path, each in whole["paths"].items() if path.startswith("/stac")}
    return _document({**whole, "paths": paths}, documents.OPENAPI)


async def collections(request: Request, found: Found) -> Response:
    """Answer one page of those collections that can be opened, have a place and are asked for."""
    # pystac-client repeats those of a link that it follows
    items = list(dict.fromkeys(request.query_params.multi_items()))
    given = read_page(items, PAGE_PARAMETERS)
    limit = read_count(given, LIMIT, PAGE, 1, LARGEST_PAGE)
    offset = read_count(given, OFFSET, 0, 0, 10**9)
    search = read_search(given)

    def wanted(cube: Description) -> bool:
        text = documents.words_of(cube, _text(found, cube))
        return cube.box is not None and search.finds(cube, text)

    listed, following = await find_collections(found, offset, limit, wanted)
    base, routes = _base(request), _routes(request)
    page = [documents.stac_collection(base, cube, _text(found, cube), routes) for cube in listed]
    query = {name: text for name, text in given.items() if name != OFFSET.name} | {LIMIT.name: str(limit)}
    return _document(documents.collections_page(base, page, query, offset, following))


async def one_collection(request: Request, collection_id: CollectionId, found: Found) -> Response:
    """Answer one cube."""
    read_page(request.query_params.multi_items(), ())
    cube = await found.catalog.get(collection_id)
    described = await describe_collection(cube)
    base, routes = _base(request), _routes(request)
    text = cube.collection.description
    return _document(await in_thread(lambda: documents.stac_collection(base, described, text, routes)))


def _text(found: Services, described: Description) -> str:
    try:
        return found.catalog.collection(described.id).description
    except NotFound:
        # taken away in this moment
        return ""
