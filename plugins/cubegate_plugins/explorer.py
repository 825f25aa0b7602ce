"""The explorer page at `/`, the page of the interface at `/docs`, and what they need: all from here."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import PrivateAttr
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response
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
COMPRESSED = frozenset({".css", ".html", ".js", ".svg"})
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
        if Path(name).suffix in COMPRESSED:
            response = await _compress(response, request)
            response.headers["Vary"] = "Accept-Encoding"
        response.headers.update(HEADERS)
        return response


async def _compress(response: Response, request: Request) -> Response:
    """Give a whole file as gzip where the client takes that, under an ETag of its own; else as it is."""
    if not takes_gzip(request.headers.get("accept-encoding", "")):
        return response
    held = request.headers.get("if-none-match", "")
    if not isinstance(response, FileResponse) or response.stat_result is None:
        return response
    etag = f'{response.headers["etag"][:-1]}-gzip"'
    headers = {"ETag": etag, "Last-Modified": response.headers["last-modified"]}
    if etag in {tag.strip().removeprefix("W/") for tag in held.split(",")}:
        return Response(status_code=304, headers=headers)
    stat = response.stat_result
    body = await run_in_threadpool(_gzipped, str(response.path), stat.st_mtime_ns, stat.st_size)
    return Response(body, media_type=response.media_type, headers={**headers, "Content-Encoding": "gzip"})


def takes_gzip(accepted: str) -> bool:
    """Tell whether an `Accept-Encoding` names gzip, or all, with a weight above zero."""
    weights = {}
    for part in accepted.lower().split(","):
        coding, _, parameter = part.partition(";")
        name, _, weight = parameter.partition("=")
        refused = name.strip() == "q" and not weight.strip().strip("0.")
        weights[coding.strip()] = not refused
    return weights.get("gzip", weights.get("*", False))


@functools.lru_cache(maxsize=64)
def _gzipped(path: str, modified: int, size: int) -> bytes:  # noqa: ARG001 - a file that changed is another
    return gzip.compress(Path(path).read_bytes(), mtime=0)


async def read_description(cube: Annotated[Cube, Depends(datacube)]) -> dict[str, Any]:
    """Answer what a page needs to show the dataset."""
    return await describe_cube(cube)
