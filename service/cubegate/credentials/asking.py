"""One request to a host that gives credentials, of which nothing is followed, kept or shown."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cubegate.errors import UpstreamUnavailable

_DEADLINE = 10.0
_PAUSES = (0.2, 0.8)
_LARGEST_BODY = 2**16


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type, redirect and body of an answer; `asked` is the address that gave it, as shown."""

    asked: str
    status: int
    media_type: str
    location: str = field(repr=False)
    body: bytes = field(repr=False)
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)

    def document(self) -> Any:
        """The body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


async def ask(
    method: str,
    address: str,
    *,
    authorization: str | None = None,
    cookies: Mapping[str, str] | None = None,
    shown: str | None = None,
) -> Answer:
    """Send `authorization` and `cookies` to `address`, and return the answer unless it says "not now".

    `shown` stands for the address in messages, where it is not one of the configuration.

    Raises:
        UpstreamUnavailable: three times within 10 s there was no answer, or one that asks to come
            again (408, 429, 5xx).
    """
    until = time.monotonic() + _DEADLINE
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if authorization is not None:
        headers["Authorization"] = authorization
    if cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    request = _Request(method, address, headers, shown or address)
    for pause in _PAUSES:
        try:
            return await _attempt(request, until - time.monotonic())
        except UpstreamUnavailable:
            pause *= random.uniform(0.5, 1.5)  # noqa: S311, PLW2901 - jitter, not a secret
            if time.monotonic() + pause >= until:
                raise
            await asyncio.sleep(pause)
    return await _attempt(request, until - time.monotonic())


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    address: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    shown: str


async def _attempt(request: _Request, within: float) -> Answer:
    # 0.2 s of import, for those alone who have such credentials
    import aiohttp  # noqa: PLC0415
    import yarl  # noqa: PLC0415

    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=within), trust_env=False)
    shown, headers = request.shown, request.headers
    try:
        url = yarl.URL(request.address, encoded=True)
        async with (
            session,
            session.request(request.method, url, headers=headers, allow_redirects=False) as response,
        ):
            answer = Answer(
                shown,
                response.status,
                response.content_type.lower(),
                response.headers.get("Location", ""),
                await _body(response.content, shown),
                {name: cookie.coded_value for name, cookie in response.cookies.items()},
            )
    except TimeoutError:
        raise UpstreamUnavailable(f"{shown} did not answer within {_DEADLINE:g} s.") from None
    except (aiohttp.ClientError, OSError, ValueError):
        raise UpstreamUnavailable(f"{shown} cannot be reached.") from None
    if answer.status in {408, 429} or answer.status >= 500:
        raise UpstreamUnavailable(f"{shown} is not available (HTTP {answer.status}).")
    return answer


async def _body(content: Any, shown: str) -> bytes:
    body = bytearray()
    while data := await content.read(_LARGEST_BODY + 1 - len(body)):
        body += data
        if len(body) > _LARGEST_BODY:
            raise UpstreamUnavailable(f"{shown} answered more than credentials take.")
    return bytes(body)
