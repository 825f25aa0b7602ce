"""Constraint expressions of DAP2: which variables are asked for, and which part of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from cubegate.dap.names import escaped
from cubegate.dap.variables import DapVariable, Slabs
from cubegate.errors import InvalidParameter

MAX_PROJECTIONS = 1000
ACCEPTED = "names separated by commas, each with [start:stride:stop] for all of its dimensions or for none"
_PROJECTION = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_SLAB = re.compile(r"\[(\d{1,18})(?::(\d{1,18}))?(?::(\d{1,18}))?\]", re.ASCII)

Kind = Literal["", "Grid", "Structure"]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of one variable: `slabs` are one slice a dimension, `stop` exclusive as in Python."""

    variable: DapVariable
    slabs: Slabs

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values along each dimension."""
        return tuple(len(range(slab.start, slab.stop, slab.step)) for slab in self.slabs)

    @property
    def size(self) -> int:
        """How many values."""
        return math.prod(self.shape)

    @property
    def text(self) -> str:
        """The projection that asks for this part."""
        return escaped(self.variable.name) + "".join(
            f"[{slab.start}:{slab.step}:{slab.stop - 1}]" for slab in self.slabs
        )


@dataclass(frozen=True, eq=False)
class Projection:
    """What one name of the answer holds: an array or scalar (kind empty), a Grid or some members of one."""

    name: str
    kind: Kind
    parts: tuple[Part, ...]


def read_constraint(query: str, variables: Mapping[str, DapVariable]) -> list[Projection]:
    """Read a constraint expression as it stands in the address, percent-encoded or not; empty asks for all.

    Raises:
        InvalidParameter: it names what is not there, asks for values beyond a dimension, or selects by
            value, which only sequences could do.
    """
    projected, _, selection = unquote(query).partition("&")
    if selection.strip("&"):
        raise _refused("Selections by value are for sequences, and this dataset has none.")
    texts = [text.strip() for text in projected.split(",")] if projected.strip() else []
    if not texts:
        return [_whole(variable, variable.whole) for variable in variables.values()]
    if len(texts) > MAX_PROJECTIONS:
        raise _refused(f"There are {len(texts)} projections, and {MAX_PROJECTIONS} at most are possible.")
    asked: dict[str, list[tuple[DapVariable | None, str]]] = {}
    targets = _targets(variables)
    for text in texts:
        match = _PROJECTION.fullmatch(text)
        target = targets.get(match[1].strip()) if match else None
        if match is None or target is None:
            raise _unknown(text, match, variables)
        asked.setdefault(target[0], []).append((target[1], match[2]))
    return [_project(variables[name], wanted) for name, wanted in asked.items()]


def _targets(variables: Mapping[str, DapVariable]) -> dict[str, tuple[str, DapVariable | None]]:
    """What each possible name means: a variable, and one member of it where it is a Grid."""
    targets: dict[str, tuple[str, DapVariable | None]] = {}
    for name, variable in variables.items():
        for member in (variable, *variable.maps) if variable.maps else ():
            targets[f"{name}.{member.name}"] = (name, member)
            targets[f"{escaped(name)}.{escaped(member.name)}"] = (name, member)
    # a variable of that very name goes before
    return targets | {key: (name, None) for name in variables for key in (escaped(name), name)}


def _project(variable: DapVariable, wanted: Sequence[tuple[DapVariable | None, str]]) -> Projection:
    whole = {text for member, text in wanted if member is None}
    if len(whole) > 1:
        raise _refused(f"{variable.name!r} is asked for twice, by different parts.")
    if whole:
        return _whole(variable, _read_slabs(variable, whole.pop()))
    members: dict[str, tuple[DapVariable, Slabs]] = {}
    for member, text in wanted:
        assert member is not None  # noqa: S101 - there is no whole
        slabs = _read_slabs(member, text)
        if members.setdefault(member.name, (member, slabs))[1] != slabs:
            raise _refused(f"{variable.name}.{member.name} is asked for twice, by different parts.")
    order = [variable.name, *(each.name for each in variable.maps)]
    parts = [Part(*members[name]) for name in order if name in members]
    return Projection(variable.name, "Structure", tuple(parts))


def _whole(variable: DapVariable, slabs: Slabs) -> Projection:
    maps = [Part(each, (slab,)) for each, slab in zip(variable.maps, slabs, strict=False)]
    return Projection(variable.name, "Grid" if maps else "", (Part(variable, slabs), *maps))


def _read_slabs(variable: DapVariable, text: str) -> Slabs:
    if not text:
        return variable.whole
    texts = re.findall(r"\[[^\[\]]*\]", text)
    if len(texts) != len(variable.shape):
        raise _refused(
            f"{variable.name!r} has {len(variable.shape)} dimensions, and {len(texts)} parts are given."
        )
    return tuple(
        _read_slab(variable.name, dim, size, each)
        for dim, size, each in zip(variable.dims, variable.shape, texts, strict=True)
    )


def _read_slab(name: str, dim: str, size: int, text: str) -> slice:
    match = _SLAB.fullmatch(text)
    if match is None:
        raise _refused(f"{text[:80]!r} is no part of a dimension.")
    numbers = [int(number) for number in match.groups() if number is not None]
    start, stride, stop = (
        (numbers[0], 1, numbers[0])
        if len(numbers) == 1
        else (numbers[0], 1, numbers[1])
        if len(numbers) == 2
        else (numbers[0], numbers[1], numbers[2])
    )
    if stride < 1:
        raise _refused(f"The stride of {text} is 0.")
    if stop < start:
        raise _refused(f"{text} of {name!r} ends before it starts.")
    if stop >= size:
        raise _refused(f"{text} of {name!r} goes beyond dimension {dim!r}, whose last index is {size - 1}.")
    # ends with the last value, so that blocks know theirs
    return slice(start, stop - (stop - start) % stride + 1, stride)


def _unknown(
    text: str, match: re.Match[str] | None, variables: Mapping[str, DapVariable]
) -> InvalidParameter:
    if match is not None and "(" not in text:
        known = ", ".join(list(variables)[:50])
        detail = f"There is no variable {match[1].strip()[:80]!r}."
        return InvalidParameter("constraint", detail, accepted=known or "nothing: the dataset is empty")
    return _refused(f"{text[:80]!r} is no projection.")


def _refused(detail: str) -> InvalidParameter:
    return InvalidParameter("constraint", detail, accepted=ACCEPTED)
