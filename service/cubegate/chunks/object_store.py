"""Objects in an S3 bucket, or in a store that speaks its protocol, read through obstore."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from cubegate.cache.per_loop import PerLoop
from cubegate.chunks.address import Address, AllowList, check_range
from cubegate.chunks.answers import is_page
from cubegate.chunks.limits import LARGEST_OBJECT
from cubegate.chunks.object_store_errors import status_of, translated
from cubegate.chunks.refusals import RENEWABLE
from cubegate.chunks.renewal import Renewal, held_keys
from cubegate.chunks.retry import read_with_retries
from cubegate.chunks.source import ChunkReference, ObjectState
from cubegate.chunks.validators import check_unchanged, precondition, validator_of
from cubegate.credentials import BearerToken, CredentialProvider, S3Keys
from cubegate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
)

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import S3Credential

T = TypeVar("T")

DEFAULT_REGION = "us-east-1"
_LISTED_AT_ONCE = 1000
_NO_DATE = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class _Signing:
    """A store that signs by `keys`, which are asked for again after `until` of the monotonic clock."""

    store: S3Store = field(repr=False)
    keys: S3Keys | None
    until: float


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
        self._prefix = prefix
        self._allowed = AllowList([prefix])
        self._region = region or DEFAULT_REGION
        self._endpoint = endpoint_url or aws_endpoint(self._region)
        self._deadline = deadline
        self._credentials = credentials
        self._renewal = None if credentials is None else Renewal(credentials)
        self._asking = PerLoop(asyncio.Lock)
        self._signing: _Signing | None = None
        if credentials is None:
            self._signing = _Signing(self._open(None), None, float("inf"))

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        check_range(reference)
        _, address = self._allowed.resolve(reference.url)
        if reference.length == 0:
            return b""
        return await self._read(address, lambda store: _fetch(store, address, reference))

    async def stat(self, url: str) -> ObjectState:
        """Return what the object at `url` is known by now; see `ObjectSource`."""
        _, address = self._allowed.resolve(url)
        return await self._read(address, lambda store: _state(store, address))

    async def list(self, url: str) -> list[str]:
        """Return the URLs of all objects below `url`; see `ObjectSource`."""
        _, address = self._allowed.resolve(url)
        keys = await self._read(address, lambda store: _keys(store, _key(address)))
        return sorted(f"s3://{address.authority}/{key}" for key in keys)

    async def aclose(self) -> None:
        """There is nothing to release: obstore closes idle connections by itself."""

    async def _read(self, address: Address, read: Callable[[S3Store], Awaitable[T]]) -> T:
        async def attempt(left: float) -> T:
            async with asyncio.timeout(left):
                signing = await self._signed()
                try:
                    return await read(signing.store)
                except (BaseError, FileNotFoundError) as error:
                    refused = translated(error, address, signing.keys)
                signing = await self._renewed(signing, refused)
                try:
                    return await read(signing.store)
                except (BaseError, FileNotFoundError) as error:
                    refused = translated(error, address, signing.keys)
                if _is_renewable(refused) and self._renewal is not None:
                    self._renewal.was_in_vain()
                raise refused

        return await read_with_retries(attempt, deadline=self._deadline, what=str(address))

    async def _signed(self) -> _Signing:
        signing = self._signing
        if signing is not None and time.monotonic() < signing.until:
            return signing
        assert self._credentials is not None  # noqa: S101 - without them nothing is asked again
        async with self._asking.get():
            signing = self._signing
            if signing is None or time.monotonic() >= signing.until:
                signing = self._take(await self._credentials.for_url(str(self._prefix)))
        return signing

    async def _renewed(self, signing: _Signing, refused: UpstreamError) -> _Signing:
        if not _is_renewable(refused) or signing.keys is None or self._renewal is None:
            raise refused
        return self._take(await self._renewal.instead_of(signing.keys, str(self._prefix), refused))

    def _take(self, given: BearerToken | S3Keys) -> _Signing:
        keys, until = held_keys(given, self._prefix)
        held = self._signing
        # a new store has no connections yet
        store = held.store if held is not None and held.keys == keys else self._open(keys)
        self._signing = _Signing(store, keys, until)
        return self._signing

    def _open(self, keys: S3Keys | None) -> S3Store:
        # All that obstore would take from AWS_* variables and that shows in a request is given, and
        # the keys by way of a provider, so that no variable can lead elsewhere or be mixed in.
        return S3Store(
            self._prefix.authority,
            region=self._region,
            endpoint=self._endpoint,
            aws_endpoint_url_s3=self._endpoint,
            virtual_hosted_style_request=False,
            s3_express=False,
            request_payer=False,
            unsigned_payload=False,
            # shows in no read, while a customer's key would be sent along
            server_side_encryption="AES256",
            skip_signature=keys is None,
            credential_provider=None if keys is None else _obstore_provider(keys),
            client_options={
                "allow_http": self._endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=min(10.0, self._deadline)),
                "timeout": timedelta(seconds=self._deadline + 5),
            },
            retry_config={"max_retries": 0},
        )


def aws_endpoint(region: str) -> str:
    """Return where AWS itself answers for the buckets of `region`."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{domain}"


def _key(address: Address) -> str:
    return address.path.strip("/")


def _is_renewable(error: UpstreamError) -> TypeGuard[UpstreamDenied]:
    return isinstance(error, UpstreamDenied) and error.state in RENEWABLE


def _obstore_provider(keys: S3Keys) -> Callable[[], Coroutine[Any, Any, S3Credential]]:
    async def provide() -> S3Credential:
        return {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "token": keys.session_token,
            "expires_at": None,
        }

    return provide


async def _fetch(store: S3Store, address: Address, reference: ChunkReference) -> bytes:
    start, length = reference.offset, reference.length
    if length is not None and reference.validator is None:
        data = bytes(await obstore.get_range_async(store, _key(address), start=start, length=length))
    else:
        options: GetOptions = _preconditions(reference.validator)
        if length is not None:
            options["range"] = (start, start + length)
        answer = await obstore.get_async(store, _key(address), options=options)
        length = _expected(answer, address, reference)
        data = bytes(await answer.bytes_async())
    if len(data) != length:
        raise UpstreamMismatch(f"{address} holds {len(data)} bytes where {length} were asked for.")
    return data


def _preconditions(validator: str | None) -> GetOptions:
    if validator is None:
        return {}
    name, value = precondition(validator)
    if name == "If-Match":
        return {"if_match": value}
    return {"if_unmodified_since": parsedate_to_datetime(value)}


def _expected(answer: GetResult, address: Address, reference: ChunkReference) -> int:
    if reference.validator is not None:
        check_unchanged(_headers(answer.meta), reference.validator, address)
    if is_page({"content-type": str(answer.attributes.get("Content-Type", ""))}, address):
        raise UpstreamMismatch(f"{address} answered a web page.")
    if reference.length is not None:
        # obstore itself holds the answer to the range, as far as the object goes
        return reference.length
    if answer.meta["size"] > LARGEST_OBJECT:
        raise UpstreamMismatch(f"{address} is larger than the {LARGEST_OBJECT} bytes that are read whole.")
    return answer.meta["size"]


async def _state(store: S3Store, address: Address) -> ObjectState:
    try:
        # what refuses a HEAD cannot say why
        answer = await obstore.get_async(store, _key(address), options={"range": (0, 1)})
        meta = answer.meta
        await answer.bytes_async()
    except BaseError as error:
        if status_of(error) != 416:
            raise
        # an empty object has no first byte
        meta = await obstore.head_async(store, _key(address))
    return ObjectState(validator_of(_headers(meta)), meta["size"])


def _headers(meta: ObjectMeta) -> dict[str, str]:
    tag, date = meta["e_tag"] or "", meta["last_modified"].astimezone(UTC)
    # obstore has the first second of 1970 where nothing was said
    said = date != _NO_DATE
    return {"etag": tag, "last-modified": format_datetime(date, usegmt=True) if said else ""}


async def _keys(store: S3Store, prefix: str) -> Sequence[str]:
    listing = obstore.list(store, prefix or None, chunk_size=_LISTED_AT_ONCE)
    return [found["path"] async for block in listing for found in block]
