"""Which faults there are, where each can be injected, and what can notice it."""

from __future__ import annotations

from dataclasses import dataclass

READS = ("reference", "partition", "coordinate", "granule", "chunk")
RANGED = frozenset({"coordinate", "granule", "chunk"})
GOOD = "none"

STATUSES = (400, 401, 403, 404, 410, 416, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303)
WIRE = (
    "refused", "reset before the head", "reset in the body", "hang before the head", "hang in the body",
    "slow drip", "short body", "cut object", "long body", "trailing bytes", "empty body", "page as 200",
    "page as 206", "expired token",
)  # fmt: skip
OF_RANGES = ("wrong offset", "range ignored")
# the answer is right in form, and other bytes: only what was recorded before can tell
OF_CONTENT = ("flipped byte",)
OF_RANGED_CONTENT = ("lying range", "swapped granule", "republished granule")

FAULTS = (
    GOOD,
    *(f"status {status}" for status in STATUSES),
    *(f"redirect {status} to a login page" for status in REDIRECTS),
    *WIRE,
    *OF_RANGES,
    *OF_CONTENT,
    *OF_RANGED_CONTENT,
)


def is_possible(fault: str, read: str) -> bool:
    """Whether reads of this kind can meet `fault`."""
    return read in RANGED or fault not in (*OF_RANGES, *OF_RANGED_CONTENT, "page as 206")


def is_of_content(fault: str) -> bool:
    """Whether the answer is right in all but its bytes."""
    return fault in (*OF_CONTENT, *OF_RANGED_CONTENT)


@dataclass
class Plan:
    """What the upstream does to the reads of one run.

    `granule` is the only file that is hit, None for all; `hop` says which answer of a redirected
    read is the bad one. `injected` counts.
    """

    run: int
    fault: str
    read: str
    once: bool
    granule: str | None = None
    hop: int = 0
    armed: bool = False
    injected: int = 0

    def strikes(self, read: str, granule: str, hop: int) -> bool:
        """Whether this answer is to be bad; counts it."""
        if not self.armed or self.fault == GOOD or read != self.read or hop != self.hop:
            return False
        if (self.granule is not None and granule != self.granule) or (self.once and self.injected):
            return False
        self.injected += 1
        return True
