"""The overviews of a cube in a store beside it: opened with the cube, and looked for again now and then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cubegate.errors import CubegateError, InvalidReference, UpstreamRefused
from cubegate.tiling.layers import Source

logger = logging.getLogger(__name__)

# seconds between two looks for what was built, replaced or removed meanwhile
LOOK_INTERVAL = 5.0


@dataclass(frozen=True, eq=False)
class Sidecar:
    """The store of overviews of one version, opened as a cube.

    Attributes:
        cube: of it.
        version: a hash of all that it is made of.
        root: the group that has the groups of the cube below it.
        unused: the variables whose overviews were made under other settings.
    """

    cube: Source
    version: str
    root: str
    unused: tuple[str, ...] = ()


class Overviews:
    """Finds the overviews of the cube `name` by `find`, which raises where there are none to be used."""

    def __init__(self, name: str, find: Callable[[], Awaitable[Sidecar]]) -> None:
        self.found: Sidecar | None = None
        self.problem = ""
        self._name, self._find = name, find
        self._looked = -float("inf")
        self._looking: asyncio.Task[None] | None = None

    @property
    def version(self) -> str:
        """A hash of what is used; empty where there is nothing."""
        return "" if self.found is None else self.found.version

    @property
    def note(self) -> str | None:
        """What the operator should know; None where all overviews are used."""
        mend = f"Run: cubegate overviews {self._name}"
        if self.found is None:
            return f"overviews are not used: {self.problem}. Low zooms are drawn without. {mend}"
        if self.found.unused:
            names = ", ".join(self.found.unused)
            return f"overviews of {names} are not used: they were made under other settings. {mend} --replace"
        return None

    async def look(self) -> None:
        """Open what there is now; what is open already stays where it cannot be read at the moment.

        Raises:
            UpstreamRefused: no upstream covers their address.
        """
        self._looked = time.monotonic()
        before = self.version
        try:
            found = await self._find()
        except UpstreamRefused:
            raise
        except InvalidReference as error:
            self.found, self.problem = None, str(error).rstrip(".")
        except CubegateError as error:
            self.problem = f"they cannot be read ({type(error).__name__})"
        else:
            if found.version != before:
                self.found = found
        if before and not self.found:
            logger.warning("dataset %s: %s", self._name, self.note)

    def refresh(self) -> None:
        """Begin a look where the last is longer ago than the interval; waits for nothing."""
        if time.monotonic() - self._looked < LOOK_INTERVAL:
            return
        self._looked = time.monotonic()
        self._looking = asyncio.ensure_future(self._look_again())

    async def _look_again(self) -> None:
        try:
            await self.look()
        except UpstreamRefused:
            # it was allowed when the cube was opened, and is until that is opened again
            return
