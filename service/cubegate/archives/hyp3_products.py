"""HyP3 products as the files of folders: which belong together, and what each lacks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import numpy as np

from cubegate.archives.hyp3_names import ProductName, path_of_granule, split_file_name, time_of_granule
from cubegate.archives.hyp3_parameters import Values
from cubegate.chunks.address import shown
from cubegate.errors import InvalidReference
from cubegate.index.build import TIFF_SUFFIXES

_SHOWN = 12
# layers on the grid of the product; what is in radar geometry, or a picture, is not
LAYERS: Mapping[str, tuple[str, str]] = {
    "unw_phase": ("unwrapped interferometric phase", "radian"),
    "wrapped_phase": ("wrapped interferometric phase", "radian"),
    "corr": ("interferometric coherence", "1"),
    "amp": ("amplitude", "1"),
    "conncomp": ("connected component of the unwrapped phase", "1"),
    "lv_phi": ("orientation of the look vector, from east, anticlockwise", "radian"),
    "lv_theta": ("elevation of the look vector, from horizontal", "radian"),
    "los_disp": ("displacement along the line of sight", "m"),
    "vert_disp": ("vertical displacement", "m"),
    "dem": ("height", "m"),
    "water_mask": ("land (1) and water (0)", "1"),
    "inc_map": ("local incidence angle", "radian"),
    "inc_map_ell": ("incidence angle on the ellipsoid", "radian"),
    "VV": ("backscatter, VV", "1"),
    "VH": ("backscatter, VH", "1"),
    "HH": ("backscatter, HH", "1"),
    "HV": ("backscatter, HV", "1"),
    "ls_map": ("layover and shadow", "1"),
    "area": ("scattering area", "m2"),
}
_DOCUMENT = re.compile(r"(\.iso|\.stac|[._][a-z0-9_.-]*(card4l|nrb|ard))?\.(xml|json)")
_RESERVED = frozenset({"y", "x", "band", "spatial_ref", "time", "pair"})


@dataclass(frozen=True)
class Product:
    """One product: its name, its GeoTIFFs by layer, its parameter file, and its XML and JSON documents.

    `said` is what these say, once they were read.
    """

    name: ProductName
    tiffs: Mapping[str, str]
    parameters: str | None = None
    documents: tuple[str, ...] = ()
    said: Values = field(default_factory=dict)
    granules: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where its files are, for messages."""
        return shown(next(iter(self.tiffs.values()))).rpartition("/")[0]

    @property
    def reference(self) -> np.datetime64 | None:
        """When the first acquisition of a pair began, datetime64[s]; None without a pair."""
        return None if self.name.reference is None else self._moment(self.name.reference, "reference_granule")

    @property
    def time(self) -> np.datetime64:
        """When the acquisition began, of a pair the second one, datetime64[s]."""
        return self._moment(self.name.time, "secondary_granule")

    @property
    def path(self) -> int | None:
        """The relative orbit, where the product or its job tells it."""
        granules = (str(self.said.get("reference_granule", "")), *self.granules)
        told = (path_of_granule(granule) for granule in granules)
        return self.name.path or next((path for path in told if path), None)

    @property
    def direction(self) -> str | None:
        """ASCENDING or DESCENDING, where the product tells it."""
        said = str(self.said.get("reference_pass_direction", "")).upper()
        heading = self.said.get("heading")
        if not said and isinstance(heading, float):
            # older parameter files have the heading alone, degrees from north
            said = "ASCENDING" if abs((heading + 180) % 360 - 180) < 90 else "DESCENDING"
        return said or self.name.direction

    def _moment(self, named: np.datetime64, granule: str) -> np.datetime64:
        if self.name.exact:
            return named
        # of a burst's dates the name has the day alone
        told = [time_of_granule(each.strip()) for each in str(self.said.get(granule, "")).split(",")]
        moments = [moment for moment in told if moment is not None]
        if not moments:
            return named
        if min(moments).astype("M8[D]") != named.astype("M8[D]"):
            raise InvalidReference(
                f"The parameter file of {self.name.name} is that of another product: it says {min(moments)}Z."
            )
        return min(moments)


def group_files(urls: Iterable[str]) -> tuple[list[Product], dict[str, str]]:
    """Return the products that files make, by name; and folders of GeoTIFFs of no product, and why."""
    layers: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    names: dict[tuple[str, str], ProductName] = {}
    parameters: dict[tuple[str, str], str] = {}
    documents: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    strangers: dict[str, str] = {}
    for url in sorted(urls):
        folder, _, file = url.rpartition("/")
        found = split_file_name(unquote(file))
        if found is None:
            if file.lower().endswith(TIFF_SUFFIXES):
                strangers.setdefault(shown(folder), f"has {unquote(file)[:80]}, which is of no HyP3 product")
            continue
        name, rest = found
        key = (folder, name.name)
        names[key] = name
        layer, _, suffix = rest[1:].rpartition(".")
        if f".{suffix}".lower() in TIFF_SUFFIXES and rest[0] == "_" and layer:
            layers[key][layer] = url
        elif rest == ".txt":
            parameters[key] = url
        elif _is_document(rest):
            documents[key].append(url)
    products = [
        Product(names[key], layers[key], parameters.get(key), tuple(documents[key])) for key in sorted(layers)
    ]
    return products, strangers


def _is_document(rest: str) -> bool:
    # each picture and layer has XML for GIS of its own, which is none
    return _DOCUMENT.fullmatch(rest.lower()) is not None


def without_repeats(products: Sequence[Product]) -> tuple[list[Product], dict[str, str]]:
    """Return `products` with each name once, and where those are that are left out."""
    once: dict[str, Product] = {}
    left_out: dict[str, str] = {}
    for product in products:
        other = once.setdefault(product.name.name, product)
        if other is not product:
            left_out[f"{product.place}/{product.name.name}"] = f"is in {other.place} too"
    return list(once.values()), left_out


def in_order(products: Sequence[Product]) -> list[Product]:
    """Return `products` by time, and those of one time by reference time."""
    return sorted(products, key=lambda each: (each.time, each.reference or each.time, each.name.name))


def require_alike(products: Sequence[Product]) -> None:
    """Check that all are of one kind.

    Raises:
        InvalidReference: they are not; the message names what there is, and of each kind some products.
    """
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for product in products:
        kinds[product.name.alike].append(product.name.name)
    if len(kinds) > 1:
        said = "; ".join(f"{len(names):,} of {kind}: {some(names, 3)}" for kind, names in kinds.items())
        raise InvalidReference(f"The products are not of one kind. {said}. Make a cube of each.")
    pairs: dict[tuple[str, str], str] = {}
    for product in products:
        dates = (str(product.reference), str(product.time))
        other = pairs.setdefault(dates, product.name.name)
        if other != product.name.name:
            said = " and ".join(date for date in dates if date != "None")
            raise InvalidReference(
                f"{other} and {product.name.name} are both of {said}. Give one of them alone."
            )


def choose_layers(
    products: Sequence[Product], asked: Sequence[str], allow_gaps: Collection[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the layers to take, and those that are left out with the reason.

    Raises:
        InvalidReference: a product lacks one that others have, and `allow_gaps` does not name it.
    """
    there = sorted({layer for product in products for layer in product.tiffs})
    wanted = list(asked) or [layer for layer in LAYERS if layer in there]
    for layer in wanted:
        if not layer.isidentifier() or layer in _RESERVED:
            raise InvalidReference(f"A layer cannot be called {layer!r}.")
    lacking = {
        layer: [product.name.name for product in products if layer not in product.tiffs]
        for layer in wanted
        if layer not in allow_gaps or layer not in there
    }
    problems = [
        f"{layer!r} is not in {some(names, _SHOWN)} (of {len(products):,} products)"
        for layer, names in lacking.items()
        if names
    ]
    if problems or not wanted:
        said = "; ".join(problems) or "none has a layer that is known"
        raise InvalidReference(
            f"Layers are missing: {said}. Get these products again, leave a layer out by naming the others "
            "(--variables), or allow gaps of it (--allow-gaps)."
        )
    others = {layer: "is taken only where --variables names it" for layer in there if layer not in wanted}
    return wanted, others


def some(names: Sequence[str], most: int) -> str:
    """Return the first `most` of `names`, and how many more there are."""
    listed = ", ".join(names[:most])
    return f"{listed} and {len(names) - most:,} more" if len(names) > most else listed
