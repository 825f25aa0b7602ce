"""OPeNDAP over HTTP: every cube as a DAP2 dataset, for netCDF tools, pydap, GDAL and Ferret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Datacube, problem_of, services
from cubegate.api.streamed import respond_streamed
from cubegate.dap.constraint import Projection, read_constraint
from cubegate.dap.data import enforce, length_of, write_ascii, write_xdr
from cubegate.dap.documents import write_das, write_dds, write_error, write_version
from cubegate.dap.page import policy, write_page
from cubegate.dap.variables import DapVariable, describe, longest_text
from cubegate.dap.wide_integers import settle
from cubegate.errors import CubegateError
from cubegate.query.coordinates import find_time
from cubegate.query.in_thread import in_thread

CONSTRAINT = """ The query string is a constraint expression of DAP2: names separated by commas, each
with `[start:stride:stop]` for all of its dimensions (`stop` included) or for none."""
SUMMARIES = {
    "dds": ("The structure of a dataset", f"Names, types and sizes.{CONSTRAINT}"),
    "das": ("The attributes of a dataset", "Those of all variables, as stored, with `_FillValue`."),
    "dods": ("Values of a dataset", f"The structure, and the values as stored, in XDR.{CONSTRAINT}"),
    "ascii": ("Values of a dataset as text", f"The structure, and the values as stored.{CONSTRAINT}"),
    "ver": ("The version of the protocol", "Of the protocol, and of the server."),
    "html": ("A dataset as a web page", "The variables, and the addresses to give to clients."),
}
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
PAGE = "text/html; charset=utf-8"
COMMON = {"XDAP": "2.0", "XDODS-Server": "dods/2.0"}
KINDS = {
    "dds": "dods_dds",
    "das": "dods_das",
    "dods": "dods_data",
    "ascii": "dods_ascii",
    "ver": "dods_version",
}

_TEXT_SCHEMA: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
_PAGE_SCHEMA: dict[str, Any] = {"text/html": {"schema": {"type": "string"}}}
_BINARY: dict[str, Any] = {BYTES: {"schema": {"type": "string", "format": "binary"}}}


class DapPlugin(Plugin):
    """Serves `/opendap.dds`, `.das`, `.dods`, `.ascii`, `.ver` and `.html` below every dataset."""

    name: str = "dap"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("opendap",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the routes."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        reads = {
            "dds": read_dds,
            "das": read_das,
            "dods": read_dods,
            "ascii": read_ascii,
            "ver": read_version,
            "html": read_page,
        }
        for suffix, read in reads.items():
            summary, description = SUMMARIES[suffix]
            router.add_api_route(
                f"/opendap.{suffix}",
                _with_dap_errors(read),
                methods=["GET"],
                summary=summary,
                description=description,
                response_class=Response,
                responses=_responses(suffix),
            )
        # what clients are given, opened in a browser
        router.add_api_route("/opendap", lead_to_page, methods=["GET"], include_in_schema=False)
        return router


def _responses(suffix: str) -> dict[int | str, dict[str, Any]]:
    errors = {
        status: {**each, "content": {**each["content"], **_TEXT_SCHEMA}}
        for status, each in PROBLEM_RESPONSES.items()
    }
    content = {"dods": _BINARY, "html": _PAGE_SCHEMA}.get(suffix, _TEXT_SCHEMA)
    return {
        200: {"description": "The document", "content": content},
        304: {"description": "The client's copy is still right"},
        **errors,
    }


DatasetId = Annotated[str, Path(description="A dataset's id, or `id@version`", examples=["opera-f11116"])]
Read = Callable[[Request, str], Awaitable[Response]]


def _with_dap_errors(read: Read) -> Read:
    """Let a route answer errors as DAP2 clients read them."""

    @wraps(read)
    async def reading(request: Request, dataset_id: DatasetId) -> Response:
        try:
            return await read(request, dataset_id)
        except CubegateError as error:
            return _error(error)

    return reading


def _error(error: CubegateError) -> Response:
    known = problem_of(error)
    document = write_error(known.status_code, json.loads(bytes(known.body))["detail"])
    kept = {name: each for name, each in known.headers.items() if name in ("retry-after", "cache-control")}
    headers = {**kept, **COMMON, "Content-Description": "dods_error"}
    return Response(document, known.status_code, headers, TEXT)


async def read_dds(request: Request, dataset_id: DatasetId) -> Response:
    """Answer the structure of what the constraint asks for."""
    cube, variables = await _open(request, dataset_id)
    document = await in_thread(lambda: write_dds(cube.id, read_constraint(request.url.query, variables)))
    return await _answer(request, cube, "dds", _only(document.encode()))


async def read_das(request: Request, dataset_id: DatasetId) -> Response:
    """Answer all attributes."""
    cube, variables = await _open(request, dataset_id)
    dataset = await cube.dataset()
    texts = [each for each in variables.values() if each.dap_type.is_text]
    found = await asyncio.gather(*[longest_text(each) for each in texts])
    lengths = {each.name: length for each, length in zip(texts, found, strict=True) if length is not None}

    def write() -> str:
        growing = find_time(dataset, list(dataset.dims), cube.grid_settings.time)[1]
        return write_das(variables.values(), dataset.attrs, lengths, growing)

    document = await in_thread(write)
    return await _answer(request, cube, "das", _only(document.encode()))


async def read_dods(request: Request, dataset_id: DatasetId) -> Response:
    """Answer the values that the constraint asks for, in XDR."""
    cube, variables = await _open(request, dataset_id)
    projections = await in_thread(lambda: _priced(request, variables))
    head = f"{write_dds(cube.id, projections)}\nData:\n".encode()
    length = length_of(projections)
    within = services(request).queries.slot
    pieces = _after(head, write_xdr(projections, within))
    return await _answer(request, cube, "dods", pieces, None if length is None else len(head) + length)


async def read_ascii(request: Request, dataset_id: DatasetId) -> Response:
    """Answer the values that the constraint asks for, as text."""
    cube, variables = await _open(request, dataset_id)
    projections = await in_thread(lambda: _priced(request, variables))
    head = f"{write_dds(cube.id, projections)}{'-' * 45}\n".encode()
    return await _answer(
        request, cube, "ascii", _after(head, write_ascii(projections, services(request).queries.slot))
    )


async def read_version(request: Request, dataset_id: DatasetId) -> Response:
    """Answer which protocol is spoken."""
    cube, _ = await _open(request, dataset_id)
    return await _answer(request, cube, "ver", _only(write_version().encode()))


async def read_page(request: Request, dataset_id: DatasetId) -> Response:
    """Answer the page for people."""
    cube, variables = await _open(request, dataset_id)
    base = str(request.base_url).rstrip("/")
    address = f"{base}/datasets/{quote(dataset_id, safe='@')}/opendap"
    page = await in_thread(lambda: write_page(cube.title, address, variables.values()))
    # it shows the address that was asked
    headers = {"Cache-Control": "no-cache", "Vary": "Host", "Content-Security-Policy": policy()}
    return Response(page, 200, {**headers, "X-Content-Type-Options": "nosniff"}, PAGE)


async def lead_to_page() -> Response:
    """Lead a browser to the page."""
    return RedirectResponse("opendap.html", 302)


async def _open(request: Request, dataset_id: str) -> tuple[Datacube, dict[str, DapVariable]]:
    cube = await services(request).catalog.stored(dataset_id)
    dataset = await cube.dataset()
    return cube, await settle(await in_thread(lambda: describe(dataset)))


def _priced(request: Request, variables: dict[str, DapVariable]) -> list[Projection]:
    projections = read_constraint(request.url.query, variables)
    enforce(projections, services(request).limits)
    return projections


async def _answer(
    request: Request, cube: Datacube, suffix: str, pieces: AsyncGenerator[bytes], length: int | None = None
) -> Response:
    headers = {**COMMON, "Content-Description": KINDS[suffix]}
    media_type = BYTES if suffix == "dods" else TEXT
    return await respond_streamed(
        request, cube, pieces, media_type=media_type, headers=headers, length=length
    )


async def _only(document: bytes) -> AsyncGenerator[bytes]:
    yield document


async def _after(head: bytes, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Give the head with the first values, so that what is wrong with these has a status of its own."""
    async with aclosing(pieces):
        async for piece in pieces:
            if not piece:
                continue
            yield head + piece
            head = b""
        if head:
            yield head
