"""Objects over HTTP, where only an answer that proves to be the right bytes is accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from cubegate.cache.per_loop import PerLoop
from cubegate.chunks.address import Address, AllowList, check_range
from cubegate.chunks.connections import ConnectionBroken, Connections, Head
from cubegate.chunks.retry import ShortBody, read_with_retries
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import BearerToken, CredentialProvider
from cubegate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_LARGEST_REDIRECT = 2**20


class HTTPObjects:
    """An object source over the http(s) address `prefix`.

    Redirects are followed hop by hop, to addresses that `allowed` holds alone. The token of
    `credentials` goes to addresses below `prefix` alone. A read takes `deadline` seconds at most.
    """

    def __init__(
        self,
        prefix: Address,
        allowed: AllowList,
        *,
        credentials: CredentialProvider | None = None,
        deadline: float = 30.0,
    ) -> None:
        self._prefix = prefix
        self._own = AllowList([prefix])
        self._allowed = allowed
        self._credentials = credentials
        self._deadline = deadline
        self._connections = PerLoop(Connections, Connections.aclose)

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        check_range(reference)
        _, address = self._own.resolve(reference.url)
        if reference.length == 0:
            return b""
        return await read_with_retries(
            lambda left: self._attempt(address, reference, left), deadline=self._deadline, what=str(address)
        )

    async def list(self, url: str) -> list[str]:
        """Refuse: plain HTTP has no listing."""
        _, address = self._own.resolve(url)
        raise UpstreamError(f"{address} cannot be listed: plain HTTP has no listing.")

    async def aclose(self) -> None:
        """Close the connections of all event loops."""
        await self._connections.aclose()

    async def _attempt(self, address: Address, reference: ChunkReference, within: float) -> bytes:
        connections = self._connections.get()
        until = time.monotonic() + within
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                headers = await self._headers(address, reference, until)
                judge = _Judge(address, reference)
                answer = await connections.get(address, headers, judge, within=until - time.monotonic())
                if answer.head.status not in _REDIRECTS:
                    return _exactly(answer.body, address, reference)
                address = self._next_hop(address, answer.head.headers.get("location", ""))
        except ConnectionBroken as broken:
            if broken.in_body:
                raise ShortBody(f"The connection to {address} ended before the body did.") from None
            raise UpstreamUnavailable(f"The connection to {address} ended without an answer.") from None
        except TimeoutError:
            # it is an OSError too, and the caller's to judge
            raise
        except OSError:
            raise UpstreamUnavailable(f"{address} cannot be reached.") from None
        raise UpstreamMismatch(f"{address} redirects more than {_MOST_REDIRECTS} times.")

    def _next_hop(self, address: Address, location: str) -> Address:
        if not location:
            raise UpstreamMismatch(f"{address} redirects without saying where to.")
        _, following = self._allowed.resolve(urljoin(address.url, location))
        if following.scheme not in {"http", "https"}:
            raise UpstreamRefused(f"{address} redirects to {following}, which is not HTTP.")
        return following

    async def _headers(self, address: Address, reference: ChunkReference, until: float) -> dict[str, str]:
        headers = {}
        if reference.length is not None:
            headers["Range"] = f"bytes={reference.offset}-{reference.offset + reference.length - 1}"
        if self._credentials is not None and address.is_below(self._prefix):
            async with asyncio.timeout(until - time.monotonic()):
                credentials = await self._credentials.for_url(address.url)
            if isinstance(credentials, BearerToken):
                headers["Authorization"] = f"Bearer {credentials.token}"
        return headers


@dataclass(frozen=True, slots=True)
class _Judge:
    """Looks at the head of an answer to `reference`, and says how long its body may be."""

    address: Address
    reference: ChunkReference

    def __call__(self, head: Head) -> int | None:
        """Refuse what cannot be the right bytes, before they come."""
        address, reference, headers = self.address, self.reference, head.headers
        if head.status in _REDIRECTS:
            return _LARGEST_REDIRECT
        _check_status(head.status, address, reference)
        _check_content(headers, address)
        announced = headers.get("content-length")
        if reference.length is None:
            if announced is None and "chunked" not in headers.get("transfer-encoding", "").lower():
                raise UpstreamMismatch(f"{address} does not say how long it is.")
            return None
        last = reference.offset + reference.length - 1
        unit, _, total = headers.get("content-range", "").partition("/")
        if unit.strip() != f"bytes {reference.offset}-{last}" or not _holds(total.strip(), last):
            raise UpstreamMismatch(f"{address} answered another byte range than {reference.offset}-{last}.")
        if announced is not None and announced.strip() != str(reference.length):
            raise UpstreamMismatch(f"{address} announced {announced} bytes instead of {reference.length}.")
        return reference.length


def _check_status(status: int, address: Address, reference: ChunkReference) -> None:
    if status == (200 if reference.length is None else 206):
        return
    if status in {404, 410}:
        raise UpstreamObjectMissing(f"{address} does not exist.")
    if status in {401, 403}:
        raise UpstreamDenied(f"{address} refuses access (HTTP {status}).")
    if status in {408, 429} or status >= 500:
        raise UpstreamUnavailable(f"{address} is not available (HTTP {status}).")
    if status == 416:
        raise UpstreamMismatch(f"{address} ends before byte {reference.offset + (reference.length or 0)}.")
    if status == 200:
        raise UpstreamMismatch(f"{address} answered the whole object (HTTP 200) to a range read.")
    raise UpstreamMismatch(f"{address} answered HTTP {status}.")


def _check_content(headers: Mapping[str, str], address: Address) -> None:
    path = address.path.lower()
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in {"text/html", "application/xhtml+xml"} and not path.endswith((".html", ".htm")):
        raise UpstreamMismatch(f"{address} answered a web page.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    # Some servers call a stored .gz file "encoded"; any other encoding was made on the way.
    if encoding != "identity" and not (encoding in {"gzip", "x-gzip"} and path.endswith(".gz")):
        raise UpstreamMismatch(f"{address} answered with a content encoding that was not asked for.")


def _holds(total: str, last: int) -> bool:
    return total == "*" or (total.isascii() and total.isdigit() and int(total) > last)


def _exactly(body: bytes, address: Address, reference: ChunkReference) -> bytes:
    if reference.length is None or len(body) == reference.length:
        return body
    if len(body) > reference.length:
        raise UpstreamMismatch(f"{address} sent more than the {reference.length} bytes asked for.")
    raise ShortBody(f"{address} sent {len(body)} bytes instead of {reference.length}.")
