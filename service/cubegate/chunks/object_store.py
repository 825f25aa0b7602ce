"""Objects in an S3 bucket, or in a store that speaks its protocol, read through obstore."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from cubegate.chunks.address import Address, AllowList, check_range
from cubegate.chunks.retry import read_with_retries
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import CredentialProvider, S3Keys
from cubegate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from obstore.store import S3Credential

T = TypeVar("T")

_STATUS = re.compile(r"Server returned non-2xx status code: ([0-9]{3})")
_MISMATCHES = {
    "source: NotPartial": "answered the whole object to a range read",
    "source: UnexpectedRange": "answered another byte range than the one asked for",
    "redirect without LOCATION": "seems to be in another region than the configured one",
}
_DEFAULT_REGION = "us-east-1"
_LISTED_AT_ONCE = 1000


class S3Objects:
    """An object source over the s3 address `prefix`.

    Without `credentials` requests are anonymous. `endpoint_url` is where an S3 look-alike
    answers, with the bucket in the path. A read takes `deadline` seconds at most. The endpoint is
    trusted to redirect to itself alone, since obstore follows redirects by itself.
    """

    def __init__(
        self,
        prefix: Address,
        *,
        credentials: CredentialProvider | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        deadline: float = 30.0,
    ) -> None:
        region = region or _DEFAULT_REGION
        self._prefix = prefix
        self._allowed = AllowList([prefix])
        self._deadline = deadline
        # The endpoint is always given, so that no environment variable can lead elsewhere.
        self._store = S3Store(
            prefix.authority,
            region=region,
            endpoint=endpoint_url or f"https://s3.{region}.amazonaws.com",
            virtual_hosted_style_request=False,
            skip_signature=credentials is None,
            credential_provider=None if credentials is None else _obstore_provider(credentials, str(prefix)),
            client_options={
                "allow_http": (endpoint_url or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=min(10.0, deadline)),
                "timeout": timedelta(seconds=deadline + 5),
            },
            retry_config={"max_retries": 0},
        )

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        check_range(reference)
        _, address = self._allowed.resolve(reference.url)
        if reference.length == 0:
            return b""
        return await self._read(address, lambda: self._fetch(address, reference))

    async def list(self, url: str) -> list[str]:
        """Return the URLs of all objects below `url`; see `ObjectSource`."""
        _, address = self._allowed.resolve(url)
        keys = await self._read(address, lambda: self._keys(_key(address)))
        return sorted(f"s3://{address.authority}/{key}" for key in keys)

    async def aclose(self) -> None:
        """There is nothing to release: obstore closes idle connections by itself."""

    async def _fetch(self, address: Address, reference: ChunkReference) -> bytes:
        if reference.length is None:
            answer = await obstore.get_async(self._store, _key(address))
            data, length = bytes(await answer.bytes_async()), answer.meta["size"]
        else:
            length = reference.length
            data = bytes(
                await obstore.get_range_async(
                    self._store, _key(address), start=reference.offset, length=length
                )
            )
        if len(data) != length:
            raise UpstreamMismatch(f"{address} holds {len(data)} bytes where {length} were asked for.")
        return data

    async def _keys(self, prefix: str) -> Sequence[str]:
        listing = obstore.list(self._store, prefix or None, chunk_size=_LISTED_AT_ONCE)
        return [found["path"] async for block in listing for found in block]

    async def _read(self, address: Address, read: Callable[[], Awaitable[T]]) -> T:
        async def attempt(left: float) -> T:
            try:
                async with asyncio.timeout(left):
                    return await read()
            except (BaseError, FileNotFoundError) as error:
                raise _translated(error, address) from None

        return await read_with_retries(attempt, deadline=self._deadline, what=str(address))


def _key(address: Address) -> str:
    return address.path.strip("/")


def _obstore_provider(
    credentials: CredentialProvider, url: str
) -> Callable[[], Coroutine[Any, Any, S3Credential]]:
    async def provide() -> S3Credential:
        keys = await credentials.for_url(url)
        if not isinstance(keys, S3Keys):
            raise UpstreamDenied(f"The credentials of {url} are not S3 keys.")
        return {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "token": keys.session_token,
            "expires_at": keys.expires,
        }

    return provide


def _translated(error: BaseError | FileNotFoundError, address: Address) -> UpstreamError:
    """Judge an error of obstore, whose text quotes the upstream and must not be passed on."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        # A lost bucket, or a proxy's 404, does not mean that a chunk was never written.
        if "<Code>NoSuchKey</Code>" in text:
            return UpstreamObjectMissing(f"{address} does not exist.")
        return UpstreamMismatch(
            f"{address} is not found, yet the store does not say that the object is missing."
        )
    status = _STATUS.search(text)
    code = int(status[1]) if status is not None else None
    if code in {401, 403} or isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return UpstreamDenied(f"{address} refuses access.")
    for sign, meaning in _MISMATCHES.items():
        if sign in text:
            return UpstreamMismatch(f"{address} {meaning}.")
    if code is not None and code < 500 and code not in {408, 429}:
        return UpstreamMismatch(f"{address} answered HTTP {code}.")
    return UpstreamUnavailable(f"{address} cannot be reached, or is not available.")
