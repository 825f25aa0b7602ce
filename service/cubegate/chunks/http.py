"""Objects over HTTP, where only an answer that proves to be the right bytes is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from cubegate.cache.per_loop import PerLoop
from cubegate.chunks.address import Address, AllowList, check_range
from cubegate.chunks.retry import ShortBody, read_with_retries
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import BearerToken, CredentialProvider
from cubegate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_CONNECT_TIMEOUT = 10.0


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
        self._sessions = PerLoop(self._open_session, _close_session)

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        check_range(reference)
        _, address = self._own.resolve(reference.url)
        if reference.length == 0:
            return b""
        return await read_with_retries(
            lambda: self._attempt(address, reference), deadline=self._deadline, what=str(address)
        )

    async def list(self, url: str) -> list[str]:
        """Refuse: plain HTTP has no listing."""
        _, address = self._own.resolve(url)
        raise UpstreamError(f"{address} cannot be listed: plain HTTP has no listing.")

    async def aclose(self) -> None:
        """Close the connections of all event loops."""
        await self._sessions.aclose()

    async def _attempt(self, address: Address, reference: ChunkReference) -> bytes:
        try:
            session = await self._sessions.get()
            for _ in range(_MOST_REDIRECTS + 1):
                async with session.get(
                    URL(address.url, encoded=True),
                    headers=await self._headers(address, reference),
                    allow_redirects=False,
                ) as response:
                    if response.status not in _REDIRECTS:
                        return await _read_answer(response, address, reference)
                    address = self._next_hop(address, response.headers.get("Location", ""))
        except TimeoutError:
            raise UpstreamTimeout(f"{address} did not answer in time.") from None
        except aiohttp.ClientPayloadError:
            raise ShortBody(f"The connection to {address} ended before the body did.") from None
        except aiohttp.ClientError:
            raise UpstreamUnavailable(f"{address} cannot be reached.") from None
        raise UpstreamMismatch(f"{address} redirects more than {_MOST_REDIRECTS} times.")

    def _next_hop(self, address: Address, location: str) -> Address:
        if not location:
            raise UpstreamMismatch(f"{address} redirects without saying where to.")
        _, following = self._allowed.resolve(urljoin(address.url, location))
        if following.scheme not in {"http", "https"}:
            raise UpstreamRefused(f"{address} redirects to {following}, which is not HTTP.")
        return following

    async def _headers(self, address: Address, reference: ChunkReference) -> dict[str, str]:
        headers = {}
        if reference.length is not None:
            headers["Range"] = f"bytes={reference.offset}-{reference.offset + reference.length - 1}"
        if self._credentials is not None and address.is_below(self._prefix):
            credentials = await self._credentials.for_url(address.url)
            if isinstance(credentials, BearerToken):
                headers["Authorization"] = f"Bearer {credentials.token}"
        return headers

    def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "cubegate"},
            timeout=aiohttp.ClientTimeout(sock_connect=min(_CONNECT_TIMEOUT, self._deadline)),
        )


async def _close_session(session: aiohttp.ClientSession) -> None:
    await session.close()


async def _read_answer(
    response: aiohttp.ClientResponse, address: Address, reference: ChunkReference
) -> bytes:
    _check_status(response.status, address, reference)
    _check_content(response.headers, address)
    announced = response.content_length
    if reference.length is None:
        if announced is None and "chunked" not in response.headers.get("Transfer-Encoding", "").lower():
            raise UpstreamMismatch(f"{address} does not say how long it is.")
        return await response.read()
    last = reference.offset + reference.length - 1
    unit, _, total = response.headers.get("Content-Range", "").partition("/")
    if unit.strip() != f"bytes {reference.offset}-{last}" or not _holds(total.strip(), last):
        raise UpstreamMismatch(f"{address} answered another byte range than {reference.offset}-{last}.")
    if announced not in {None, reference.length}:
        raise UpstreamMismatch(f"{address} announced {announced} bytes instead of {reference.length}.")
    return await _read_exactly(response, address, reference.length)


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
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in {"text/html", "application/xhtml+xml"} and not path.endswith((".html", ".htm")):
        raise UpstreamMismatch(f"{address} answered a web page.")
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    # Some servers call a stored .gz file "encoded"; any other encoding was made on the way.
    if encoding != "identity" and not (encoding in {"gzip", "x-gzip"} and path.endswith(".gz")):
        raise UpstreamMismatch(f"{address} answered with a content encoding that was not asked for.")


def _holds(total: str, last: int) -> bool:
    return total == "*" or (total.isascii() and total.isdigit() and int(total) > last)


async def _read_exactly(response: aiohttp.ClientResponse, address: Address, length: int) -> bytes:
    blocks, received = [], 0
    async for block in response.content.iter_any():
        blocks.append(block)
        received += len(block)
        if received > length:
            raise UpstreamMismatch(f"{address} sent more than the {length} bytes asked for.")
    if received < length:
        raise ShortBody(f"{address} sent {received} bytes instead of {length}.")
    return b"".join(blocks)
