"""Redis as one event loop sees it: few round trips, short patience, and peace after a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from cubegate.cache.batching import Batching
from cubegate.cache.waiting import Waiting, within

T = TypeVar("T")

BATCH = 42
MOST_RANGES = 512
_FAILURES = (RedisError, OSError, TimeoutError)
# An answer is slow that takes longer than this share of the timeout, and the time its bytes need.
_SLOW = 0.3
_BYTES_PER_SECOND = 50e6
_LONGEST = 10


class RedisConnection:
    """Reads and writes with `timeout` seconds for each answer, and for all answers of one read.

    After a failure nothing is asked for `pause` seconds; a full Redis still answers reads.
    """

    def __init__(self, url: str, timeout: float, pause: float) -> None:
        self._timeout = timeout
        self._pause = pause
        self._reads_resume = self._writes_resume = 0.0
        self._claims_resume = 0.0
        self._reading = asyncio.Lock()
        self._reads = Batching(self._read)
        self._client = Redis.from_url(
            url,
            # `within` ends what takes too long, this what nobody waits for any more
            socket_timeout=_LONGEST * timeout,
            socket_connect_timeout=_LONGEST * timeout,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def paused(self) -> bool:
        """Whether Redis is left alone at the moment."""
        return time.monotonic() < self._reads_resume

    @property
    def writable(self) -> bool:
        """Whether Redis is thought to take values."""
        return time.monotonic() >= self._writes_resume

    async def read_values(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what is stored under `keys`, as far as it comes in time."""
        if not keys or self.paused:
            return {}
        found = await self._reads.join(dict.fromkeys(keys))
        return {key: found[key] for key in keys if key in found}

    async def read_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[Any]:
        """Return parts of stored values, each by key, offset and length; None for all that fails."""
        nothing: list[Any] = [None] * len(ranges)
        if not ranges or self.paused or len(ranges) > MOST_RANGES:
            return nothing

        async def ask() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for key, offset, length in ranges:
                pipeline.getrange(key, offset, offset + length - 1)
            return await pipeline.execute(raise_on_error=False)

        nbytes = sum(length for _, _, length in ranges)
        answers = await self._ask(ask, nbytes)
        return nothing if answers is None else answers

    async def write(self, values: Mapping[str, bytes]) -> None:
        """Store `values` by one command, or give up."""
        try:
            async with asyncio.timeout(2 * self._timeout):
                await self._client.mset(dict(values))
        except ResponseError:
            # a full Redis still answers reads
            self._writes_resume = time.monotonic() + self._pause
        except _FAILURES:
            self._rest()

    async def claim(self, keys: Sequence[str], milliseconds: int) -> list[bool]:
        """Take short locks; returns which of them somebody else holds, as far as Redis tells."""
        nobody = [False] * len(keys)
        if not keys or self.paused or not self.writable or time.monotonic() < self._claims_resume:
            return nobody

        async def ask() -> Any:
            try:
                return await self._client.eval(_CLAIM, len(keys), *keys, milliseconds)
            except ResponseError:
                # some servers run no scripts, a full one does so no more for a while
                self._claims_resume = time.monotonic() + self._pause
                return None

        answer = await self._ask(ask, 0)
        if not isinstance(answer, list) or len(answer) != len(keys):
            return nobody
        return [not taken for taken in answer]

    async def aclose(self) -> None:
        """Close the sockets."""
        await self._client.aclose()

    async def _read(self, wanted: Mapping[str, None]) -> dict[str, Any]:
        keys, found = list(wanted), dict[str, Any]()
        async with self._reading:
            waiting = Waiting()
            for start in range(0, len(keys), BATCH):
                # what does not come in time is read upstream
                if self.paused or waiting.seconds > self._timeout:
                    break
                batch = keys[start : start + BATCH]

                async def ask(batch: Sequence[str] = batch) -> Any:
                    return await self._client.mget(batch)

                stored = await self._ask(ask)
                # none after a failure, and anything from what is no Redis
                if not isinstance(stored, list) or len(stored) != len(batch):
                    break
                found |= dict(zip(batch, stored, strict=True))
        return found

    async def _ask(self, ask: Callable[[], Coroutine[Any, Any, T]], nbytes: int | None = None) -> T | None:
        """Return the answer; None after a failure. A slow answer is taken, and the last for a while."""
        waiting = Waiting()
        try:
            answer = await within(self._timeout, ask())
        except _FAILURES:
            self._rest()
            return None
        taken = waiting.seconds
        if nbytes is None:
            values = answer if isinstance(answer, list) else []
            nbytes = sum(len(value) for value in values if isinstance(value, bytes))
        if taken > _SLOW * self._timeout + nbytes / _BYTES_PER_SECOND:
            self._rest()
        return answer

    def _rest(self) -> None:
        self._reads_resume = self._writes_resume = time.monotonic() + self._pause


_CLAIM = """
local taken = {}
for number, key in ipairs(KEYS) do
  taken[number] = redis.call('SET', key, '1', 'NX', 'PX', ARGV[1]) and 1 or 0
end
return taken
"""


async def close_connection(connection: RedisConnection) -> None:
    """Close `connection`, also where its event loop is closed already."""
    # the sockets of a closed loop went with it
    with suppress(RuntimeError):
        await connection.aclose()
