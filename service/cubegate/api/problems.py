"""Errors as problem+json (RFC 9457): the one table from error classes to HTTP statuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cubegate import errors

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_LATER = {"Retry-After": "5"}

# The first class that an error is an instance of gives the status and the title.
STATUSES: tuple[tuple[type[errors.CubegateError], int, str], ...] = (
    (errors.NotRepresentable, 404, "No form in this Zarr format"),
    (errors.NotFound, 404, "Not found"),
    (errors.InvalidParameter, 400, "Invalid parameter"),
    (errors.NotAcceptable, 400, "Not possible in this format"),
    (errors.BudgetExceeded, 413, "The query is too large"),
    (errors.Overloaded, 503, "The server is busy"),
    (errors.UpstreamTimeout, 504, "The data source did not answer in time"),
    (errors.UpstreamUnavailable, 503, "The data source is unavailable"),
    (errors.UpstreamError, 502, "The data source could not be read"),
    (errors.InvalidReference, 502, "The dataset could not be opened"),
    (errors.ConfigurationError, 503, "The dataset is not configured correctly"),
    (errors.RechunkFailed, 500, "The cube was not written"),
    (errors.CubegateError, 500, "The request failed"),
)

# What clients are told instead of the operator's message.
PUBLIC_DETAILS: Mapping[int, str] = {
    502: "The files behind this dataset did not give the data they should. No value was made up. "
    "The operator's log has the reason.",
    503: "The files behind this dataset cannot be read at the moment. Try again later.",
    504: "The files behind this dataset did not answer in time. Try again later, or ask for less.",
    500: "Something went wrong here. The operator's log has the reason.",
}  # fmt: skip

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "parameter": {"type": "string"},
        "accepted": {"type": "string"},
    },
}

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}}
    for status in (400, 404, 413, 502, 503, 504)
}


def problem(
    status: int, title: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """Build a problem+json response; `more` are extension members."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(json.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def problem_of(error: errors.CubegateError) -> Response:
    """Build the response to an error raised on purpose; upstream trouble is told to the log only."""
    status, title = next((status, title) for kind, status, title in STATUSES if isinstance(error, kind))
    if isinstance(error, errors.Overloaded):
        # not logged, since there may be very many
        return problem(status, title, str(error), {**_LATER, "Cache-Control": "no-store"})
    if status >= 500:
        logger.warning("answered %d: %s: %s", status, type(error).__name__, error)
        headers = _LATER if status != 500 else {}
        return problem(status, title, PUBLIC_DETAILS[status], {**headers, "Cache-Control": "no-store"})
    more: dict[str, Any] = {}
    if isinstance(error, errors.InvalidParameter):
        more = {"parameter": error.parameter}
        if error.accepted:
            more["accepted"] = error.accepted
    if isinstance(error, errors.BudgetExceeded):
        more = {"price": error.price, "limits": error.limits, "hint": error.hint}
    return problem(status, title, str(error), **more)


def register_problems(app: FastAPI) -> None:
    """Make every error of `app` answer with problem+json."""

    async def on_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.CubegateError)  # noqa: S101 - narrows the registered type
        return problem_of(error)

    async def on_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows the registered type
        first = error.errors()[0]
        name = next((part for part in first["loc"][1:] if isinstance(part, str)), str(first["loc"][0]))
        return problem(400, "Invalid parameter", f"Parameter {name!r}: {first['msg']}.", parameter=name)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - narrows the registered type
        status, phrase = error.status_code, HTTPStatus(error.status_code).phrase
        if status == 405:
            allowed = _allowed_methods(request)
            detail = f"{request.method} is not possible here. Allowed: {allowed}."
            return problem(status, phrase, detail, {"Allow": allowed})
        if status == 404 and error.detail == phrase:
            return problem(status, phrase, "There is nothing at this address. /docs lists what there is.")
        return problem(status, phrase, str(error.detail), error.headers)

    app.add_exception_handler(errors.CubegateError, on_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def _allowed_methods(request: Request) -> str:
    routes = request.app.router.routes
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    # HeadAsGet answers HEAD wherever there is GET
    return ", ".join(["GET", "HEAD", *found[1:]] if found[:1] == ["GET"] else found)


class ErrorBoundary:
    """The outermost edge inside CORS: an unforeseen error is a plain 500 and a log entry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; after the first byte an error aborts the connection instead."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        # returns what is to be awaited, which costs less than a coroutine around it
        def watched(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            # it left in the middle of its own request, so that nobody is there to be answered
            if started:
                raise
        except Exception:
            if started:
                raise
            logger.exception("unforeseen error at %r", scope["path"])
            response = problem(500, "The request failed", PUBLIC_DETAILS[500], {"Cache-Control": "no-store"})
            await response(scope, receive, send)
