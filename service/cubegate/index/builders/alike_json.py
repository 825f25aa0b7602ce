"""Reads references of granules that are like each other: what was learnt of one is only compared in the next.

The chunks of granules of one grid have the same keys in the same order, so that a sidecar differs from
the one before in its address, in offsets and lengths, and in a few documents. Where it does so in more
than that, it is read as any other reference file is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import deflate
import numpy as np
from numpy.typing import NDArray

from cubegate.errors import InvalidReference
from cubegate.index.builders.alike_references import AlikeReferences
from cubegate.index.builders.json_members import Members, read_all_members
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.index import Index
from cubegate.index.table import WHOLE_OBJECT

_LARGEST = 2**23
_GZIP = b"\x1f\x8b"
_FIRST = re.compile(rb'\[\s*"[^"\\]+"\s*,\s*(?=\d)')
_KEY = re.compile(rb'\s*,\s*"([^"\\\x00-\x1f]+)"\s*:\s*')
_REFS = "refs"
_WORD = 8
_MOST_DIGITS = 18
# stands where the range of a chunk stood
_MARK = [7305216849501372]
_MARK_TEXT = b"[7305216849501372]"

_Bytes = NDArray[np.uint8]
_Numbers = NDArray[np.int64]


class AlikeReader:
    """Reads sidecars, JSON that may be gzipped, faster from the second one on; not in two threads at once."""

    def __init__(self) -> None:
        self._pattern: _Pattern | None = None

    def read(self, data: bytes, *, base_url: str, check_url: Callable[[str], None]) -> Index:
        """Return the index of the references `data`; see `build_from_kerchunk_json`.

        Its `version` is not taken.

        Raises:
            InvalidReference, CubegateError: as `build_from_kerchunk_json` does.
        """
        found = _find_ranges(data)
        if found is not None and self._pattern is not None:
            index = self._pattern.read(found, base_url, check_url)
            if index is not None:
                return index
        index = build_from_kerchunk_json(data, base_url=base_url, check_url=check_url)
        if found is not None:
            self._pattern = _learn(found)
        return index


@dataclass(frozen=True)
class _Ranges:
    """The chunk references of one file that name the object that the first one names.

    `text` is the file; `starts` and `ends` are where each [url, offset, length] begins and ends in it.
    """

    text: bytes | bytearray
    url: str
    starts: _Numbers
    ends: _Numbers
    offset: _Numbers
    length: _Numbers

    @property
    def gaps(self) -> tuple[_Numbers, _Numbers]:
        """Where what stands before each of them begins and ends."""
        return np.concatenate([[0], self.ends[:-1]]), self.starts


def _find_ranges(data: bytes) -> _Ranges | None:
    """Find all references to the object that is named first; None where their looks do not tell them."""
    text = _text(data)
    first = None if text is None else _FIRST.search(text)
    if text is None or first is None or len(first[0]) < _WORD:
        return None
    head = bytes(first[0])
    held = np.frombuffer(text, np.uint8)
    starts = np.flatnonzero(held == ord("["))
    starts = starts[_begin_with(held, starts, head)]
    closing = np.flatnonzero(held == ord("]"))
    places = np.searchsorted(closing, starts)
    if not len(closing) or places[-1] >= len(closing):
        return None
    numbers, ends = starts + len(head), closing[places]
    commas = np.flatnonzero(held == ord(","))
    middle = commas[np.minimum(np.searchsorted(commas, numbers), len(commas) - 1)]
    spaces = (held[np.minimum(middle + 1, len(held) - 1)] == ord(" ")).astype(np.int64)
    offset, length = _whole_numbers(held, numbers, middle), _whole_numbers(held, middle + 1 + spaces, ends)
    if offset is None or length is None or not ((length > 0) & (length < WHOLE_OBJECT)).all():
        return None
    url = head[head.index(b'"') + 1 : head.rindex(b'"')].decode("ascii", "replace")
    return None if "\ufffd" in url else _Ranges(text, url, starts, ends + 1, offset, length)


def _text(data: bytes | bytearray) -> bytes | bytearray | None:
    """The text of a small file; None where it must be read in parts, or is not ASCII."""
    if data.startswith(_GZIP):
        size = int.from_bytes(data[-4:], "little")
        if len(data) > _LARGEST or not 0 < size <= _LARGEST:
            return None
        try:
            data = deflate.gzip_decompress(data, size)
        except deflate.DeflateError:
            return None
        if len(data) != size:
            return None
    return data if len(data) <= _LARGEST and data.isascii() else None


def _begin_with(held: _Bytes, starts: _Numbers, head: bytes) -> NDArray[np.bool_]:
    """Tell at which of `starts` stands `head`."""
    same = np.ones(len(starts), bool)
    for at in [*range(0, len(head) - _WORD, _WORD), len(head) - _WORD]:
        word = np.frombuffer(head[at : at + _WORD], np.uint64)[0]
        same &= _words(held, starts + at) == word
    return same


def _words(held: _Bytes, starts: _Numbers) -> NDArray[np.uint64]:
    """The eight bytes from each of `starts` on."""
    # one word from each byte on, so that they overlap
    every: NDArray[np.uint64] = np.ndarray((len(held) - _WORD + 1,), np.uint64, held.data, strides=(1,))
    return every[np.minimum(starts, len(every) - 1)]


def _whole_numbers(held: _Bytes, starts: _Numbers, ends: _Numbers) -> _Numbers | None:
    """Read the decimal numbers between `starts` and `ends`; None where one is not written as JSON has it."""
    digits = ends - starts
    most = int(digits.max(initial=0))
    if int(digits.min(initial=1)) < 1 or most > _MOST_DIGITS:
        return None
    if ((held[starts] == ord("0")) & (digits > 1)).any():
        return None
    values = np.zeros(len(starts), np.int64)
    for place in range(most):
        inside = place < digits
        digit = held[starts + np.where(inside, place, 0)] - np.uint8(ord("0"))
        if (digit > 9).any():
            return None
        values = np.where(inside, values * 10 + digit, values)
    return values


@dataclass(frozen=True)
class _Kept:
    """The members of one file that are no plain ranges, and the keys of the ranges that stand among them."""

    members: Members
    marked: list[str]


class _Pattern:
    """The keys of the ranges of one file, in their order.

    `plain` are the numbers of those before which nothing but their key stands: `lengths` and `words`
    are of this text. `keys` are of all of them.
    """

    def __init__(
        self, keys: list[str], plain: _Numbers, lengths: _Numbers, words: NDArray[np.uint64]
    ) -> None:
        self._keys, self._plain, self._lengths, self._words = keys, plain, lengths, words
        self._others = np.setdiff1d(np.arange(len(keys)), plain)
        self._references = AlikeReferences(keys)

    def read(self, found: _Ranges, base_url: str, check_url: Callable[[str], None]) -> Index | None:
        """Return the index of a file that has the keys of this pattern; None for another."""
        if len(found.starts) != len(self._keys):
            return None
        begins, ends = (each[self._plain] for each in found.gaps)
        if not np.array_equal(ends - begins, self._lengths):
            return None
        if not np.array_equal(_gap_words(found.text, begins, self._lengths), self._words):
            return None
        kept = _read_others(found, self._others)
        if kept is None or kept.marked != [self._keys[number] for number in self._others.tolist()]:
            return None
        ranges = (found.url, found.offset, found.length)
        return self._references.index(kept.members, ranges, base_url=base_url, check_url=check_url)


def _gap_words(text: bytes | bytearray, begins: _Numbers, lengths: _Numbers) -> NDArray[np.uint64]:
    """All of the text from each of `begins` on, in words; the last may begin inside the one before."""
    held = np.frombuffer(text, np.uint8)
    count = -(-int(lengths.max(initial=_WORD)) // _WORD)
    last = np.maximum(lengths - _WORD, 0)
    return np.stack([_words(held, begins + np.minimum(at * _WORD, last)) for at in range(count)])


def _learn(found: _Ranges) -> _Pattern | None:
    """Take the pattern of a file that is known to be valid."""
    begins, ends = found.gaps
    gaps = [found.text[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    matches = [_KEY.fullmatch(gap) if len(gap) >= _WORD else None for gap in gaps]
    # a first one stands behind the brace that opens the object
    plain = np.array([number for number, match in enumerate(matches) if match and number], np.int64)
    others = np.setdiff1d(np.arange(len(gaps)), plain)
    kept = _read_others(found, others)
    if kept is None or len(kept.marked) != len(others):
        return None
    marked = iter(kept.marked)
    plain_numbers = set(plain.tolist())
    keys = [
        bytes(match[1]).decode() if match and number in plain_numbers else next(marked)
        for number, match in enumerate(matches)
    ]
    lengths = (ends - begins)[plain]
    return _Pattern(keys, plain, lengths, _gap_words(found.text, begins[plain], lengths))


def _read_others(found: _Ranges, others: _Numbers) -> _Kept | None:
    """Read the text of a file without its plain ranges, which leaves a JSON object."""
    if _MARK_TEXT[1:-1] in found.text:
        return None
    begins, ends = (each[others].tolist() for each in found.gaps)
    parts = [found.text[begin:end] + _MARK_TEXT for begin, end in zip(begins, ends, strict=True)]
    text = b"".join([*parts, found.text[int(found.ends[-1]) :]]).decode("ascii")
    try:
        batches = read_all_members(text, _REFS)
    except InvalidReference:
        return None
    outer = [member for batch in batches if not batch.inside for member in batch.members]
    inner = [batch.members for batch in batches if batch.inside]
    if sorted(key for key, _ in outer) != [_REFS, "version"] or len(inner) != 1:
        return None
    if type(version := dict(outer)["version"]) is not int or version != 1:
        return None
    marked = [key for key, value in inner[0] if value == _MARK]
    if len(marked) != len(others):
        return None
    return _Kept([(key, value) for key, value in inner[0] if value != _MARK], marked)
