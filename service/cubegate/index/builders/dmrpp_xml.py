"""Parses the XML of a DMR++ document, which somebody else wrote, into elements."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from cubegate.errors import InvalidReference

MAX_NBYTES = 2**28
_MAX_ELEMENTS = 2**22
_MAX_DEPTH = 64
_DAP = "http://xml.opendap.org/ns/DAP/4.0#"
_DMRPP = "http://xml.opendap.org/dap/dmrpp/1.0.0#"
HREF = f"{{{_DMRPP}}}href"


def parse_dmrpp(data: bytes, name: str) -> Element:
    """Return the root element of a document; `name` is for messages.

    Raises:
        InvalidReference: it is no XML, no DMR++, too large, or has a document type (and so, maybe, entities).
    """
    if len(data) > MAX_NBYTES:
        raise InvalidReference(f"{name} is larger than the {MAX_NBYTES:,} bytes that a DMR++ may have.")
    reader = _Reader(name)
    try:
        root = reader.read(data)
    except expat.ExpatError as error:
        raise InvalidReference(f"{name} is not XML, or cut (line {error.lineno}).") from None
    if root.tag != dap("Dataset"):
        raise InvalidReference(f"{name} is not DMR++.")
    return root


def dap(tag: str) -> str:
    """Return the full name of a tag of DAP4."""
    return f"{{{_DAP}}}{tag}"


def dmrpp(tag: str) -> str:
    """Return the full name of a tag of DMR++."""
    return f"{{{_DMRPP}}}{tag}"


def local_name(element: Element) -> str:
    """Return the name of a DAP4 tag, "" for others."""
    return element.tag.removeprefix(f"{{{_DAP}}}") if element.tag.startswith(f"{{{_DAP}}}") else ""


def children(element: Element, tag: str) -> Iterator[Element]:
    """Yield the children of `element` that have the full name `tag`."""
    return element.iterfind(tag)


class _Reader:
    """Builds elements from what expat tells."""

    def __init__(self, name: str) -> None:
        self._name, self._builder = name, TreeBuilder()
        self._depth = self._elements = 0
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._builder.data
        self._parser.StartDoctypeDeclHandler = self._refuse

    def read(self, data: bytes) -> Element:
        self._parser.Parse(data, True)
        return self._builder.close()

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth, self._elements = self._depth + 1, self._elements + 1
        if self._depth > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise InvalidReference(f"{self._name} has too many elements, or too many in one another.")
        self._builder.start(_full(tag), {_full(key): value for key, value in attributes.items()})

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(_full(tag))

    def _refuse(self, *_: object) -> None:
        raise InvalidReference(f"{self._name} has a document type declaration, which is not read.")


def _full(name: str) -> str:
    return f"{{{name}" if "}" in name else name
