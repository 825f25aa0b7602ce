"""One request to a host that gives credentials, of which nothing is followed, kept or shown."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

from cubegate.errors import UpstreamUnavailable

_DEADLINE = 10.0
_PAUSES = (0.2, 0.8)
_LARGEST_BODY = 2**16


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type, redirect and body of an answer; `asked` is the address that gave it."""

    asked: str
    status: int
    media_type: str
    location: str = field(repr=False)
    body: bytes = field(repr=False)

    def document(self) -> Any:
        """The body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


async def ask(method: str, address: str, authorization: str) -> Answer:
    """Send `authorization` to `address` and return the answer, whatever it says but "not now".

    Raises:
        UpstreamUnavailable: three times within 10 s there was no answer, or one that asks to come
            again (408, 429, 5xx).
    """
    until = time.monotonic() + _DEADLINE
    for pause in _PAUSES:
        try:
            return await _attempt(method, address, authorization, until - time.monotonic())
        except UpstreamUnavailable:
            pause *= random.uniform(0.5, 1.5)  # noqa: S311, PLW2901 - jitter, not a secret
            if time.monotonic() + pause >= until:
                raise
            await asyncio.sleep(pause)
    return await _attempt(method, address, authorization, until - time.monotonic())


async def _attempt(method: str, address: str, authorization: str, within: float) -> Answer:
    # 0.2 s of import, for those alone who have such credentials
    import aiohttp  # noqa: PLC0415
    import yarl  # noqa: PLC0415

    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=within), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )
    headers = {"Authorization": authorization, "Accept": "application/json", "Accept-Encoding": "identity"}
    try:
        async with (
            session,
            session.request(
                method,
                yarl.URL(address, encoded=True),
                headers=headers,
                allow_redirects=False,
            ) as response,
        ):
            answer = Answer(
                address,
                response.status,
                response.content_type.lower(),
                response.headers.get("Location", ""),
                await _body(response.content, address),
            )
    except TimeoutError:
        raise UpstreamUnavailable(f"{address} did not answer within {_DEADLINE:g} s.") from None
    except (aiohttp.ClientError, OSError):
        raise UpstreamUnavailable(f"{address} cannot be reached.") from None
    if answer.status in {408, 429} or answer.status >= 500:
        raise UpstreamUnavailable(f"{address} is not available (HTTP {answer.status}).")
    return answer


async def _body(content: Any, address: str) -> bytes:
    body = bytearray()
    while data := await content.read(_LARGEST_BODY + 1 - len(body)):
        body += data
        if len(body) > _LARGEST_BODY:
            raise UpstreamUnavailable(f"{address} answered more than credentials take.")
    return bytes(body)
