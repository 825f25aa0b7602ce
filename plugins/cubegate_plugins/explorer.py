"""The explorer page at `/`, the page of the interface at `/docs`, and what they need: all from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import PrivateAttr
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, datacube, describe_cube

PAGES = Path(__file__).parent / "explorer_page"

# the browser itself refuses whatever would come from elsewhere, or from a text in the data
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
DESCRIPTION = """What a page needs to show the dataset: the numeric variables on its first grid with units,
all times, the CRS as PROJJSON, the extent in it and in degrees, the size of a cell, and the values of
further dimensions. A dataset combined of others is described by what its members have together."""


class ExplorerPlugin(Plugin):
    """Serves `/`, `/docs` and their files, and `/description` below every dataset."""

    name: str = "explorer"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("description",)
    _files: StaticFiles = PrivateAttr(default_factory=lambda: StaticFiles(directory=PAGES))

    @hookimpl
    def app_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes of the pages."""
        router = APIRouter(include_in_schema=False)

        async def explorer(request: Request) -> Response:
            return await self._file("explorer.html", request)

        async def interface(request: Request) -> Response:
            return await self._file("docs.html", request)

        async def file(request: Request, name: str) -> Response:
            return await self._file(name, request)

        router.add_api_route("/", explorer, methods=["GET"])
        router.add_api_route("/docs", interface, methods=["GET"])
        router.add_api_route("/explorer/{name:path}", file, methods=["GET"])
        return router

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the route of the description."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        router.add_api_route(
            "/description",
            read_description,
            methods=["GET"],
            summary="What a page needs to show the dataset",
            description=DESCRIPTION,
            responses=PROBLEM_RESPONSES,
        )
        return router

    async def _file(self, name: str, request: Request) -> Response:
        response = await self._files.get_response(name, request.scope)
        response.headers.update(HEADERS)
        return response


async def read_description(cube: Annotated[Cube, Depends(datacube)]) -> dict[str, Any]:
    """Answer what a page needs to show the dataset."""
    return await describe_cube(cube)
