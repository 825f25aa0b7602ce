"""Remembers where an upstream redirects to for each object, as long as what signs that address is valid."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from cubegate.cache.per_loop import PerLoop
from cubegate.chunks.address import Address

_HELD = 10_000
_UNKNOWN = 300.0
_LONGEST = 12 * 3600.0
_MARGIN = 60.0


class SignedURLs:
    """The signed addresses of the objects below one prefix; safe to share between threads and loops.

    `expected` says whether the prefix is thought to redirect: then one read of an object asks where
    to, and the others of the same loop wait for it.
    """

    def __init__(self, *, expected: bool) -> None:
        self.expected = expected
        self._held: OrderedDict[Address, tuple[Address, float]] = OrderedDict()
        self._asked: PerLoop[dict[Address, asyncio.Event]] = PerLoop(dict)

    def __repr__(self) -> str:
        return f"SignedURLs({len(self._held)} held)"

    @property
    def concerned(self) -> bool:
        """Whether any object may have a signed address."""
        return self.expected or bool(self._held)

    def held(self, origin: Address) -> Address | None:
        """Return the signed address of `origin`, None where none is known that is still valid."""
        found = self._held.get(origin)
        if found is None:
            return None
        signed, until = found
        if time.monotonic() >= until:
            self.forget(origin, signed)
            return None
        try:
            self._held.move_to_end(origin)
        except KeyError:
            # another thread forgot it meanwhile
            return None
        return signed

    async def find(self, origin: Address) -> Address | None:
        """Return the signed address of `origin`, waiting for a read that asks for it already.

        Where it is None, the caller asks, and says `answered` however that ends.
        """
        signed = self.held(origin)
        if signed is not None or not self.expected:
            return signed
        asked = self._asked.get()
        event = asked.get(origin)
        if event is None:
            asked[origin] = asyncio.Event()
            return None
        await event.wait()
        return self.held(origin)

    def remember(self, origin: Address, following: Address) -> None:
        """Keep `following`, which `origin` redirects to, if it is signed; the others need not wait longer."""
        if following.query and (following.scheme == "https" or following.loopback):
            seconds = seconds_to_keep(following.query)
            if seconds > 0:
                self.expected = True
                self._held[origin] = following, time.monotonic() + seconds
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
        self.answered(origin)

    def forget(self, origin: Address, signed: Address) -> None:
        """Drop `signed`, unless another address is held for `origin` by now."""
        found = self._held.get(origin)
        if found is not None and found[0] is signed:
            self._held.pop(origin, None)

    def answered(self, origin: Address) -> None:
        """Let those go on who wait for `origin` in this loop."""
        event = self._asked.get().pop(origin, None)
        if event is not None:
            event.set()


def seconds_to_keep(query: str) -> float:
    """Return how long an address with this `query` may be used, less a margin; 5 minutes where none says."""
    said = {name.lower(): value for name, value in parse_qsl(query)}
    now = time.time()
    ends = now + _UNKNOWN
    try:
        for kind in ("x-amz", "x-goog"):
            if f"{kind}-expires" in said:
                start = datetime.strptime(said[f"{kind}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                ends = start.timestamp() + int(said[f"{kind}-expires"])
        if "expires" in said:
            ends = float(said["expires"])
    except (KeyError, ValueError, OverflowError):
        pass
    left = min(ends - now, _LONGEST)
    return left - min(_MARGIN, left / 10)
