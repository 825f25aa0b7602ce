"""Cubes of ITS_LIVE: where each may be read, whether it is what the catalog says, how it is mounted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import shapely
from pyproj import CRS

from cubegate.archives.its_live_catalog import ID_FORM, CatalogCube
from cubegate.catalog.collection import Collection, SourceSettings
from cubegate.catalog.datacube import Datacube
from cubegate.chunks.address import Address, parse_address
from cubegate.chunks.source import ObjectSource
from cubegate.errors import InvalidParameter, InvalidReference, NotFound
from cubegate.query.crs import lonlat, parse_crs, separation, transformer
from cubegate.query.grid import Grid, find_grid
from cubegate.store.bridge import LoopThread
from cubegate.store.sources.zarr import open_zarr_store

VARIABLE = "v"
TIME = "mid_date"
ID = "its-live"
_S3_HOST = re.compile(r"([a-z0-9][a-z0-9.-]*)\.s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com")
_REGIONS = {"its-live-data": "us-west-2"}


@dataclass(frozen=True)
class Member:
    """One cube to mount: its id, the address of its store, and further keys of the collection file."""

    id: str
    url: str
    version: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """What its collection file says."""
        source = {"kind": "zarr", "href": self.url}
        return {"id": self.id, "title": f"ITS_LIVE, {self.id}", "source": source, **self.settings}


def addresses(url: str) -> tuple[str, ...]:
    """Return the addresses that `url` of the catalog can be read at: s3 first, then https.

    Amazon's buckets have both forms; other addresses are what they are.
    """
    address = parse_address(url)
    if address.scheme == "s3":
        key = Address("https", f"{address.authority}.s3.amazonaws.com", address.path)
        return (url, parse_address(str(key)).url)
    host = _S3_HOST.fullmatch(address.authority)
    if host is None:
        return (url,)
    s3 = f"s3://{host[1]}{unquote(address.path)}"
    return tuple(dict.fromkeys((s3, f"https://{address.authority}{address.path}", url)))


def readable_address(url: str, accepts: Callable[[str], bool]) -> str:
    """Return the first of the `addresses` that `accepts` does not turn down.

    Raises:
        NotFound: it turns all down; the message has the line to add to the configuration.
    """
    forms = addresses(url)
    for form in forms:
        if accepts(form):
            return form
    address = parse_address(forms[0])
    options = "{}"
    if address.scheme == "s3":
        region = _REGIONS.get(address.authority)
        options = f"{{anonymous: true{f', region: {region}' if region else ''}}}"
    raise NotFound(
        f"No upstream may read {address}. Add this line to upstreams: "
        f'"{address.scheme}://{address.authority}/": {options}'
    )


async def open_member(cube: CatalogCube, url: str, source: ObjectSource, bridge: LoopThread) -> Member:
    """Open the store of `cube` at `url` and return how it is mounted; of the data, coordinates are read.

    Raises:
        InvalidReference: it is no cube that can be mounted, or not the one that the catalog describes.
        UpstreamError: it cannot be read.
    """
    store = await open_zarr_store(url, source)
    collection = Collection(id=cube.name, source=SourceSettings(kind="zarr", href=url))
    datacube = Datacube(collection, store, bridge)
    dataset = await datacube.dataset()
    if VARIABLE not in dataset.data_vars:
        raise InvalidReference(f"It has no variable {VARIABLE}.")
    code = f"EPSG:{cube.epsg}"
    settings: dict[str, Any] = {}
    try:
        grid = find_grid(dataset, VARIABLE)
        if grid.crs is None:
            settings["crs"] = code
        if grid.time != TIME:
            settings["dimensions"] = {"time": TIME}
        grid = find_grid(
            dataset, VARIABLE, crs=settings.get("crs"), time=settings.get("dimensions", {}).get("time")
        )
    except InvalidParameter as error:
        raise InvalidReference(error.detail) from None
    if grid.time != TIME:
        raise InvalidReference(f"Its variable {VARIABLE} has no {TIME}.")
    _check_place(grid, cube, parse_crs(code))
    return Member(cube.name, url, store.version, settings)


def _check_place(grid: Grid, cube: CatalogCube, crs: CRS) -> None:
    west, south, east, north = grid.bounds
    x, y = np.array([west, east, east, west]), np.array([south, south, north, north])
    known = grid.known_crs("variables")
    apart = separation(
        lonlat(),
        *transformer(known, lonlat()).transform(x, y),
        *transformer(crs, lonlat()).transform(x, y),
    )
    if not (apart < 1).all():
        raise InvalidReference(f"Its projection is {known.name}, and EPSG:{cube.epsg} in the catalog.")
    box = shapely.box(west, south, east, north)
    # cubes of whole cells are a little smaller than their tiles, so that half is enough of a proof
    if not cube.footprint.intersection(box).area > box.area / 2:
        raise InvalidReference(f"Its grid ({grid.extent_text()}) lies beside the outline in the catalog.")


def check_names(cubes: Sequence[CatalogCube], asked: str | None) -> None:
    """Refuse names that cannot stand beside each other, and an id that is none.

    Raises:
        InvalidParameter: two cubes have the same name, or the asked id cannot be used.
    """
    if asked is not None and not ID_FORM.fullmatch(asked):
        raise InvalidParameter(
            "id", f"{asked[:80]!r} is no id.", accepted="letters, digits, dots, hyphens and underscores"
        )
    seen: dict[str, str] = {}
    for cube in cubes:
        if cube.name in seen:
            raise InvalidParameter(
                "catalog",
                f"Two cubes here are called {cube.name}: {seen[cube.name]} and {cube.url}.",
                accepted="a catalog that lists one of them",
            )
        seen[cube.name] = cube.url
    if asked in seen and len(cubes) > 1:
        raise InvalidParameter("id", f"{asked} is the name of one of the cubes.", accepted="another id")


def collections(
    directory: Path, members: Sequence[Member], combined: str
) -> list[tuple[Path, dict[str, Any]]]:
    """Return each collection file with what it says: the members, then the one that combines several.

    The members keep their order.
    """
    files = [(directory / f"{member.id}.yaml", member.document) for member in members]
    if len(members) > 1:
        document = {
            "id": combined,
            "title": f"ITS_LIVE, {len(members):,} cubes",
            "source": {"kind": "combined", "members": [member.id for member in members]},
        }
        files.append((directory / f"{combined}.yaml", document))
    return files
