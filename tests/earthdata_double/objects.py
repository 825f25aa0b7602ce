"""The object stores of the Earthdata double: one for signed URLs, one for temporary keys."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from tests.earthdata_double.double import EarthdataDouble

_SIGNER = b"signer-value"
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_MODIFIED = "Tue, 08 Apr 2025 13:22:33 GMT"


def signed_query(double: EarthdataDouble, path: str) -> str:
    """Return the query that opens `path` for as long as the double's `signed_lifetime` says."""
    date = f"{datetime.fromtimestamp(double.clock(), UTC):%Y%m%dT%H%M%SZ}"
    expires = f"{double.clock() + double.signed_lifetime:.3f}"
    signature = _signature(double, path, expires)
    double.secrets.add(signature)
    return (
        f"A-userid=user&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={date}"
        f"&X-Amz-Expires={double.signed_lifetime:.0f}&Expires={expires}"
        f"&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
    )


def objects_application(double: EarthdataDouble) -> web.Application:
    """The origin of signed URLs, `/signed/…`."""

    async def answer(request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            return _error(400, "InvalidArgument")
        query = request.query
        expected = _signature(double, request.raw_path.partition("?")[0], query.get("Expires", ""))
        if not hmac.compare_digest(expected, query.get("X-Amz-Signature", "")):
            return _error(403, "SignatureDoesNotMatch")
        if float(query["Expires"]) <= double.clock():
            return _error(403, "AccessDenied", "Request has expired")
        return _content(double, request.match_info["name"], request)

    application = web.Application()
    application.router.add_get("/signed/{name:.+}", answer)
    return application


def s3_application(double: EarthdataDouble) -> web.Application:
    """An S3 endpoint, `/<bucket>/<key>`; it looks at the keys alone, not at signatures."""

    async def answer(request: web.Request) -> web.Response:
        found = _CREDENTIAL.match(request.headers.get("Authorization", ""))
        session = request.headers.get("x-amz-security-token", "")
        if found is None or request.match_info["bucket"] != double.bucket:
            return _error(403, "AccessDenied")
        if not double.good_key(found[1], session):
            return _error(400, "ExpiredToken", "The provided token has expired.")
        if double.out_of_region:
            return _error(403, "AccessDenied")
        return _content(double, request.match_info["name"], request)

    application = web.Application()
    application.router.add_get("/{bucket}/{name:.+}", answer)
    return application


def _signature(double: EarthdataDouble, path: str, expires: str) -> str:
    said = f"{double.generation}\n{path}\n{expires}"
    return hmac.new(_SIGNER, said.encode(), hashlib.sha256).hexdigest()


def _error(status: int, code: str, message: str = "upstream-text-value") -> web.Response:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        "<HostId>upstream-text-value</HostId></Error>"
    )
    return web.Response(status=status, text=body, content_type="application/xml")


def _content(double: EarthdataDouble, name: str, request: web.Request) -> web.Response:
    data = double.objects.get(name)
    if data is None:
        return _error(404, "NoSuchKey")
    etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
    headers = {"ETag": etag, "Last-Modified": _MODIFIED, "Accept-Ranges": "bytes"}
    if request.headers.get("If-Match", etag) not in {etag, "*"}:
        return _error(412, "PreconditionFailed")
    wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
    if wanted is None or request.headers.get("If-Range", etag) not in {etag, _MODIFIED}:
        return web.Response(body=data, headers=headers, content_type="binary/octet-stream")
    first, last = _bounds(wanted, len(data))
    if first > last:
        return _error(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return web.Response(
        status=206, body=data[first : last + 1], headers=headers, content_type="binary/octet-stream"
    )


def _bounds(wanted: re.Match[str], size: int) -> tuple[int, int]:
    """First and last byte of a range; the first is behind the last where the object has none of it."""
    if not wanted[1]:
        return max(0, size - int(wanted[2])), size - 1
    return int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
