"""Levels of dimensions beyond x, y and time: one is selected before it is read, several of what is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cubegate.edr.description import Dimension
from cubegate.errors import InvalidParameter
from cubegate.query.parameters import parse_number
from cubegate.query.selection import Selection

# of a level, as selectors have it
TOLERANCE = 1e-6
MOST_STEPS = 10_000
_SEQUENCE = re.compile(r"R(\d{1,6})/([^/]+)/([^/]+)", re.ASCII)


@dataclass(frozen=True)
class Levels:
    """What is asked of dimensions: `selectors` of one value each, and indices that are `kept` of others."""

    selectors: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __or__(self, other: Levels) -> Levels:
        """Ask for both."""
        return Levels({**self.selectors, **other.selectors}, {**self.kept, **other.kept})


def read_levels(text: str, dimension: Dimension, parameter: str) -> Levels:
    """Read one value, a list `a,b`, a range `low/high` or a sequence `Rcount/first/step`.

    All values of a list exist; of a range and of a sequence those count that do.

    Raises:
        InvalidParameter: a value does not exist, or none does.
    """
    if "/" not in text and "," not in text:
        return Levels({dimension.name: text})
    found = _listed(text, dimension) if "/" not in text else _within(text, dimension, parameter)
    if not found:
        shown = ", ".join(map(str, dimension.values[:12]))
        raise InvalidParameter(
            parameter, f"{text[:80]} is not on {dimension.name}.", accepted=f"of {shown}, or none for all"
        )
    if len(found) == len(dimension.values):
        return Levels()
    if len(found) == 1:
        return Levels({dimension.name: str(dimension.values[found[0]])})
    return Levels(kept={dimension.name: found})


def _listed(text: str, dimension: Dimension) -> tuple[int, ...]:
    found = [_index(part.strip(), dimension) for part in text.split(",")]
    return () if None in found else tuple(sorted({index for index in found if index is not None}))


def _index(text: str, dimension: Dimension) -> int | None:
    for index, value in enumerate(dimension.values):
        if str(value) == text:
            return index
        if isinstance(value, int | float):
            try:
                if abs(float(text) - value) <= TOLERANCE * abs(value):
                    return index
            except ValueError:
                return None
    return None


def _within(text: str, dimension: Dimension, parameter: str) -> tuple[int, ...]:
    numbers = np.array([v if isinstance(v, int | float) else np.nan for v in dimension.values], np.float64)
    sequence = _SEQUENCE.fullmatch(text.strip())
    if sequence is not None:
        count, first, step = (
            int(sequence[1]),
            *(parse_number(part, parameter) for part in sequence.groups()[1:]),
        )
        wanted = first + step * np.arange(min(count, MOST_STEPS))
        near = np.abs(numbers[:, None] - wanted[None]) <= TOLERANCE * np.abs(numbers[:, None])
        return tuple(np.flatnonzero(near.any(axis=1)).tolist())
    ends = text.split("/")
    if len(ends) != 2:
        return ()
    low, high = sorted(float(end) if end in ("inf", "-inf") else parse_number(end, parameter) for end in ends)
    return tuple(np.flatnonzero((numbers >= low) & (numbers <= high)).tolist())


def keep_levels(loaded: Selection, kept: Mapping[str, tuple[int, ...]]) -> Selection:
    """Return a loaded answer with some of the levels of its dimensions."""
    if not kept:
        return loaded
    indices = {name: list(each) for name, each in kept.items()}
    return replace(loaded, dataset=loaded.dataset.isel(indices, missing_dims="ignore"))
