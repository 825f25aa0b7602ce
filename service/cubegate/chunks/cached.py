"""A source around a source, which keeps byte ranges in a chunk cache."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b

from cubegate.cache.cache import ChunkCache
from cubegate.cache.waiting import Waiting, within
from cubegate.chunks.concurrency import all_of
from cubegate.chunks.source import BulkSource, ChunkReference, Deliver, Outcome, read_one, until_it_raises
from cubegate.chunks.verified import matches

# When to look for what another process reads, and how long in all: a lock left behind costs no more.
_PAUSES = (0.005, 0.005, 0.01, 0.01, 0.02)
_PATIENCE = 0.045
# Where looking took longer, nobody is waited for.
_LATE = 0.02


class Cached:
    """Answers from `cache` where it can, and fills it.

    `namespace` must change whenever the bytes behind a reference may have (the version of an
    index). References to whole objects are kept only where `whole_objects` says that these do
    not change either, or by their checksum, since a cut one could not be told by its length.
    """

    def __init__(
        self, source: BulkSource, cache: ChunkCache, namespace: str, *, whole_objects: bool = False
    ) -> None:
        self._source = source
        self._cache = cache
        self._namespace = namespace
        self._whole_objects = whole_objects

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        return await read_one(self, reference)

    def held(self, reference: ChunkReference) -> bytes | None:
        """Return the bytes of `reference` where the memory of this process has them."""
        if not self._is_kept(reference):
            return None
        return _whole(reference, self._cache.held(self._key(reference)))

    async def read(self, references: Sequence[ChunkReference], deliver: Deliver) -> None:
        """Pass each of `references` to `deliver`; see `BulkSource`."""
        keys = {n: self._key(reference) for n, reference in enumerate(references) if self._is_kept(reference)}
        waiting = Waiting()
        found = await self._cache.get_many(list(keys.values())) if keys else {}
        late = waiting.seconds > _LATE
        missing = []
        for position, reference in enumerate(references):
            key = keys.get(position)
            data = None if key is None else _whole(reference, found.get(key))
            if data is None:
                missing.append(position)
            else:
                deliver(position, data)
        if missing and late:
            # what is late already is not to be made later by waiting
            await self._read_upstream(missing, keys, references, deliver)
        elif missing:
            await self._fill(missing, keys, references, deliver)

    async def _fill(
        self,
        missing: Sequence[int],
        keys: Mapping[int, str],
        references: Sequence[ChunkReference],
        deliver: Deliver,
    ) -> None:
        """Read the references at the positions `missing`, unless another process is doing so."""
        wanted = dict.fromkeys(keys[position] for position in missing if position in keys)
        claimed = await self._cache.claim(list(wanted))
        if not claimed:
            await self._read_upstream(missing, keys, references, deliver)
            return
        deliver = until_it_raises(deliver)
        elsewhere = {p for p in missing if keys.get(p) in claimed}

        async def wait() -> None:
            left = await self._wait(elsewhere, keys, references, deliver)
            await self._read_upstream(sorted(left), keys, references, deliver)

        here = [position for position in missing if position not in elsewhere]
        await all_of([wait(), self._read_upstream(here, keys, references, deliver)])

    async def _wait(
        self,
        positions: set[int],
        keys: Mapping[int, str],
        references: Sequence[ChunkReference],
        deliver: Deliver,
    ) -> set[int]:
        """Look for what another process is reading; returns the positions that did not come in time."""
        left = set(positions)

        async def look() -> None:
            for pause in _PAUSES:
                await asyncio.sleep(pause)
                found = await self._cache.get_many([keys[position] for position in left])
                for position in sorted(left):
                    data = _whole(references[position], found.get(keys[position]))
                    if data is not None:
                        left.discard(position)
                        deliver(position, data)
                if not left:
                    break

        # looking takes time too, where the cache is slow
        with suppress(TimeoutError):
            await within(_PATIENCE, look())
        return left

    async def _read_upstream(
        self,
        positions: Sequence[int],
        keys: Mapping[int, str],
        references: Sequence[ChunkReference],
        deliver: Deliver,
    ) -> None:
        def keep(number: int, outcome: Outcome) -> None:
            position = positions[number]
            if position in keys and isinstance(outcome, bytes):
                self._cache.put_many({keys[position]: outcome})
            deliver(position, outcome)

        if positions:
            await self._source.read([references[position] for position in positions], keep)

    def _is_kept(self, reference: ChunkReference) -> bool:
        if reference.length is None:
            return self._whole_objects or reference.crc32 is not None
        return reference.length > 0

    def _key(self, reference: ChunkReference) -> str:
        identity = f"{self._namespace}\0{reference.url}\0{reference.offset}\0{reference.length}"
        return f"cubegate:chunk:{blake2b(identity.encode(), digest_size=20).hexdigest()}"


def _whole(reference: ChunkReference, data: bytes | None) -> bytes | None:
    if data is None or reference.length not in (None, len(data)):
        return None
    if reference.length is None and not matches(reference, data):
        return None
    return data
