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
from cubegate.index.builders.decimal_numbers import MOST_DIGITS, WORD, decimals_before, words_at
from cubegate.index.builders.json_members import Members, read_all_members
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.index import Index
from cubegate.index.table import WHOLE_OBJECT

_LARGEST = 2**23
_GZIP = b"\x1f\x8b"
_FIRST = re.compile(rb'\[\s*"[^"\\]+"\s*,\s*(?=\d)')
_NUMBERS = rb"(?:0|[1-9]\d{0,17}), ?[1-9]\d{0,9}\]"
_KEY = re.compile(rb'\s*,\s*"([^"\\\x00-\x1f]+)"\s*:\s*')
_LONGEST_KEY = 256
# bytes at a time, so that no work needs memory that the system must clear first
_BLOCK = 2**17
_REFS = "refs"
# what is read of a text before its first number; no address is shorter
_SHORTEST_HEAD = 3 * WORD
_LONGEST_NUMBERS = 2 * MOST_DIGITS
# stands where the range of a chunk stood
_MARK = [7305216849501372]
_MARK_TEXT = b"[7305216849501372]"

_Numbers = NDArray[np.int64]
_Words = NDArray[np.uint64]


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
        text = _text(data)
        if text is not None and self._pattern is not None:
            index = self._pattern.read(text, base_url, check_url)
            if index is not None:
                return index
        index = build_from_kerchunk_json(data, base_url=base_url, check_url=check_url)
        if text is not None:
            self._pattern = _learn(text)
        return index


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


def _head(text: bytes | bytearray) -> bytes | None:
    """The first range up to its first number; None where there is none that could be told from others."""
    first = _FIRST.search(text)
    head = b"" if first is None else bytes(first[0])
    return head if len(head) >= _SHORTEST_HEAD and head.isascii() else None


@dataclass(frozen=True)
class _Ranges:
    """Chunk references of one file that name the object that the first one names.

    `text` is the file, and `starts` and `ends` are where each [url, offset, length] begins and ends in it.
    """

    text: bytes | bytearray
    starts: _Numbers
    ends: _Numbers

    @property
    def gaps(self) -> tuple[_Numbers, _Numbers]:
        """Where what stands before each of them begins and ends."""
        return np.concatenate([[0], self.ends[:-1]]), self.starts


@dataclass(frozen=True)
class _Kept:
    """The members of one file that are no plain ranges, and the keys of the ranges that stand among them."""

    members: Members
    marked: list[str]


class _Pattern:
    """The keys of the ranges of one file, in their order.

    `plain` are the numbers of those before which nothing but their key stands: `lengths` are of this text,
    and `words` and `mask` its bytes as `_gap_words` returns them. `keys` are of all of them.
    """

    def __init__(self, keys: list[str], plain: _Numbers, lengths: _Numbers) -> None:
        self._keys, self._plain, self._lengths = keys, plain, lengths
        self._others = np.setdiff1d(np.arange(len(keys)), plain)
        self._references = AlikeReferences(keys)
        self._mask = _last_bytes(lengths)
        self._words: _Words = np.zeros((0, 0), np.uint64)

    def learn(self, found: _Ranges) -> None:
        """Take the text before each plain range of a file that is known to be valid."""
        self._words = self._gap_words(found.text, found.starts)

    def read(self, text: bytes | bytearray, base_url: str, check_url: Callable[[str], None]) -> Index | None:
        """Return the index of a file that has the keys of this pattern; None for another."""
        head = _head(text)
        starts = None if head is None else self._starts(text, head)
        if head is None or starts is None:
            return None
        ends = self._ends(text, starts, len(head))
        numbers = None if ends is None else _read_numbers(text, starts + len(head), ends)
        if ends is None or numbers is None:
            return None
        if not np.array_equal(self._gap_words(text, starts), self._words):
            return None
        kept = _read_others(_Ranges(text, starts, ends + 1), self._others)
        if kept is None or kept.marked != [self._keys[number] for number in self._others.tolist()]:
            return None
        url = head[head.index(b'"') + 1 : head.rindex(b'"')].decode("ascii")
        return self._references.index(kept.members, (url, *numbers), base_url=base_url, check_url=check_url)

    def _starts(self, text: bytes | bytearray, head: bytes) -> _Numbers | None:
        """Where the ranges that begin with `head` do, if there are as many as this file has keys."""
        starts = _find_brackets(text)
        starts = starts[: np.searchsorted(starts, len(text) - len(head), "right")]
        starts = starts[words_at(text, starts)[:, 0] == np.frombuffer(head[:WORD], np.uint64)[0]]
        if len(starts) != len(self._keys) or starts[0] < self._mask.shape[1] * WORD:
            return None
        return starts if _all_begin_with(text, starts, head) else None

    def _ends(self, text: bytes | bytearray, starts: _Numbers, skipped: int) -> _Numbers | None:
        """Where the bracket that closes each range stands, before the key of the next one."""
        ends = np.zeros(len(starts), np.int64)
        ends[self._plain - 1] = starts[self._plain] - self._lengths - 1
        for number in [*(self._others[1:] - 1).tolist(), len(starts) - 1]:
            begin = int(starts[number]) + skipped
            ends[number] = text.find(b"]", begin, begin + _LONGEST_NUMBERS + len(", ]"))
        closed = (ends > starts + skipped).all() and (np.frombuffer(text, np.uint8)[ends] == ord("]")).all()
        return ends if closed else None

    def _gap_words(self, text: bytes | bytearray, starts: _Numbers) -> _Words:
        """The text before each plain range, in words that end where it does."""
        count = self._mask.shape[1]
        return words_at(text, starts[self._plain] - count * WORD, count) & self._mask


def _find_brackets(text: bytes | bytearray) -> _Numbers:
    """Where lists are opened in `text`, and strings that say so."""
    held = np.frombuffer(text, np.uint8)
    parts = [
        np.flatnonzero(held[begin : begin + _BLOCK] == ord("[")) + begin
        for begin in range(0, len(text), _BLOCK)
    ]
    return np.concatenate(parts)


def _all_begin_with(text: bytes | bytearray, starts: _Numbers, head: bytes) -> bool:
    """Whether `head` stands at each of `starts`."""
    count = len(head) // WORD
    last = len(head) - WORD
    words = np.frombuffer(head, np.uint64, count)
    step = max(_BLOCK // len(head), 1)
    return all(
        (words_at(text, places, count) == words).all()
        and (words_at(text, places + last) == np.frombuffer(head[last:], np.uint64)).all()
        for places in (starts[begin : begin + step] for begin in range(0, len(starts), step))
    )


def _last_bytes(lengths: _Numbers) -> _Words:
    """Return words of which the last `lengths` bytes are ones, and all before them zeros."""
    size = -(-int(lengths.max(initial=1)) // WORD) * WORD
    ones = np.arange(size) >= size - lengths[:, np.newaxis]
    return (ones * np.uint8(255)).astype(np.uint8).view(np.uint64)


def _read_numbers(
    text: bytes | bytearray, starts: _Numbers, ends: _Numbers
) -> tuple[_Numbers, _Numbers] | None:
    """Read the offset and the length from `starts` to `ends`; None where one is not written so."""
    held = np.frombuffer(text, np.uint8)
    length, digits = decimals_before(text, ends)
    begins = ends - digits
    commas = begins - 1 - (held[begins - 1] == ord(" "))
    offset, more = decimals_before(text, commas)
    whole = (commas - more == starts) & (held[commas] == ord(","))
    # a zero is the first digit of zero alone, which is no length
    whole &= (held[begins] != ord("0")) & ((held[starts] != ord("0")) | (more == 1))
    whole &= (digits > 0) & (digits <= MOST_DIGITS) & (more > 0) & (more <= MOST_DIGITS)
    return (offset, length) if (whole & (length < WHOLE_OBJECT)).all() else None


def _learn(text: bytes | bytearray) -> _Pattern | None:
    """Take the pattern of a file that is known to be valid."""
    head = _head(text)
    if head is None:
        return None
    places = [match.span() for match in re.finditer(re.escape(head) + _NUMBERS, text)]
    found = _Ranges(text, *np.array(places, np.int64).reshape(-1, 2).T.copy())
    begins, ends = found.gaps
    gaps = [text[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    matches = [_KEY.fullmatch(gap) if len(gap) <= _LONGEST_KEY else None for gap in gaps]
    # a first one stands behind the brace that opens the object
    plain = np.array([number for number, match in enumerate(matches) if match and number], np.int64)
    others = np.setdiff1d(np.arange(len(gaps)), plain)
    kept = _read_others(found, others) if places else None
    if kept is None or found.starts[0] < _LONGEST_KEY:
        return None
    marked = iter(kept.marked)
    plain_numbers = set(plain.tolist())
    keys = [
        bytes(match[1]).decode() if match and number in plain_numbers else next(marked)
        for number, match in enumerate(matches)
    ]
    pattern = _Pattern(keys, plain, (ends - begins)[plain])
    pattern.learn(found)
    return pattern


def _read_others(found: _Ranges, others: _Numbers) -> _Kept | None:
    """Read the text of a file without its plain ranges, which leaves a JSON object."""
    begins, ends = (each[others].tolist() for each in found.gaps)
    parts = [found.text[begin:end] + _MARK_TEXT for begin, end in zip(begins, ends, strict=True)]
    joined = b"".join([*parts, found.text[int(found.ends[-1]) :]])
    if joined.count(_MARK_TEXT[1:-1]) != len(others):
        return None
    text = joined.decode("ascii")
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
