"""Builds the index of one GeoTIFF, whose tiles or strips are the chunks, and whose overviews are groups."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import ProjError

from cubegate.chunks.address import shown
from cubegate.chunks.source import ObjectSource
from cubegate.errors import InvalidReference
from cubegate.index.builders import tiff_directory as tiff
from cubegate.index.builders.geo_tags import GeoTags, read_geo_tags
from cubegate.index.builders.tiff_directory import Directory, TiffFile, read_tiff
from cubegate.index.builders.tiff_image import Image, read_image
from cubegate.index.content import StoredArray
from cubegate.index.index import Index
from cubegate.index.references import ReferenceCollector
from cubegate.index.table import TextTable

BAND_DATA = "band_data"
_REDUCED, _MASK = 1, 4
MULTISCALES = {
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "name": "multiscales",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v1/README.md",
}


async def build_from_geotiff(
    source: ObjectSource, url: str, *, check_url: Callable[[str], None], name: str = BAND_DATA
) -> Index:
    """Read the directories of the GeoTIFF at `url`, none of its pixels; its array is called `name`.

    The array has dimensions y and x, and `band` where there are several: first where the file keeps each
    band apart, last where it keeps them together. Internal overviews are groups such as `overview_2`,
    told by the `multiscales` attribute of the root; those that cannot be served are `skipped`. What
    the file is known by is recorded.

    Raises:
        InvalidReference: it is no GeoTIFF, is damaged or hostile, or has no form in Zarr.
        UpstreamError: it cannot be read.
    """
    try:
        file = await read_tiff(url, source)
        # GDAL and PROJ take their time, and a server goes on meanwhile
        index = await asyncio.to_thread(_build, file, check_url, name)
    except InvalidReference as error:
        raise type(error)(f"{shown(url)} cannot be a cube: {str(error).rstrip('.')}.") from None
    validators = TextTable.of([file.validator or ""] * index.granules)
    return Index(replace(index.content, validators=validators))


def _build(file: TiffFile, check_url: Callable[[str], None], name: str) -> Index:
    first, *others = file.directories
    if any(directory.number(tiff.NEW_SUBFILE_TYPE, 0) & _MASK for directory in others):
        raise InvalidReference("it has a transparency mask, and what lies under that would look valid")
    image = read_image(file, first)
    build = _Build(file, first, image, check_url, name)
    for number, directory in enumerate(others, 2):
        if not directory.number(tiff.NEW_SUBFILE_TYPE, 0) & _REDUCED:
            build.skipped[f"page_{number}"] = "it is a further page of the file, of which the first is read"
            continue
        build.add_overview(directory)
    return build.index()


class _Build:
    """The groups and arrays of one file."""

    def __init__(
        self, file: TiffFile, first: Directory, image: Image, check_url: Callable[[str], None], name: str
    ) -> None:
        self._file, self._first, self._image, self._name = file, first, image, name
        self._geo = read_geo_tags(first, image.bands)
        self._crs = _read_crs(self._geo)
        self._collector = ReferenceCollector(base_url=file.url, check_url=check_url)
        self._arrays: dict[str, StoredArray] = {}
        self._levels: dict[str, Image] = {}
        self.skipped: dict[str, str] = {}
        self._add_level("", image)

    def add_overview(self, directory: Directory) -> None:
        """Add an overview, or say why it is skipped."""
        width, height = directory.number(tiff.WIDTH), directory.number(tiff.HEIGHT)
        factor = round(max(self._image.width / max(width, 1), self._image.height / max(height, 1)))
        group = f"overview_{factor}"
        path = f"{group}/{self._name}"
        if group in self._levels or path in self.skipped:
            return
        try:
            image = read_image(self._file, directory)
        except InvalidReference as error:
            self.skipped[path] = str(error)
            return
        same = (image.dimensions, image.bands, image.dtype)
        nodata = directory.text(tiff.GDAL_NODATA)
        if same != (self._image.dimensions, self._image.bands, self._image.dtype):
            self.skipped[path] = "it is of another type or other bands than the full image"
        elif nodata is not None and nodata != self._first.text(tiff.GDAL_NODATA):
            self.skipped[path] = "it has another nodata value than the full image"
        else:
            self._add_level(group, image)

    def index(self) -> Index:
        groups: dict[str, dict[str, Any]] = {group: {} for group in self._levels}
        overviews = {group: image for group, image in self._levels.items() if group}
        if overviews:
            sizes = {group: (image.height, image.width) for group, image in self._levels.items()}
            groups[""] = multiscales(sizes)
        return self._collector.index(groups=groups, arrays=self._arrays, skipped=self.skipped)

    def _add_level(self, group: str, image: Image) -> None:
        self._levels[group] = image
        prefix = f"{group}/" if group else ""
        self._add_data(prefix, image)
        # overviews cover the same ground
        geo = replace(
            self._geo,
            pixel_height=self._geo.pixel_height * (self._image.height / image.height),
            pixel_width=self._geo.pixel_width * (self._image.width / image.width),
        )
        for name, size, corner, step in (
            ("y", image.height, geo.top, geo.pixel_height),
            ("x", image.width, geo.left, geo.pixel_width),
        ):
            self._add_small(prefix + name, corner + (np.arange(size) + 0.5) * step, self._axis(name), (name,))
        if image.bands > 1:
            bands = np.arange(1, image.bands + 1, dtype="<i4")
            self._add_small(f"{prefix}band", bands, {"long_name": "band"}, ("band",))
        if self._crs is not None:
            self._add_small(f"{prefix}spatial_ref", np.zeros((), "<i4"), _grid_mapping(self._crs, geo), ())

    def _add_data(self, prefix: str, image: Image) -> None:
        fill, declared = _fill(self._first, image)
        document = {
            "zarr_format": 2,
            "shape": list(image.shape),
            "chunks": list(image.chunks),
            "dtype": image.dtype.str,
            "compressor": image.compressor,
            "filters": list(image.filters) or None,
            "fill_value": fill,
            "order": "C",
        }
        attributes = {**self._attributes(), "_ARRAY_DIMENSIONS": list(image.dimensions)}
        path = f"{prefix}{self._name}"
        stored = StoredArray(document, attributes, fill_declared=declared)
        references = self._collector.add_array(stored.parse(path))
        here = image.nbytes > 0
        references.granule[here] = self._collector.granule(self._file.url)
        references.offset[here], references.length[here] = image.offsets[here], image.nbytes[here]
        self._arrays[path] = stored

    def _add_small(
        self, path: str, values: NDArray[Any], attributes: Mapping[str, Any], names: tuple[str, ...]
    ) -> None:
        document = {
            "zarr_format": 2,
            "shape": list(values.shape),
            "chunks": list(values.shape),
            "dtype": values.dtype.str,
            "compressor": None,
            "filters": None,
            "fill_value": None,
            "order": "C",
        }
        stored = StoredArray(document, {**attributes, "_ARRAY_DIMENSIONS": list(names)})
        self._collector.inline(self._collector.add_array(stored.parse(path)), 0, values.tobytes())
        self._arrays[path] = stored

    def _attributes(self) -> dict[str, Any]:
        geo = self._geo
        found: dict[str, Any] = {}
        names = [name or colour for name, colour in zip(geo.names, geo.colours, strict=True)]
        if any(geo.names) or set(geo.colours) - {"gray", "undefined"}:
            found["long_name"] = names[0] if len(names) == 1 else names
        units = set(geo.units) - {None, ""}
        if len(units) == 1 and len(set(geo.units)) == 1:
            found["units"] = units.pop()
        if (geo.scale, geo.offset) != (1.0, 0.0):
            found["scale_factor"], found["add_offset"] = geo.scale, geo.offset
        if self._crs is not None:
            found["grid_mapping"] = "spatial_ref"
        return found

    def _axis(self, name: str) -> dict[str, Any]:
        if self._crs is None:
            return {"axis": name.upper()}
        return next(
            (
                {key: value for key, value in axis.items() if key != "long_name"}
                for axis in self._crs.cs_to_cf()
                if axis.get("axis") == name.upper()
            ),
            {"axis": name.upper()},
        )


def multiscales(sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Return the attributes that tell the levels of a group; see the Zarr convention `multiscales`.

    `sizes` has rows and columns of each level by the path of its group, that of the full image being empty.
    """
    rows, columns = sizes[""]
    layout: list[dict[str, Any]] = [{"asset": ".", "transform": {"scale": [1.0, 1.0]}}]
    for group, (height, width) in sorted(sizes.items(), key=lambda item: -item[1][0]):
        if group:
            scale = {"scale": [rows / height, columns / width]}
            layout.append({"asset": group, "derived_from": ".", "transform": scale})
    return {"zarr_conventions": [MULTISCALES], "multiscales": {"layout": layout}}


def _read_crs(geo: GeoTags) -> CRS | None:
    if geo.crs_wkt is None:
        return None
    try:
        return CRS.from_wkt(geo.crs_wkt)
    except ProjError:
        raise InvalidReference("PROJ cannot read its coordinate reference system") from None


def _grid_mapping(crs: CRS, geo: GeoTags) -> dict[str, Any]:
    corners = (geo.left, geo.pixel_width, 0.0, geo.top, 0.0, geo.pixel_height)
    wkt = geo.crs_wkt
    return {**crs.to_cf(), "crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": " ".join(map(repr, corners))}


def _fill(directory: Directory, image: Image) -> tuple[Any, bool]:
    """Return the fill as JSON, and whether it means missing; see `Image`.

    Raises:
        InvalidReference: nodata is no value of the type, and tiles that were never written stand for it.
    """
    text = directory.text(tiff.GDAL_NODATA)
    if not text:
        return 0, False
    value = _nodata(text, image.dtype)
    if value is not None:
        return value, True
    if image.sparse:
        raise InvalidReference(
            f"its nodata value {text[:40]!r} is none of its type, and tiles that were never written mean it"
        )
    # no pixel can have it
    return 0, False


def _nodata(text: str, dtype: np.dtype[Any]) -> Any:
    """Return nodata as JSON, None where no value of the type is equal to it."""
    try:
        number = int(text) if dtype.kind in "iu" and text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise InvalidReference(f"its nodata value {text[:40]!r} is no number") from None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        whole = math.isfinite(number) and number == int(number) and limits.min <= number <= limits.max
        return int(number) if whole else None
    if dtype.kind == "c":
        return [_float_as_json(number), 0.0]
    # GDAL compares 16-bit floats as 32-bit ones
    wide = np.float32 if dtype.itemsize <= 4 else np.float64
    with np.errstate(over="ignore"):
        kept = wide(number)
        if math.isfinite(number) and (not np.isfinite(kept) or dtype.type(kept) != kept):
            return None
    return _float_as_json(float(kept))


def _float_as_json(number: float) -> Any:
    if math.isnan(number):
        return "NaN"
    return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"
