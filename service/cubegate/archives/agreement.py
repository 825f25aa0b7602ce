"""What has to be alike in all granules of a stack, and how it is said where it is not."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidReference
from cubegate.index.metadata import ArrayMetadata

# what turns stored numbers into values
DECODING = (
    "scale_factor", "add_offset", "_Unsigned", "missing_value", "units", "calendar", "flag_values",
    "flag_masks",
)  # fmt: skip
_ENCODING = ("shape", "chunk_shape", "dtype", "codecs", "fill_value", "declared_fill")
_SHOWN = 3

Named = Sequence[tuple[str, ArrayMetadata]]
"""One array of every granule, with the name of the granule."""


def require_same_encoding(path: str, arrays: Named) -> None:
    """Accept arrays whose chunks can be laid one behind the other.

    Raises:
        InvalidReference: one is stored in another way, or means another thing, than the first.
    """
    first_name, first = arrays[0]
    for name, array in arrays[1:]:
        if array is first:
            continue
        for what in _ENCODING:
            mine, other = getattr(first, what), getattr(array, what)
            if not (mine == other or (mine != mine and other != other)):  # noqa: PLR0124 - both NaN
                said = what.replace("_", " ")
                raise InvalidReference(
                    f"Array {path!r} of {name} has another {said} than that of {first_name}."
                )
        for what in DECODING:
            if first.attributes.get(what) != array.attributes.get(what):
                raise InvalidReference(f"Array {path!r} of {name} has another {what} than {first_name}.")


def other_meaning(arrays: Named, attributes: Collection[str] | None = None) -> str | None:
    """Return the first granule in which one of `attributes`, or any, is not that of the first granule."""
    _, first = arrays[0]
    for name, array in arrays[1:]:
        if array is first:
            continue
        compared = first.attributes.keys() | array.attributes.keys() if attributes is None else attributes
        if any(first.attributes.get(each) != array.attributes.get(each) for each in compared):
            return name
    return None


def require_no_gaps(path: str, allocated: NDArray[np.bool_], names: Sequence[str]) -> None:
    """Refuse granules without chunks where both neighbours, or the only one, have them.

    `allocated`, of shape (granules, chunks), says where there are chunks.

    Raises:
        InvalidReference: there are such granules.
    """
    if len(allocated) < 2:
        return
    before = np.vstack([allocated[1], allocated[:-1]])
    after = np.vstack([allocated[1:], allocated[-2]])
    missing = (~allocated & before & after).sum(axis=1)
    lacking = [
        f"{name} ({count:,} chunks)" for name, count in zip(names, missing.tolist(), strict=True) if count
    ]
    if lacking:
        raise InvalidReference(
            f"Array {path!r} lacks chunks that the granules beside have, in {some(lacking)}. Allow it by "
            "name where they were never written."
        )


def some(names: Sequence[str]) -> str:
    """Return the first of `names`, and how many there are beside them."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown
