"""Which upstreams refuse at the moment, for the operator."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

from cubegate.errors import UpstreamDenied

logger = logging.getLogger(__name__)

# an upstream that refuses some objects and gives others would fill the log
_QUIET = 300.0


@dataclass(frozen=True, slots=True)
class RefusingUpstream:
    """One prefix that refused at its last read: how, what to do, since when (POSIX time) and how often."""

    upstream: str
    state: str
    mend: str
    since: float
    count: int


class UpstreamStates:
    """Keeps the latest refusal of each prefix until it gives something; shared by all threads.

    The begin and the end of a refusal are logged, and what lies between is not.
    """

    def __init__(self) -> None:
        self._refusing: dict[str, RefusingUpstream] = {}
        self._logged: dict[tuple[str, str], float] = {}
        self._silent: set[str] = set()
        self._lock = threading.Lock()

    @property
    def refusing(self) -> tuple[RefusingUpstream, ...]:
        """Those that refuse now, in the order of their prefixes."""
        with self._lock:
            return tuple(sorted(self._refusing.values(), key=lambda refusing: refusing.upstream))

    def refused(self, upstream: str, error: UpstreamDenied) -> None:
        """Note that `upstream` refused."""
        now, key = time.monotonic(), (upstream, error.state)
        with self._lock:
            held = self._refusing.get(upstream)
            if held is not None and held.state == error.state:
                self._refusing[upstream] = replace(held, mend=error.mend, count=held.count + 1)
                return
            self._refusing[upstream] = RefusingUpstream(upstream, error.state, error.mend, time.time(), 1)
            self._silent.discard(upstream)
            if now - self._logged.get(key, float("-inf")) < _QUIET:
                self._silent.add(upstream)
                return
            self._logged[key] = now
        logger.warning("upstream %s refuses (%s): %s", upstream, error.state, error.mend)

    def gave(self, upstream: str) -> None:
        """Note that `upstream` gave what was asked for."""
        # nearly always empty
        if not self._refusing:
            return
        with self._lock:
            held = self._refusing.pop(upstream, None)
            silent = upstream in self._silent
        if held is not None and not silent:
            seconds = time.time() - held.since
            logger.info(
                "upstream %s gives again; it refused %d reads in %.0f s (%s)",
                upstream, held.count, seconds, held.state,
            )  # fmt: skip
