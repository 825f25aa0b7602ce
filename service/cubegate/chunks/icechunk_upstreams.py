"""Keys for Icechunk, which signs by itself: given at each request, and renewed where one is refused."""

from __future__ import annotations

import asyncio
import copy
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from cubegate.chunks.address import Address
from cubegate.chunks.refusals import RENEWABLE, denied, state_of
from cubegate.chunks.renewal import Renewal, held_keys
from cubegate.chunks.upstream_states import UpstreamStates
from cubegate.credentials import BearerToken, CredentialProvider, S3Keys
from cubegate.credentials.provider import Secretive
from cubegate.errors import UpstreamDenied, UpstreamError

if TYPE_CHECKING:
    from icechunk import S3StaticCredentials

T = TypeVar("T")

_CODE = re.compile(r"unhandled error \(([A-Za-z]{1,64})\)")
_VIRTUAL = "error fetching virtual reference"
_FORBIDDEN = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidPayer"})

# Icechunk pickles what it asks for keys, so that this can be no more than a name
_upstreams: WeakValueDictionary[str, IcechunkUpstream] = WeakValueDictionary()


class IcechunkUpstream(Secretive):
    """One configured s3 prefix as Icechunk reads it; without `credentials` unsigned.

    The keys are asked for in the event loop that reads, since Icechunk's threads, as few as there
    are processors, would all wait for one login. `states` hears of refusals.
    """

    def __init__(
        self,
        prefix: Address,
        credentials: CredentialProvider | None = None,
        states: UpstreamStates | None = None,
    ) -> None:
        self.prefix = prefix
        self._credentials, self._states = credentials, states
        self._renewal = None if credentials is None else Renewal(credentials)
        self._keys: S3Keys | None = None
        self._failure: UpstreamError | None = None
        self._until = self._asked_at = float("-inf")
        self._name = token_hex(16)
        _upstreams[self._name] = self

    def __repr__(self) -> str:
        return f"IcechunkUpstream('{self.prefix}')"

    @property
    def keys(self) -> S3Keys | None:
        """The keys that are given at present, None where there are none."""
        return self._keys

    @property
    def signed(self) -> bool:
        """Whether there are credentials at all."""
        return self._credentials is not None

    def options(self) -> dict[str, Any]:
        """Return what `icechunk.s3_storage` and `icechunk.s3_credentials` take; nothing in it is secret."""
        return {"get_credentials": KeysAtEachRequest(self._name)} if self.signed else {"anonymous": True}

    def was_asked_since(self, moment: float) -> bool:
        """Whether Icechunk signed a request since `moment` of the monotonic clock."""
        return self._asked_at >= moment

    def failure_in(self, text: str) -> UpstreamError | None:
        """Return why there were no keys, where the error `text` of Icechunk tells of that."""
        if self._failure is None or self._name not in text:
            return None
        # of its own, since each raising writes a traceback into it
        return copy.copy(self._failure)

    def give(self) -> S3Keys | None:
        """Return the keys for a request that Icechunk is about to send."""
        self._asked_at = time.monotonic()
        return self._keys

    def is_due(self) -> bool:
        """Whether the keys were not asked for lately."""
        return self._credentials is not None and time.monotonic() >= self._until

    async def refresh(self) -> None:
        """Ask for the keys; a failure shows in the read that needs them."""
        if self._credentials is None:
            return
        try:
            self._take(await self._credentials.for_url(str(self.prefix)))
        except UpstreamError as error:
            self._keys, self._failure, self._until = None, error.with_traceback(None), float("-inf")

    async def renew(self, rejected: S3Keys | None, refused: UpstreamDenied) -> UpstreamError | None:
        """Replace the keys `rejected`, for which the upstream answered `refused`; return why not, or None."""
        if self._renewal is None or rejected is None:
            return refused
        try:
            self._take(await self._renewal.instead_of(rejected, str(self.prefix), refused))
        except UpstreamError as error:
            return error
        return None

    def gave(self) -> None:
        """Note that a read succeeded."""
        if self._states is not None:
            self._states.gave(str(self.prefix))

    def was_in_vain(self) -> None:
        """Note that the renewed keys were refused as well."""
        if self._renewal is not None:
            self._renewal.was_in_vain()

    def refused(self, error: UpstreamError) -> None:
        """Note that a read failed for `error`."""
        if self._states is not None and isinstance(error, UpstreamDenied):
            self._states.refused(str(self.prefix), error)

    def _take(self, given: BearerToken | S3Keys) -> None:
        self._keys, self._until = held_keys(given, self.prefix)
        self._failure = None


@dataclass(frozen=True, slots=True)
class KeysAtEachRequest:
    """What Icechunk calls for keys, in its own threads; a pickle of it names the upstream, and only here."""

    name: str

    def __call__(self) -> S3StaticCredentials:
        """Return the keys, which Icechunk takes for expired as soon as it has signed with them."""
        from icechunk import S3StaticCredentials  # noqa: PLC0415 - icechunk is an optional extra

        upstream = _upstreams.get(self.name)
        keys = None if upstream is None else upstream.give()
        if keys is None:
            raise LookupError(f"no keys for {self.name}")
        return S3StaticCredentials(
            keys.access_key_id, keys.secret_access_key, keys.session_token, datetime.now(UTC)
        )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a read failed, and the upstreams that may have refused it."""

    error: UpstreamError
    by: Sequence[IcechunkUpstream]

    def noted(self) -> UpstreamError:
        for upstream in self.by:
            upstream.refused(self.error)
        return self.error


class IcechunkUpstreams:
    """The upstreams of one repository: its own, None where it is local, and those of its virtual chunks.

    Icechunk doesn't say which container a virtual chunk lies in. Where reads of several overlap, a
    refusal is put down to all that were read meanwhile, and a success too.
    """

    def __init__(
        self, repository: IcechunkUpstream | None = None, granules: Sequence[IcechunkUpstream] = ()
    ) -> None:
        from icechunk import IcechunkError  # noqa: PLC0415 - icechunk is an optional extra

        self._error = IcechunkError
        self._repository = [] if repository is None else [repository]
        self._granules = list(dict.fromkeys(granules))
        self._all = list(dict.fromkeys([*self._repository, *self._granules]))

    async def read(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` gives; it is repeated where keys were refused, once for each upstream.

        Raises:
            UpstreamDenied: an upstream refuses, or there are no keys.
            UpstreamUnavailable: who gives the keys cannot be reached.
            IcechunkError: any other failure.
        """
        # a read may be refused by the repository first, and then by the granule that it led to
        renewed: set[IcechunkUpstream] = set()
        while True:
            rejected = await self._refresh()
            outcome = await self._attempt(read)
            if not isinstance(outcome, _Refusal):
                return outcome
            await self._renew(outcome, rejected, renewed)

    async def _refresh(self) -> dict[IcechunkUpstream, S3Keys | None]:
        await asyncio.gather(*[upstream.refresh() for upstream in self._all if upstream.is_due()])
        return {upstream: upstream.keys for upstream in self._all}

    async def _attempt(self, read: Callable[[], Awaitable[T]]) -> T | _Refusal:
        started = time.monotonic()
        try:
            found = await read()
        except self._error as error:
            refusal = self._refusal(" ".join(str(error).replace("|", " ").split()), started)
            if refusal is None:
                raise
            return refusal
        for upstream in self._all:
            if upstream.was_asked_since(started):
                upstream.gave()
        return found

    def _refusal(self, text: str, started: float) -> _Refusal | None:
        for upstream in self._all:
            failure = upstream.failure_in(text)
            if failure is not None:
                return _Refusal(failure, [upstream])
        code = _CODE.search(text)
        if code is None:
            return None
        state = state_of(403 if code[1] in _FORBIDDEN else 400, f"<Code>{code[1]}</Code>")
        if state is None:
            return None
        virtual = _VIRTUAL in text.partition("context:")[0]
        suspects = self._granules if virtual else self._repository
        by = [upstream for upstream in suspects if upstream.was_asked_since(started)]
        by = by or [upstream for upstream in suspects if not upstream.signed] or suspects
        return _Refusal(_denied(by, state), by)

    async def _renew(
        self,
        refusal: _Refusal,
        rejected: Mapping[IcechunkUpstream, S3Keys | None],
        renewed: set[IcechunkUpstream],
    ) -> None:
        error = refusal.error
        if not isinstance(error, UpstreamDenied) or error.state not in RENEWABLE:
            raise refusal.noted()
        left = [upstream for upstream in refusal.by if upstream not in renewed]
        if not left:
            for upstream in refusal.by:
                upstream.was_in_vain()
            raise refusal.noted()
        failures = await asyncio.gather(*[upstream.renew(rejected[upstream], error) for upstream in left])
        failed = [failure for failure in failures if failure is not None]
        if len(failed) == len(left):
            raise _Refusal(failed[0], refusal.by).noted()
        renewed.update(left)


def _denied(by: Sequence[IcechunkUpstream], state: str) -> UpstreamDenied:
    first = by[0]
    temporary = first.keys is not None and first.keys.session_token is not None
    error = denied(first.prefix, state, known=first.signed, temporary=temporary)
    if len(by) == 1:
        return error
    names = ", ".join(str(upstream.prefix) for upstream in by)
    return UpstreamDenied(f"One of {names} refuses access.", state=error.state, mend=error.mend)
