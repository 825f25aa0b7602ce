"""Reads the members of a JSON object from parts of its text, holding no more than a few of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from json import JSONDecoder
from typing import Any, NamedTuple

from cubegate.errors import InvalidReference

MAX_MEMBER_LENGTH = 2**26

_SPACE = re.compile(r"[ \t\n\r]*")

Members = list[tuple[str, Any]]


class Batch(NamedTuple):
    """Some members that follow one another in the object called `inside`; "" is the outermost."""

    inside: str
    members: Members


def read_members(text: Iterable[str], nested: str) -> Iterator[Batch]:
    """Yield all members of the JSON object that the parts of `text` make together.

    The outermost object's member called `nested`, where it is an object, is read member by member
    too, and yielded as an empty object after them. What JSON is, the standard library decides.

    Raises:
        InvalidReference: the text is not one JSON object, or has a member of more than 64 Mi characters.
    """
    reader = _Reader(text)
    if not reader.skip("{"):
        raise InvalidReference("The reference file is not JSON, or not a JSON object of references.")
    yield from _read_object(reader, "", nested)
    reader.end()


def read_all_members(text: str, nested: str) -> list[Batch]:
    """Return what `read_members` yields of a text that is held as a whole, for a fraction of the time.

    Raises:
        InvalidReference: the text is not one JSON object.
    """
    try:
        outermost = JSONDecoder(object_pairs_hook=_Pairs).decode(text)
    except (ValueError, RecursionError):
        raise _not_json() from None
    if not isinstance(outermost, _Pairs):
        raise InvalidReference("The reference file is not JSON, or not a JSON object of references.")
    batches = []
    for key, value in outermost:
        if key == nested and isinstance(value, _Pairs):
            batches.append(Batch(nested, _with_objects(value)))
            batches.append(Batch("", [(key, {})]))
        else:
            batches.append(Batch("", _with_objects([(key, value)])))
    return batches


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, of which two may have one name."""


def _with_objects(members: Members) -> Members:
    return [(key, _as_object(value) if type(value) is not str else value) for key, value in members]


def _as_object(value: Any) -> Any:
    """Return `value` with an ordinary object in place of each list of pairs."""
    if isinstance(value, _Pairs):
        return {key: _as_object(each) for key, each in value}
    if isinstance(value, list) and any(isinstance(each, list) for each in value):
        return [_as_object(each) for each in value]
    return value


def _read_object(reader: _Reader, inside: str, nested: str) -> Iterator[Batch]:
    if reader.skip("}"):
        return
    while True:
        if run := reader.run():
            yield Batch(inside, run)
        else:
            key = reader.key()
            if key == nested and not inside and reader.skip("{"):
                yield from _read_object(reader, nested, nested)
                yield Batch(inside, [(key, {})])
            else:
                yield Batch(inside, [(key, reader.value())])
        if reader.skip("}"):
            return
        if not reader.skip(","):
            raise _not_json()


class _Reader:
    """A place in a text, of which a window is held."""

    def __init__(self, parts: Iterable[str]) -> None:
        self._parts = iter(parts)
        self._window, self._at, self._tried = "", 0, True
        self._decode = JSONDecoder().raw_decode
        self._decode_pairs = JSONDecoder(object_pairs_hook=_as_pairs).decode

    def run(self) -> Members:
        """Take the members of the window up to the last one that is an array, all at once.

        Takes none where one of them holds an object, or where the window has been tried.
        """
        end = self._window.rfind("]", self._at) + 1
        tried, self._tried = self._tried, True
        if tried or not end or self._window.find("{", self._at, end) >= 0:
            return []
        try:
            # a bracket inside a text or an array leaves something open, which does not parse
            members: Members = self._decode_pairs("{" + self._window[self._at : end] + "}")
        except (ValueError, RecursionError):
            return []
        self._at = end
        return members

    def key(self) -> str:
        """Take a key and its colon."""
        key = self._whole(":")
        if not isinstance(key, str):
            raise _not_json()
        self._at += 1
        return key

    def value(self) -> Any:
        """Take the value of a member."""
        return self._whole(",", "}")

    def skip(self, character: str) -> bool:
        """Take white space, and then `character` if it is there."""
        self._skip_space()
        found = self._window.startswith(character, self._at)
        self._at += found
        return found

    def end(self) -> None:
        """Take the rest, which is white space."""
        self._skip_space()
        if self._at < len(self._window):
            raise _not_json()

    def _whole(self, *followers: str) -> Any:
        """Take a value up to one of `followers`, without which a number may go on in the next part."""
        self._skip_space()
        while True:
            try:
                value, end = self._decode(self._window, self._at)
                end = _end_of_space(self._window, end)
                if self._window.startswith(followers, end):
                    self._at = end
                    return value
            except RecursionError:
                raise _not_json() from None
            except ValueError:
                # not JSON, or not all of it
                pass
            if not self._extend():
                raise _not_json()

    def _skip_space(self) -> None:
        self._at = _end_of_space(self._window, self._at)
        while self._at == len(self._window) and self._extend():
            self._at = _end_of_space(self._window, 0)

    def _extend(self) -> bool:
        held = self._window[self._at :]
        if len(held) > MAX_MEMBER_LENGTH:
            raise InvalidReference(f"The reference file has a member over {MAX_MEMBER_LENGTH:,} characters.")
        parts, length = [held], len(held)
        for part in self._parts:
            parts.append(part)
            length += len(part)
            # twice as much each time, so that a long value is not decoded once a part
            if length > 2 * len(held):
                break
        self._window, self._at, self._tried = "".join(parts), 0, False
        return length > len(held)


def _as_pairs(pairs: Members) -> Members:
    return pairs


def _end_of_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _not_json() -> InvalidReference:
    return InvalidReference("The reference file is not JSON.")
