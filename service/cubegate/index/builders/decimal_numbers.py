"""Reads the decimal numbers that end at many places of a text, eight digits at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD = 8
"""Bytes that are read at a time."""
MOST_DIGITS = 18

_WORDS = -(-MOST_DIGITS // WORD)
# of each byte of a word
_ONES = np.uint64(0x0101010101010101)
_ZEROS = np.uint64(0x3030303030303030)
_SIXES = np.uint64(0x0606060606060606)
_HIGH = np.uint64(0xF0F0F0F0F0F0F0F0)
_LOW = np.uint64(0x0F0F0F0F0F0F0F0F)
_FLAG = np.uint64(0x1010101010101010)
# by how many of the last bytes are digits
_KEEP = np.array([0, *((2**64 - 1) ^ (2 ** (64 - 8 * digits) - 1) for digits in range(1, 9))], np.uint64)
# pairs of digits to their weights in the upper half of a word
_PAIRS = np.uint64(0x000000FF000000FF)
_FIRST_AND_THIRD = np.uint64(100 + (1_000_000 << 32))
_SECOND_AND_FOURTH = np.uint64(1 + (10_000 << 32))
_SCALE = 10**WORD

_Numbers = NDArray[np.int64]


class Decimals(NamedTuple):
    """Numbers, and how many digits each has; a value is of those of at most `MOST_DIGITS` digits only."""

    values: _Numbers
    digits: _Numbers


def words_at(text: bytes | bytearray, starts: _Numbers, count: int = 1) -> NDArray[np.uint64]:
    """Return `count` words of `text`, which is longer, from each of `starts` on: (len(starts), count)."""
    size = count * WORD
    # one from each byte on, so that they overlap
    every = np.ndarray((len(text) - size + 1,), f"V{size}", text, strides=(1,))
    return every[starts].view(np.uint64).reshape(-1, count)


def decimals_before(text: bytes | bytearray, ends: _Numbers) -> Decimals:
    """Read the digits that stand right before `ends`, of which each is 24 or more, in a text of ASCII."""
    values, digits = _eight_digits(words_at(text, ends - WORD)[:, 0])
    for number in range(1, _WORDS):
        longer = np.flatnonzero(digits == number * WORD)
        if not len(longer):
            break
        before, more = _eight_digits(words_at(text, ends[longer] - (number + 1) * WORD)[:, 0])
        # of the digits beyond the most, the value means nothing
        most = 10 ** (MOST_DIGITS - number * WORD) - 1
        values[longer] += np.minimum(before, most) * _SCALE**number
        digits[longer] += more
    return Decimals(values, digits)


def _eight_digits(words: NDArray[np.uint64]) -> Decimals:
    """Read the digits that end each of `words`, whose bytes are below 128."""
    found = words ^ _ZEROS
    # a byte is a digit where its upper half stays zero
    others = ((((found + _SIXES) | found) & _HIGH) >> np.uint64(4)) + _LOW & _FLAG
    for distance in (8, 16, 32):
        others |= others >> np.uint64(distance)
    digits = WORD - ((others >> np.uint64(4)) * _ONES >> np.uint64(56)).astype(np.int64)
    pairs = found & _KEEP[digits]
    pairs = pairs * np.uint64(10) + (pairs >> np.uint64(8))
    upper = (pairs & _PAIRS) * _FIRST_AND_THIRD + ((pairs >> np.uint64(16)) & _PAIRS) * _SECOND_AND_FOURTH
    return Decimals((upper >> np.uint64(32)).astype(np.int64), digits)
