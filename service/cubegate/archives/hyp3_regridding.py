"""Decides which GeoTIFFs of HyP3 products are read in place, and which are copied onto the common grid."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cubegate.archives.hyp3_copies import Layout, layout_of
from cubegate.archives.hyp3_grids import Extent, Grid, common_grid, usual_grid
from cubegate.archives.hyp3_products import some
from cubegate.errors import InvalidParameter, InvalidReference
from cubegate.index.builders.geotiff import BAND_DATA
from cubegate.index.content import StoredArray
from cubegate.index.index import Index

Others = Literal["refuse", "leave-out", "warp"]
_SHOWN = 12
_DECODING = ("scale_factor", "add_offset", "units")


@dataclass(frozen=True)
class Source:
    """One GeoTIFF: of which product and layer, where and known by what, and its grid.

    `index` is None where no index can name its pixels, and `refusal` says why.
    """

    product: str
    layer: str
    url: str
    validator: str
    grid: Grid
    index: Index | None
    refusal: str = ""

    @property
    def stored(self) -> StoredArray | None:
        """The array of its pixels, where there is an index."""
        return None if self.index is None else self.index.content.arrays[BAND_DATA]


@dataclass(frozen=True)
class Regridding:
    """What is asked for: the zone, what becomes of products of others, or of other pixels, and the extent."""

    zone: str = "predominant"
    other_zones: Others = "refuse"
    misaligned: Others = "refuse"
    extent: Extent = "overlap"


@dataclass(frozen=True)
class Choice:
    """The common grid, the sources that come onto it, and by product why it is warped, or left out.

    `zones` has the number of products in each CRS.
    """

    grid: Grid
    sources: Sequence[Source]
    warped: Mapping[str, str]
    left_out: Mapping[str, str]
    zones: Mapping[str, int]


@dataclass(frozen=True)
class Placement:
    """One source, and how it is copied; in place where `layout` is None."""

    source: Source
    layout: Layout | None = None
    warped: bool = False
    reason: str = ""


def choose_grid(sources: Sequence[Source], asked: Regridding) -> Choice:
    """Return the common grid of `sources`: that of the products of one zone whose pixels coincide.

    Raises:
        InvalidReference: products are in other zones or have other pixels and nothing is said of them,
            or they cover nothing in common; the message names them.
        InvalidParameter: no product is in the zone that is asked for.
    """
    zones = _zones(sources)
    counts = Counter(zones.values())
    zone = _zone(counts, asked.zone)
    others = {product: f"is in {crs}" for product, crs in zones.items() if crs != zone}
    said = ", ".join(f"{count:,} in {crs[:40]}" for crs, count in counts.most_common())
    _require_said(
        others,
        asked.other_zones,
        f"The products are in several zones ({said})",
        f"--other-zones leave-out or warp brings all into {zone[:40]}, and --zone chooses another",
    )
    inside = [source for source in sources if zones[source.product] == zone]
    model = usual_grid([source.grid for source in inside])
    off = {
        source.product: f"has pixels of its own ({source.grid.text})"
        for source in inside
        if model.offset(source.grid) is None
    }
    _require_said(
        off,
        asked.misaligned,
        f"The pixels of products do not coincide with those of the others ({model.text})",
        "--misaligned leave-out or warp says what becomes of them",
    )
    kinds = ((others, asked.other_zones), (off, asked.misaligned))
    warped = {name: why for found, what in kinds if what == "warp" for name, why in found.items()}
    left_out = {name: why for found, what in kinds if what == "leave-out" for name, why in found.items()}
    aligned = [source for source in inside if source.product not in off]
    return Choice(
        common_grid([source.grid for source in aligned], asked.extent),
        [source for source in sources if source.product not in left_out],
        warped,
        left_out,
        dict(counts),
    )


def _zones(sources: Sequence[Source]) -> dict[str, str]:
    zones: defaultdict[str, set[str]] = defaultdict(set)
    for source in sources:
        zones[source.product].add(source.grid.crs)
    several = [product for product, found in zones.items() if len(found) > 1]
    if several:
        raise InvalidReference(f"Layers of one product are in several CRS: {some(several, _SHOWN)}.")
    return {product: next(iter(found)) for product, found in zones.items()}


def _zone(counts: Counter[str], asked: str) -> str:
    if asked == "predominant":
        # of zones with as many products the one whose name comes first
        return min(counts, key=lambda crs: (-counts[crs], crs))
    zone = f"EPSG:{asked}" if asked.isdecimal() else asked.upper()
    if zone not in counts:
        there = ", ".join(crs[:40] for crs in counts)
        raise InvalidParameter("zone", f"No product is in {zone[:40]}.", accepted=f"predominant, {there}")
    return zone


def _require_said(others: Mapping[str, str], what: Others, problem: str, mend: str) -> None:
    """Refuse products that are other than the rest, unless it was said what becomes of them."""
    if others and what == "refuse":
        said = [f"{product} {reason}" for product, reason in others.items()]
        raise InvalidReference(f"{problem}: {some(said, _SHOWN)}. {mend}.")


def place_sources(choice: Choice) -> list[Placement]:
    """Return how each source of `choice` comes into the cube.

    Those on the common grid stay where they are; of each layer, the others become copies whose tiles are
    stored alike. Where no copy can be stored as those are (strips), all of the layer is copied.

    Raises:
        InvalidReference: two products have a layer of different types, nodata values, scales or units.
    """
    layers: defaultdict[str, list[Source]] = defaultdict(list)
    for source in choice.sources:
        layers[source.layer].append(source)
    return [each for layer in sorted(layers) for each in _place_layer(layers[layer], choice)]


def _place_layer(sources: Sequence[Source], choice: Choice) -> list[Placement]:
    _require_one_type(sources)
    reasons = {source.product: _reason(source, choice) for source in sources}
    there = [source for source in sources if not reasons[source.product]]
    kept = Counter(_encoding(source) for source in there)
    usual = max(kept, key=lambda encoding: kept[encoding]) if kept else None
    for source in there:
        if _encoding(source) != usual:
            reasons[source.product] = "its tiles are stored otherwise than those of others"
    layout: Layout | None = Layout()
    first = next((source for source in there if _encoding(source) == usual), None)
    if any(reasons.values()) and first is not None and first.stored is not None:
        layout = layout_of(first.stored)
    if layout is None:
        layout = Layout()
        for source in there:
            reasons[source.product] = (
                reasons[source.product]
                or "others of its layer are copied, and no copy can be stored in strips as it is"
            )
    return [
        Placement(source, layout, source.product in choice.warped, reason) if reason else Placement(source)
        for source in sources
        for reason in [reasons[source.product]]
    ]


def _reason(source: Source, choice: Choice) -> str:
    """Return why a source is copied, "" where it is on the common grid and can be read there."""
    if source.product in choice.warped:
        return f"{choice.warped[source.product]}: warped"
    if source.grid != choice.grid:
        offset = choice.grid.offset(source.grid)
        assert offset is not None  # noqa: S101 - others are warped or left out
        return (
            f"its grid of {source.grid.height:,} x {source.grid.width:,} pixels begins {offset[0]:+,} rows "
            f"and {offset[1]:+,} columns from the common one: shifted, not resampled"
        )
    return f"{source.refusal}: copied" if source.index is None else ""


def _encoding(source: Source) -> str:
    assert source.stored is not None  # noqa: S101 - those without an index have a reason
    document = source.stored.document
    return json.dumps([document[key] for key in ("chunks", "dtype", "compressor", "filters")], sort_keys=True)


def _require_one_type(sources: Sequence[Source]) -> None:
    types: defaultdict[str, list[str]] = defaultdict(list)
    for source in sources:
        if source.stored is not None:
            types[_type(source.stored)].append(source.product)
    if len(types) > 1:
        said = "; ".join(f"{said} in {some(products, 3)}" for said, products in types.items())
        raise InvalidReference(
            f"The layer {sources[0].layer!r} is not of one type: {said}. Make a cube of each, or leave the "
            "layer out by naming the others (--variables)."
        )


def _type(stored: StoredArray) -> str:
    document: Mapping[str, Any] = stored.document
    said = [
        f"{str(document['dtype'])[1:]}, nodata {document['fill_value'] if stored.fill_declared else 'none'}"
    ]
    said += [f"{name} {stored.attributes[name]}" for name in _DECODING if name in stored.attributes]
    names = stored.attributes.get("_ARRAY_DIMENSIONS", ())
    return ", ".join([*said, *(["several bands"] if "band" in names else [])])
