"""The types of DAP2, which stored types they stand for, and how their values are written as XDR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import NotAcceptable

# the largest integers that float64 still tells apart
EXACT = 2**53


@dataclass(frozen=True)
class DapType:
    """One atomic type of DAP2.

    `wire` is how XDR writes one value of an array, which for 16-bit integers takes four bytes; None for
    strings.
    """

    name: str
    wire: np.dtype[Any] | None

    @property
    def is_text(self) -> bool:
        """Whether values are strings."""
        return self.wire is None


BYTE = DapType("Byte", np.dtype("u1"))
INT16 = DapType("Int16", np.dtype(">i4"))
INT32 = DapType("Int32", np.dtype(">i4"))
FLOAT32 = DapType("Float32", np.dtype(">f4"))
FLOAT64 = DapType("Float64", np.dtype(">f8"))
STRING = DapType("String", None)

# DAP2 has no signed bytes and no 64-bit integers, and netCDF-C takes the unsigned for signed: all are widened
_TYPES = {
    "b1": BYTE, "u1": BYTE, "i1": INT16, "i2": INT16, "u2": INT32, "i4": INT32, "u4": FLOAT64,
    "i8": FLOAT64, "u8": FLOAT64, "f2": FLOAT32, "f4": FLOAT32, "f8": FLOAT64,
}  # fmt: skip


def type_of(dtype: np.dtype[Any]) -> DapType | None:
    """Return the type that holds all values of `dtype`; None where DAP2 has none (complex, datetime64)."""
    if dtype.kind in "SUO":
        return STRING
    return _TYPES.get(f"{dtype.kind}{dtype.itemsize}")


def as_typed(values: NDArray[Any], dap_type: DapType, name: str) -> NDArray[Any]:
    """Return numbers as `dap_type` writes them.

    Raises:
        NotAcceptable: 64-bit integers would lose digits; nothing is rounded.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and not are_exact(values).all():
        raise NotAcceptable(
            f"Variable {name!r} has 64-bit integers that no type of DAP2 holds: read it by Zarr instead."
        )
    assert dap_type.wire is not None  # noqa: S101 - texts are written by `xdr_texts`
    return values.astype(dap_type.wire)


def are_exact(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which integers are the same as doubles; the lowest, a common fill value, is a power of two."""
    lowest = values == np.iinfo(np.int64).min
    return np.asarray((values <= EXACT) & ((values >= -EXACT) | lowest), bool)


def xdr_texts(values: Iterable[bytes]) -> Iterator[bytes]:
    """Write strings: the length of each, and its bytes up to a multiple of four."""
    for value in values:
        yield len(value).to_bytes(4, "big") + value + padding(len(value))


def padding(nbytes: int) -> bytes:
    """Return the zeros that fill the last four bytes."""
    return bytes(-nbytes % 4)


def texts(values: NDArray[Any]) -> list[bytes]:
    """Return decoded strings as UTF-8, without what is missing."""
    return [_text(value) for value in np.asarray(values).reshape(-1).tolist()]


def _text(value: object) -> bytes:
    if isinstance(value, bytes):
        return value.rstrip(b"\0")
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else b""
