"""Which epoch carries each one on: the chains of a series whose reference date moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST, LOST = -1, -2

_MICROSECONDS = 10**6


@dataclass(frozen=True, eq=False)
class Epochs:
    """The epochs of a series, in file order, each relative to a reference date.

    Attributes:
        parents: of shape (n,), the epoch whose date is this one's reference date; FIRST where that is the
            first of all reference dates, LOST where the chain ends at a date that no epoch has.
        levels: of shape (n,), how many epochs are before each in its chain.
        unmatched: the reference dates that no epoch has, ascending.
        ambiguous: the reference dates that several epochs have, ascending.
    """

    parents: NDArray[np.intp]
    levels: NDArray[np.intp]
    unmatched: tuple[np.datetime64, ...] = ()
    ambiguous: tuple[np.datetime64, ...] = ()

    def needed(self, wanted: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the epochs that the values at `wanted` are made of: ascending, each once."""
        found = np.zeros(len(self.parents), bool)
        frontier = np.unique(wanted)
        while frontier.size:
            found[frontier] = True
            before = self.parents[frontier]
            before = before[before >= 0]
            frontier = np.unique(before[~found[before]])
        return np.flatnonzero(found)


def link_epochs(
    times: NDArray[np.datetime64], references: NDArray[np.datetime64], tolerance: float
) -> Epochs:
    """Find the chain of each epoch, by its date and its reference date; both of shape (n,), in any order.

    Dates up to `tolerance` seconds apart are of one acquisition. An epoch carries on only such as have a
    later reference date than its own. Of several, the one nearest in time is taken, then the one of the
    earliest reference date, then the first in file order.
    """
    ticks, origins = (each.astype("M8[us]").astype(np.int64) for each in (times, references))
    dated, referred = ~np.isnat(times), ~np.isnat(references)
    parents = np.full(len(times), LOST, np.intp)
    levels = np.zeros(len(times), np.intp)
    if not referred.any():
        return Epochs(parents, levels)
    slack = int(tolerance * _MICROSECONDS)
    first = origins[referred].min()
    candidates = np.flatnonzero(dated & referred)
    candidates = candidates[np.argsort(ticks[candidates], kind="stable")]
    unmatched, ambiguous = [], []
    # ascending, so that the chain of whatever carries an epoch on is known before it
    for origin in np.unique(origins[referred]):
        members = np.flatnonzero(referred & (origins == origin))
        if origin - first <= slack:
            parents[members] = FIRST
            continue
        low, high = np.searchsorted(ticks[candidates], (origin - slack, origin + slack + 1))
        near = candidates[low:high]
        near = near[origins[near] < origin - slack]
        if not near.size:
            unmatched.append(origin)
            continue
        if near.size > 1:
            ambiguous.append(origin)
        parent = near[np.lexsort((near, origins[near], np.abs(ticks[near] - origin)))[0]]
        if parents[parent] != LOST:
            parents[members] = parent
            levels[members] = levels[parent] + 1
    return Epochs(parents, levels, _dates(unmatched), _dates(ambiguous))


def _dates(ticks: list[np.int64]) -> tuple[np.datetime64, ...]:
    return tuple(np.array(ticks, np.int64).astype("M8[us]"))
