"""Times in a finer unit, refused where they are too far from 1970 for it, and never taken for others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray


def in_unit(times: NDArray[np.datetime64], dtype: np.dtype[Any] | str) -> NDArray[np.datetime64]:
    """Return datetime64 values as `dtype`, datetime64 too, of any shape; a coarser unit drops digits.

    Raises:
        OverflowError: one is too far from 1970 for the unit.
    """
    # NumPy raises this by itself since 2.5
    made = times.astype(dtype)
    is_finer = np.promote_types(times.dtype, made.dtype) != times.dtype
    if is_finer and (made.astype(times.dtype) != times)[~np.isnat(times)].any():
        raise OverflowError("a time is too far from 1970 for its unit")
    return made


def moments(said: Sequence[str | datetime]) -> NDArray[np.datetime64]:
    """Return times as NumPy reads them, datetime64[ns] of shape (n,).

    Raises:
        ValueError: one is none, or too far from 1970: before 1678 or after 2261.
    """
    coarse = np.array(said, "M8[us]")
    years = coarse[~np.isnat(coarse)].astype("M8[Y]").astype(np.int64) + 1970
    # NumPy reads what lies further as another time without a word
    if ((years < 1678) | (years > 2261)).any():
        raise ValueError("a time lies before 1678 or after 2261")
    return np.array(said, "M8[ns]")


def moment(said: str | datetime) -> np.datetime64:
    """Return one time as `moments` does."""
    read: np.datetime64 = moments([said])[0]
    return read
