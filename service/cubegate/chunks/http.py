"""Objects over HTTP, read by way of redirects and tokens that go only where they may."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urljoin

from cubegate.cache.per_loop import PerLoop
from cubegate.chunks.address import Address, AllowList, check_range
from cubegate.chunks.answers import REDIRECTS, Judge, StateJudge, headers_for
from cubegate.chunks.connections import Answer, ConnectionBroken, Connections
from cubegate.chunks.refusals import (
    LARGEST_REFUSAL,
    RENEWABLE,
    denied,
    is_login_page,
    leads_to_login,
    state_of,
)
from cubegate.chunks.renewal import Renewal
from cubegate.chunks.retry import ShortBody, read_with_retries
from cubegate.chunks.signed_urls import SignedURLs
from cubegate.chunks.source import ChunkReference, ObjectState
from cubegate.credentials import BearerToken, CredentialProvider
from cubegate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)

_MOST_REDIRECTS = 5
# what another token may end: archives lead who brings a dead one to the login
_FOR_OTHERS = RENEWABLE | {"login-page"}

AnyJudge = TypeVar("AnyJudge", bound=Judge)


class HTTPObjects:
    """An object source over the http(s) address `prefix`.

    Redirects are followed hop by hop, to addresses that `allowed` holds alone. The token of
    `credentials` goes where `prefix` is the longest that `allowed` has for an address, and nowhere
    else. A signed address that an object redirects to is remembered until it expires. A read takes
    `deadline` seconds at most.
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
        self._renewal = None if credentials is None else Renewal(credentials)
        self._deadline = deadline
        self._connections = PerLoop(Connections, Connections.aclose)
        # what needs a token is mostly given by way of a signed address
        self._signed = SignedURLs(expected=credentials is not None)

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        check_range(reference)
        _, address = self._own.resolve(reference.url)
        if reference.length == 0:
            return b""

        async def attempt(left: float) -> bytes:
            answer, judge = await self._answer(address, reference, Judge, time.monotonic() + left)
            return judge.exactly(answer)

        return await read_with_retries(attempt, deadline=self._deadline, what=str(address))

    async def stat(self, url: str) -> ObjectState:
        """Return what the object at `url` is known by now; see `ObjectSource`."""
        _, address = self._own.resolve(url)
        # HEAD is refused in places, signed addresses among them
        first = ChunkReference(url, 0, 1)

        async def attempt(left: float) -> ObjectState:
            _, judge = await self._answer(address, first, StateJudge, time.monotonic() + left)
            return judge.state

        return await read_with_retries(attempt, deadline=self._deadline, what=str(address))

    async def list(self, url: str) -> list[str]:
        """Refuse: plain HTTP has no listing."""
        _, address = self._own.resolve(url)
        raise UpstreamError(f"{address} cannot be listed: plain HTTP has no listing.")

    async def aclose(self) -> None:
        """Close the connections of all event loops."""
        await self._connections.aclose()

    async def _answer(
        self, origin: Address, reference: ChunkReference, judged: type[AnyJudge], until: float
    ) -> tuple[Answer, AnyJudge]:
        """Return an accepted answer to `reference` and what judged it; `until` is by the monotonic clock."""
        if self._credentials is None and not self._signed.concerned:
            return await self._reading(origin, reference, None, until).run(origin, judged)
        # twice, since another read may know a newer one by then
        for _ in range(2):
            signed = self._signed.held(origin)
            if signed is None and self._signed.expected:
                async with asyncio.timeout(until - time.monotonic()):
                    signed = await self._signed.find(origin)
            if signed is None:
                break
            try:
                token = await self._token(signed, until)
                return await self._reading(origin, reference, token, until).run(signed, judged)
            except (UpstreamDenied, UpstreamObjectMissing):
                # the signature may have ended early: the origin knows
                self._signed.forget(origin, signed)
        try:
            return await self._ask_origin(origin, reference, judged, until)
        finally:
            self._signed.answered(origin)

    async def _ask_origin(
        self, origin: Address, reference: ChunkReference, judged: type[AnyJudge], until: float
    ) -> tuple[Answer, AnyJudge]:
        token = await self._token(origin, until)
        reading = self._reading(origin, reference, token, until)
        try:
            return await reading.run(origin, judged)
        except UpstreamDenied as error:
            if self._renewal is None or token is None or error.state not in _FOR_OTHERS:
                raise
            refused = error
        async with asyncio.timeout(until - time.monotonic()):
            renewed = await self._renewal.instead_of(token, origin.url, refused)
        reading.token = renewed if isinstance(renewed, BearerToken) else None
        try:
            return await reading.run(origin, judged)
        except UpstreamDenied as error:
            if error.state in _FOR_OTHERS:
                self._renewal.was_in_vain()
            raise

    async def _token(self, address: Address, until: float) -> BearerToken | None:
        if self._credentials is None or not _belongs_to(self._prefix, address, self._allowed):
            return None
        async with asyncio.timeout(until - time.monotonic()):
            credentials = await self._credentials.for_url(address.url)
        return credentials if isinstance(credentials, BearerToken) else None

    def _reading(
        self, origin: Address, reference: ChunkReference, token: BearerToken | None, until: float
    ) -> _Reading:
        connections = self._connections.get()
        return _Reading(
            self._prefix, self._allowed, self._signed, connections, origin, reference, token, until
        )


@dataclass(slots=True)
class _Reading:
    """One way from an object's address, or what it is known to redirect to, to its bytes."""

    prefix: Address
    allowed: AllowList
    signed: SignedURLs
    connections: Connections
    origin: Address
    reference: ChunkReference = field(repr=False)
    token: BearerToken | None = field(repr=False)
    until: float

    async def run(self, address: Address, judged: type[AnyJudge]) -> tuple[Answer, AnyJudge]:
        """Ask for the reference at `address`, and where it leads to, until somebody answers."""
        asked = headers_for(self.reference)
        for hop in range(_MOST_REDIRECTS + 1):
            judge = judged(address, self.reference)
            headers = asked
            if self.token is not None and _belongs_to(self.prefix, address, self.allowed):
                headers = {**asked, "Authorization": f"Bearer {self.token.token}"}
            answer = await self._exchange(address, headers, judge)
            if judge.refused is not None:
                self.signed.forget(self.origin, address)
                raise self._refusal(address, answer)
            if answer.head.status not in REDIRECTS:
                if hop == 0 and address is self.origin:
                    self.signed.expected = False
                return answer, judge
            address = self._next_hop(address, answer)
            self.signed.remember(self.origin, address)
        raise UpstreamMismatch(f"{address} redirects more than {_MOST_REDIRECTS} times.")

    async def _exchange(self, address: Address, headers: dict[str, str], judge: Judge) -> Answer:
        try:
            return await self.connections.get(address, headers, judge, within=self.until - time.monotonic())
        except ConnectionBroken as broken:
            if judge.refused is not None:
                return Answer(judge.refused, b"")
            if broken.in_body:
                raise ShortBody(f"The connection to {address} ended before the body did.") from None
            raise UpstreamUnavailable(f"The connection to {address} ended without an answer.") from None
        except TimeoutError:
            # it is an OSError too, and the caller's to judge
            if judge.refused is not None:
                return Answer(judge.refused, b"")
            raise
        except OSError:
            raise UpstreamUnavailable(f"{address} cannot be reached.") from None

    def _next_hop(self, address: Address, answer: Answer) -> Address:
        location = answer.head.headers.get("location", "")
        if not location:
            if state_of(answer.head.status, _text(answer)) is not None:
                raise self._refusal(address, answer)
            raise UpstreamMismatch(f"{address} redirects without saying where to.")
        target = urljoin(address.url, location)
        try:
            _, following = self.allowed.resolve(target)
        except UpstreamRefused:
            if leads_to_login(target):
                raise denied(address, "login-page", known=self.token is not None) from None
            raise
        if following.scheme not in {"http", "https"}:
            raise UpstreamRefused(f"{address} redirects to {following}, which is not HTTP.")
        return following

    def _refusal(self, address: Address, answer: Answer) -> UpstreamError:
        status, text, known = answer.head.status, _text(answer), self.token is not None
        if status < 300:
            if is_login_page(text):
                return denied(address, "login-page", known=known)
            return UpstreamMismatch(f"{address} answered a web page.")
        state = state_of(status, text)
        if state is None:
            return UpstreamMismatch(f"{address} answered HTTP {status}.")
        if state in RENEWABLE and known and not _belongs_to(self.prefix, address, self.allowed):
            # the token was not sent here: another would not help
            state = "denied"
        return denied(address, state, known=known, status=status)


def _belongs_to(prefix: Address, address: Address, allowed: AllowList) -> bool:
    # a prefix below this one has credentials of its own, or none
    longest, _ = allowed.resolve(address.url)
    return longest == prefix


def _text(answer: Answer) -> str:
    return answer.body[:LARGEST_REFUSAL].decode("latin-1")
