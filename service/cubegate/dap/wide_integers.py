"""64-bit integers, which DAP2 lacks: doubles where these hold all values, or times in a coarser unit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from cubegate.dap.types import are_exact
from cubegate.dap.variables import DapVariable

# values of a variable that are looked at before it is served
MOST_VALUES = 2**16
_FINE = {"nanosecond": 10**9, "microsecond": 10**6, "millisecond": 10**3}
_UNITS = re.compile(r"\s*(nanosecond|microsecond|millisecond)s?(\s+since\s.*)", re.IGNORECASE | re.DOTALL)
_COARSER = ((10**6, "microseconds"), (10**3, "milliseconds"), (1, "seconds"))


async def settle(variables: Mapping[str, DapVariable]) -> dict[str, DapVariable]:
    """Return the variables that can be served: small ones with integers that no double holds are left out.

    Clients ask for small variables together, so that one that is refused would take the others with it.

    Raises:
        UpstreamError: a chunk could not be read.
    """
    wide = [each for each in variables.values() if _is_wide(each)]
    settled = dict(zip([each.name for each in wide], await asyncio.gather(*map(_settle, wide)), strict=True))
    kept = {name: settled.get(name, each) for name, each in variables.items()}
    served = {name: each for name, each in kept.items() if each is not None}
    return {name: _with_settled_maps(each, served) for name, each in served.items()}


def _is_wide(variable: DapVariable) -> bool:
    array = variable.stored
    return (
        array is not None
        and array.dtype.kind in "iu"
        and array.dtype.itemsize == 8
        and variable.variable.size <= MOST_VALUES
    )


async def _settle(variable: DapVariable) -> DapVariable | None:
    values = await variable.read(variable.whole)
    if are_exact(values).all():
        return variable
    match = _UNITS.fullmatch(str(variable.attributes.get("units", "")))
    if match is None:
        return None
    per_second = _FINE[match[1].lower()]
    for coarser, name in _COARSER:
        divisor = per_second // coarser
        if divisor > 1 and _divides(variable, values, divisor):
            attributes = {**variable.attributes, "units": f"{name}{match[2]}"}
            return replace(variable, attributes=attributes, divisor=divisor)
    return None


def _divides(variable: DapVariable, values: NDArray[Any], divisor: int) -> bool:
    present = values if variable.fill is None else values[values != variable.fill]
    return not (present % divisor).any() and bool(are_exact(present // divisor).all())


def _with_settled_maps(variable: DapVariable, served: Mapping[str, DapVariable]) -> DapVariable:
    if not all(each.name in served for each in variable.maps):
        return replace(variable, maps=())
    return replace(variable, maps=tuple(served[each.name] for each in variable.maps))
