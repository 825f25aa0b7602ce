"""Reads what describes a HyP3 product: its parameter file, and CARD4L metadata as XML or JSON."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from xml.parsers import expat

from cubegate.errors import InvalidReference

MAX_NBYTES = 2**22
_MAX_KEYS, _MAX_LEAVES = 500, 5_000
_MAX_VALUE = 4_000
_MAX_DEPTH = 32
_UNFIT = re.compile(r"[^a-z0-9]+")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# old files have other words for the same
_RENAMED = {
    "master_granule": "reference_granule",
    "slave_granule": "secondary_granule",
    "utctime": "utc_time",
    "baseline": "perpendicular_baseline",
    "resolution_of_output_m": "resolution_of_output",
    "dem_resolution_m": "dem_resolution",
    "speckle_filtering": "speckle_filter",
    # a layer is called water_mask
    "water_mask": "water_masked",
}
UNITS: Mapping[str, str] = {
    "perpendicular_baseline": "m",
    "temporal_baseline": "days",
    "utc_time": "s",
    "heading": "degree",
    "spacecraft_height": "m",
    "earth_radius_at_nadir": "m",
    "slant_range_near": "m",
    "slant_range_center": "m",
    "slant_range_far": "m",
    "range_looks": "1",
    "azimuth_looks": "1",
    "phase_filter_parameter": "1",
    "resolution_of_output": "m",
    "dem_resolution": "m",
    "phase_at_reference_point": "radian",
    "y_coordinate_of_the_reference_point_in_the_map_projection": "m",
    "x_coordinate_of_the_reference_point_in_the_map_projection": "m",
    "latitude_of_the_reference_point_wgs84": "degrees_north",
    "longitude_of_the_reference_point_wgs84": "degrees_east",
}
LONG_NAMES: Mapping[str, str] = {
    "perpendicular_baseline": "perpendicular baseline of the pair",
    "temporal_baseline": "days between the dates of the two acquisitions",
    "utc_time": "time of day (UTC) of the reference acquisition",
}

Values = Mapping[str, float | str]
"""What a product says of itself: numbers and texts by name."""


def read_parameters(data: bytes, name: str) -> dict[str, float | str]:
    """Return what the lines `Key: value` of a parameter file say; keys become lower case names.

    Raises:
        InvalidReference: it is no such file.
    """
    said: dict[str, float | str] = {}
    for line in _text(data, name).splitlines():
        key, colon, value = line.partition(":")
        slug = _slug(key)
        if colon and slug:
            said[_RENAMED.get(slug, slug)] = _value(value.strip())
    if not said:
        raise InvalidReference(f"{name} has no lines of the form Key: value.")
    return _bounded(said, name, _MAX_KEYS)


def read_card4l(data: bytes, name: str) -> dict[str, float | str]:
    """Return the texts of an XML document, or the properties of a JSON one, as `card4l_` and their path.

    Raises:
        InvalidReference: it is neither, or too large, or has a document type (and so, maybe, entities).
    """
    if len(data) > MAX_NBYTES:
        raise InvalidReference(f"{name} is larger than {MAX_NBYTES:,} bytes.")
    is_json = name.lower().endswith(".json")
    leaves = _json_leaves(data, name) if is_json else _Leaves(name).read(data)
    found: dict[str, float | str] = {}
    seen: Counter[str] = Counter()
    for path, text in leaves:
        slug = "_".join(filter(None, (_slug(_WORDS.sub("_", part)) for part in path)))
        slug = f"card4l_{slug.removeprefix('card4l_')}"
        seen[slug] += 1
        found[slug if seen[slug] == 1 else f"{slug}_{seen[slug]}"] = _value(text)
    return _bounded(found, name, _MAX_LEAVES)


def _text(data: bytes, name: str) -> str:
    if len(data) > MAX_NBYTES:
        raise InvalidReference(f"{name} is larger than {MAX_NBYTES:,} bytes.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidReference(f"{name} is no text.") from None


def _slug(text: str) -> str:
    return _UNFIT.sub("_", text.strip().lower()).strip("_")[:100]


def _value(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text[:_MAX_VALUE]
    return number if math.isfinite(number) else text[:_MAX_VALUE]


def _bounded(said: dict[str, float | str], name: str, most: int) -> dict[str, float | str]:
    if len(said) > most:
        raise InvalidReference(f"{name} says over {most:,} things.")
    return said


def _json_leaves(data: bytes, name: str) -> list[tuple[tuple[str, ...], str]]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidReference(f"{name} is not JSON, or not all of it.")
    said: Any = document.get("properties", document)
    if not isinstance(said, dict):
        raise InvalidReference(f"{name} has properties of another form than JSON objects.")
    return [
        ((str(key),), str(value))
        for key, value in said.items()
        if isinstance(value, str | int | float | bool)
    ]


class _Leaves:
    """The texts of the elements of an XML document that have no elements inside."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._path: list[str] = []
        self._text: list[str] = []
        self._is_leaf = False
        self._found: list[tuple[tuple[str, ...], str]] = []

    def read(self, data: bytes) -> list[tuple[tuple[str, ...], str]]:
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise InvalidReference(f"{self._name} is not XML, or cut (line {error.lineno}).") from None
        return self._found

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self._path.append(tag.rpartition("}")[2])
        if len(self._path) > _MAX_DEPTH:
            raise InvalidReference(f"{self._name} has too many elements in one another.")
        self._text.clear()
        self._is_leaf = True

    def _end(self, _: str) -> None:
        text = "".join(self._text).strip()
        if self._is_leaf and text:
            # without the root, which is the document itself
            self._found.append((tuple(self._path[1:]) or tuple(self._path), text))
        self._path.pop()
        self._text.clear()
        self._is_leaf = False

    def _refuse(self, *_: object) -> None:
        raise InvalidReference(f"{self._name} has a document type, which is not read.")
