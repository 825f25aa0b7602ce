"""OPERA DISP-S1: surface displacement of one frame, a granule for each pair of dates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubegate.archives.cmr import Granule, Query
from cubegate.errors import InvalidParameter

SHORT_NAME = "OPERA_L3_DISP-S1_V1"
VERSION = "1.0"
_NAME = re.compile(
    r"OPERA_L3_DISP-S1_(?P<mode>[A-Z]{2})_F(?P<frame>\d{5})_(?P<polarization>[HV]{2})"
    r"_(?P<reference>\d{8}T\d{6})Z_(?P<secondary>\d{8}T\d{6})Z_v(?P<version>\d+\.\d+)"
    r"_(?P<production>\d{8}T\d{6})Z"
)


@dataclass(frozen=True)
class Product:
    """What the name of a granule says; dates are datetime64[s], UTC."""

    granule: Granule
    frame: int
    polarization: str
    reference: np.datetime64
    secondary: np.datetime64
    version: str
    production: np.datetime64

    @property
    def name(self) -> str:
        """The granule's name."""
        return self.granule.name

    @classmethod
    def of(cls, granule: Granule) -> Product | None:
        """Read the name of `granule`; None where it is of another product."""
        match = _NAME.fullmatch(granule.name)
        if match is None:
            return None
        return cls(
            granule,
            int(match["frame"]),
            match["polarization"],
            _date(match["reference"]),
            _date(match["secondary"]),
            match["version"],
            _date(match["production"]),
        )


@dataclass(frozen=True)
class Wanted:
    """What is asked for: of the secondary dates those from `start` to `end`, both included.

    `frame` None is every frame, `bbox` (west, south, east, north in degrees) those that meet it. `granule` is
    the name of the only one that is asked for, whatever else is.
    """

    frame: int | None = None
    bbox: tuple[float, float, float, float] | None = None
    start: np.datetime64 | None = None
    end: np.datetime64 | None = None
    polarization: str | None = None
    version: str = VERSION
    granule: str | None = None

    def query(self) -> Query:
        """Return the search, whose dates match either date of a pair."""
        if self.granule is not None:
            return [("short_name", SHORT_NAME), ("granule_ur[]", self.granule)]
        asked = [
            ("short_name", SHORT_NAME),
            ("attribute[]", f"float,PRODUCT_VERSION,{self.version}"),
            ("sort_key", "start_date"),
        ]
        if self.frame is not None:
            asked.append(("attribute[]", f"int,FRAME_NUMBER,{self.frame}"))
        if self.bbox is not None:
            asked.append(("bounding_box", ",".join(f"{bound:.10g}" for bound in self.bbox)))
        if self.start is not None or self.end is not None:
            bounds = ["" if each is None else f"{each.astype('M8[s]')}Z" for each in (self.start, self.end)]
            asked.append(("temporal", ",".join(bounds)))
        return asked

    def document(self) -> dict[str, Any]:
        """Return what is asked for as JSON has it; see `of`."""
        dates = {"start": self.start, "end": self.end}
        texts = {name: None if date is None else f"{date.astype('M8[s]')}" for name, date in dates.items()}
        return {
            "frame": self.frame,
            "bbox": None if self.bbox is None else list(self.bbox),
            "polarization": self.polarization,
            "version": self.version,
            "granule": self.granule,
            **texts,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Wanted:
        """Read what `document` returned.

        Raises:
            InvalidParameter: it is no such document.
        """
        try:
            dates = {
                name: None if (text := document[name]) is None else np.datetime64(text, "s")
                for name in ("start", "end")
            }
            box = document["bbox"]
            return cls(
                frame=document["frame"],
                bbox=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                polarization=document["polarization"],
                version=document["version"],
                granule=document["granule"],
                **dates,
            )
        except (KeyError, TypeError, ValueError, IndexError):
            raise InvalidParameter(
                "wanted", "The record of the build does not say what was searched for."
            ) from None

    def refuses(self, product: Product) -> str | None:
        """Return why `product` is not asked for, None where it is."""
        if self.granule is not None:
            return None if product.name == self.granule else "is another granule"
        return self._refuses_kind(product) or self._refuses_date(product)

    def _refuses_kind(self, product: Product) -> str | None:
        if self.frame is not None and product.frame != self.frame:
            return f"is of frame {product.frame}"
        if self.polarization is not None and product.polarization != self.polarization:
            return f"has polarization {product.polarization}"
        if product.version != self.version:
            return f"has version {product.version}"
        return None

    def _refuses_date(self, product: Product) -> str | None:
        if self.start is not None and product.secondary < self.start:
            return "is before the first date"
        if self.end is not None and product.secondary > self.end:
            return "is after the last date"
        return None


@dataclass(frozen=True)
class Choice:
    """The products to stack, by their secondary date, and why each of the others is left out, by name."""

    products: Sequence[Product]
    left_out: dict[str, str]


def choose(granules: Iterable[Granule], wanted: Wanted) -> Choice:
    """Choose from what a search found: one product a frame and secondary date, the one produced last."""
    chosen: dict[tuple[int, np.datetime64], Product] = {}
    left_out: dict[str, str] = {}
    for granule in sorted(granules, key=lambda each: each.name):
        product = Product.of(granule)
        if product is None:
            left_out[granule.name] = "is no DISP-S1 product by its name"
            continue
        reason = wanted.refuses(product)
        if reason is not None:
            left_out[product.name] = reason
            continue
        place = product.frame, product.secondary
        other = chosen.get(place)
        if other is not None and (other.production, other.name) > (product.production, product.name):
            other, product = product, other
        if other is not None:
            left_out[other.name] = f"was produced again as {product.name}"
        chosen[place] = product
    return Choice([chosen[place] for place in sorted(chosen)], left_out)


def _date(text: str) -> np.datetime64:
    date, time = text[:8], text[9:]
    return np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}", "s")


def product_named_in(text: str) -> Product | None:
    """Read the product that an address or a file name names; None where it names none."""
    name = text.rpartition("/")[2].partition("?")[0]
    match = _NAME.match(name)
    return None if match is None else Product.of(Granule(match[0], (text,), {}))
