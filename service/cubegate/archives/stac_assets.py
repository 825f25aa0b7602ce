"""Which assets of STAC items make a cube: what they are, when they are of, and where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import numpy as np

from cubegate.chunks.address import shown
from cubegate.errors import InvalidParameter, InvalidReference, NotFound
from cubegate.query.nanoseconds import moment

Kind = Literal["kerchunk", "zarr", "file", "geotiff"]

# the first of these that all items have is taken
PREFERENCE: tuple[Kind, ...] = ("kerchunk", "zarr", "file", "geotiff")
_SUFFIXES: Mapping[Kind, tuple[str, ...]] = {
    "kerchunk": (".json", ".json.gz", ".json.zst", ".parq", ".parquet", ".dmrpp"),
    "zarr": (".zarr",),
    "file": (".nc", ".nc4", ".h5", ".hdf5", ".he5"),
    "geotiff": (".tif", ".tiff"),
}
_MEDIA_TYPES: Mapping[Kind, tuple[str, ...]] = {
    "zarr": ("application/vnd+zarr", "application/vnd.zarr", "application/x-zarr", "application/zarr"),
    "file": (
        "application/x-netcdf", "application/netcdf", "application/vnd.netcdf", "application/x-hdf5",
        "application/x-hdf", "application/x-netcdf4",
    ),
    "geotiff": ("image/tiff", "image/vnd.stac.geotiff"),
}  # fmt: skip
_NO_DATA_ROLES = frozenset({"thumbnail", "overview", "metadata", "visual"})
_SHOWN = 5

JSON = Mapping[str, Any]


@dataclass(frozen=True)
class Asset:
    """One asset of an item: its key, kind and address, and the item's time, datetime64[ns] in UTC."""

    item: str
    key: str
    kind: Kind
    url: str
    time: np.datetime64 | None
    cube: JSON


def choose_assets(
    items: Sequence[JSON],
    keys: Sequence[str],
    accepts: Callable[[str], bool],
    kinds: Sequence[Kind] = PREFERENCE,
) -> list[Asset]:
    """Return the assets of `items` called `keys`, or those of the first of `kinds` that all items have.

    Of the addresses of an asset the first is taken that `accepts` does not turn down.

    Raises:
        NotFound: there are no items, or no asset that can be part of a cube.
        InvalidParameter: an item lacks one of `keys`.
        InvalidReference: an item is malformed, or no address of an asset may be read.
    """
    if not items:
        raise NotFound("The search found no item, so there is nothing to build.")
    found = [_assets(item) for item in items]
    if keys:
        return [_reachable(_called(assets, key), accepts) for assets in found for key in keys]
    for kind in kinds:
        chosen = [[each for each in assets if each[0].kind == kind and each[2]] for assets in found]
        if all(chosen):
            return [_reachable(each, accepts) for assets in chosen for each in assets]
    counted = Counter(asset.key for assets in found for asset, _, _ in assets)
    listed = ", ".join(f"{key} ({count} of {len(items)})" for key, count in counted.most_common(_SHOWN))
    raise NotFound(
        f"No kind of asset that can be read is in every item. Name some: --asset {listed or 'KEY'}."
    )


Candidate = tuple[Asset, list[str], bool]


def _assets(item: JSON) -> list[Candidate]:
    """The assets of one item that can be part of a cube, all their addresses, and whether they hold data."""
    try:
        name = str(item["id"])
        time = _time_of(item.get("properties") or {})
        assets = [_asset(name, key, asset, time, item) for key, asset in item["assets"].items()]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InvalidReference("The search answered something that is no STAC item.") from None
    return [each for each in assets if each is not None]


def _asset(name: str, key: str, asset: JSON, time: np.datetime64 | None, item: JSON) -> Candidate | None:
    base = str(item.get("_base") or _self_of(item) or "")
    alternates = [each.get("href") for each in (asset.get("alternate") or {}).values()]
    urls = [urljoin(base, str(href)) for href in (asset["href"], *alternates) if href]
    kind = _kind_of(str(asset.get("type") or ""), urls[0])
    if kind is None:
        return None
    roles = frozenset(asset.get("roles") or ())
    cube = asset if "cube:dimensions" in asset else (item.get("properties") or {})
    is_data = "data" in roles or not roles & _NO_DATA_ROLES
    return Asset(name, str(key), kind, urls[0], time, cube), urls, is_data


def _self_of(item: JSON) -> str | None:
    return next((str(link["href"]) for link in item.get("links") or () if link.get("rel") == "self"), None)


def _kind_of(media_type: str, url: str) -> Kind | None:
    path = urlsplit(url).path.rstrip("/").lower()
    said = media_type.partition(";")[0].strip().lower()
    if path.endswith((".zarr.json", ".zarr.json.gz")) or "kerchunk" in media_type.lower():
        return "kerchunk"
    for kind, media_types in _MEDIA_TYPES.items():
        if said in media_types:
            return kind
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.endswith(suffixes)), None)


def _called(assets: Sequence[Candidate], key: str) -> Candidate:
    for each in assets:
        if each[0].key == key:
            return each
    known = ", ".join(asset.key for asset, _, _ in assets)
    raise InvalidParameter("asset", f"An item has no asset {key!r} that can be read.", accepted=known)


def _reachable(candidate: Candidate, accepts: Callable[[str], bool]) -> Asset:
    asset, urls, _ = candidate
    for url in urls:
        if accepts(url):
            return Asset(asset.item, asset.key, asset.kind, url, asset.time, asset.cube)
    listed = ", ".join(map(shown, urls[:_SHOWN]))
    raise InvalidReference(f"No upstream may read {asset.key} of {asset.item}. List one of: {listed}")


def _time_of(properties: JSON) -> np.datetime64 | None:
    said = properties.get("datetime") or properties.get("start_datetime")
    if said is None:
        return None
    read = datetime.fromisoformat(str(said))
    return moment(read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else read)


def collection_settings(cubes: Iterator[JSON]) -> dict[str, Any]:
    """Return what the datacube extension says of the grid, as keys of a collection file.

    `cubes` are documents that may have `cube:dimensions`, the closest first: names of the x, y and time
    dimensions, and the CRS where it is given by its EPSG code or as WKT.
    """
    for cube in cubes:
        dimensions = cube.get("cube:dimensions")
        if isinstance(dimensions, Mapping) and dimensions:
            return _settings(dimensions)
    return {}


def _settings(dimensions: JSON) -> dict[str, Any]:
    names: dict[str, str] = {}
    crs: str | None = None
    for name, dimension in dimensions.items():
        if not isinstance(dimension, Mapping):
            continue
        axis = dimension.get("axis")
        if dimension.get("type") == "spatial" and axis in {"x", "y"}:
            names.setdefault(str(axis), str(name))
            system = dimension.get("reference_system")
            if isinstance(system, int) and not isinstance(system, bool):
                crs = f"EPSG:{system}"
            elif isinstance(system, str) and system:
                crs = system
        elif dimension.get("type") == "temporal":
            names.setdefault("time", str(name))
    found: dict[str, Any] = {"dimensions": names} if names else {}
    return found | ({"crs": crs} if crs is not None else {})
