"""One time axis for the answers of several cubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable
from cubegate.query.nanoseconds import in_unit


@dataclass(frozen=True, eq=False)
class MergedTimes:
    """The times of several parts: for each part, where each of its times is in `values`."""

    values: NDArray[Any]
    places: tuple[NDArray[np.intp], ...]

    def complete(self) -> bool:
        """Tell whether every part has every time."""
        return all(len(places) == len(self.values) for places in self.places)


def merge_times(parts: Sequence[NDArray[Any]]) -> MergedTimes:
    """Return the sorted union of (time, n-th occurrence of that time in the part); missing times come last.

    Raises:
        NotAcceptable: the times of two parts cannot be compared.
    """
    values = _common_times(parts)
    try:
        distinct, rank = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise NotAcceptable("The times of these cubes are of several calendars: ask for one cube.") from error
    ends = np.cumsum([len(part) for part in parts])
    ranks = np.split(rank.reshape(-1), ends[:-1])
    occurrences = [_occurrences(each) for each in ranks]
    count = np.zeros(len(distinct), np.intp)
    for each, occurrence in zip(ranks, occurrences, strict=True):
        np.maximum.at(count, each, occurrence + 1)
    first = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.intp)
    places = tuple(first[each] + occurrence for each, occurrence in zip(ranks, occurrences, strict=True))
    return MergedTimes(np.repeat(distinct, count), places)


def _common_times(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    kinds = {part.dtype.kind for part in parts if part.size}
    if len(kinds) > 1 or not kinds <= set("MO"):
        raise NotAcceptable(
            "The times of these cubes cannot be compared, since not all are of one calendar: "
            "ask for one cube."
        )
    filled = [part for part in parts if part.size] or [parts[0]]
    if kinds == {"M"}:
        finest = np.result_type(*filled)
        try:
            # a finer unit reaches less far
            filled = [in_unit(part, finest) for part in filled]
        except OverflowError:
            raise NotAcceptable(
                "The times of these cubes are too far apart to stand on one axis: ask for one cube."
            ) from None
    return np.concatenate(filled)


def _occurrences(ranks: NDArray[np.intp]) -> NDArray[np.intp]:
    order = np.argsort(ranks, kind="stable")
    ordered = ranks[order]
    occurrences = np.empty(len(ranks), np.intp)
    occurrences[order] = np.arange(len(ranks)) - np.searchsorted(ordered, ordered, side="left")
    return occurrences
