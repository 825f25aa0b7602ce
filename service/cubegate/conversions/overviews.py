"""Composes the building of overviews: what of a cube gets some, what that costs, and where they go."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from zarr.abc.store import Store

from cubegate.catalog.collection import CollectionFiles, Configured
from cubegate.catalog.datacube import Datacube
from cubegate.catalog.opening import overviews_url
from cubegate.catalog.overviews_record import (
    OverviewsRecord,
    digest,
    settings_digest,
)
from cubegate.chunks.upstream import Upstreams
from cubegate.conversions.cube import opened_cube
from cubegate.conversions.outputs import open_output
from cubegate.conversions.overview_growth import Earlier, find_earlier, read_record
from cubegate.conversions.overview_plan import Wanted, plan_all, price_of, read_coordinates, require_some
from cubegate.conversions.overview_store import OverviewStore
from cubegate.errors import ConfigurationError, InvalidParameter, UpstreamRefused
from cubegate.index.progress import Progress
from cubegate.rechunk.overview_building import Piece, build, is_held, pieces
from cubegate.rechunk.overview_layout import Pyramid
from cubegate.settings import load_settings
from cubegate.store.bridge import LoopThread


@dataclass(frozen=True, eq=False)
class Place:
    """Where overviews go: `href` is for the collection file, and `url` is the store of the version.

    `opened` opens the store of any version; contacts nobody.
    """

    configured: Configured
    href: str
    url: str
    opened: Callable[[str], Store]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Overviews made ready: nothing of the cube is read, and nothing is written.

    Attributes:
        left_out: why a variable gets none, by path.
        todo: what is to be made; what is there from before is not.
        earlier: what is copied of the overviews of a version that had fewer dates.
        complete: whether there is nothing to do at all.
    """

    place: Place
    cube: Datacube
    pyramids: tuple[Pyramid, ...]
    left_out: dict[str, str]
    store: OverviewStore
    todo: tuple[Piece, ...]
    earlier: Earlier | None
    complete: bool
    price: dict[str, int]

    def write(self, threads: int, progress: Progress) -> int:
        """Make what is to be made; return how many values were written, and read back.

        Raises:
            RechunkFailed: the cube cannot be read, or the overviews cannot be written.
        """
        self.store.write_arrays()
        self.store.write_small()
        if self.earlier is not None:
            self.earlier.copy_to(self.store, progress)
        written = build(self.todo, self.store, threads, progress)
        self.store.finish()
        return written


@contextmanager
def prepared_overviews(wanted: Wanted) -> Iterator[Prepared]:
    """Open the cube and plan its overviews.

    Raises:
        NotFound: there is no such dataset, or it is combined of others.
        InvalidParameter: nothing of it can have overviews, or what is asked for is not there.
        ConfigurationError: the overviews could not be read from where they would be, or are there already.
        UpstreamError: the cube cannot be opened.
    """
    settings = load_settings(wanted.config, os.environ)
    log = logging.getLogger("cubegate.catalog")
    with ExitStack() as closing:
        closing.callback(log.setLevel, log.level)
        # that there are none is known
        log.setLevel(logging.ERROR)
        reading = closing.enter_context(opened_cube(settings, wanted.dataset))
        cube = reading.cube
        files = CollectionFiles(settings.collections, settings.directory).read()
        configured = files[cube.id]
        href, output = _find_place(wanted, configured)
        url = overviews_url(href, configured.file, cube.version)
        _require_readable(url, reading.upstreams)

        def opened(version: str) -> Store:
            return open_output(f"{output}/{version}.zarr", settings, os.environ)

        yield _prepare(wanted, Place(configured, href, url, opened), cube, reading.bridge)


def _prepare(wanted: Wanted, place: Place, cube: Datacube, bridge: LoopThread) -> Prepared:
    pyramids, left_out = plan_all(wanted, cube, bridge)
    coordinates, more = read_coordinates(cube, bridge, pyramids)
    left_out |= more
    pyramids = [pyramid for pyramid in pyramids if pyramid.path not in left_out]
    require_some(wanted, pyramids, left_out)
    variables = {
        pyramid.path: (pyramid.resampling, settings_digest(cube.collection, pyramid.path))
        for pyramid in pyramids
    }
    objects = place.opened(cube.version)
    before = read_record(objects)
    root = digest([cube.version, [_identity(pyramid, variables[pyramid.path][1]) for pyramid in pyramids]])
    same = before is not None and before.root.split(".")[0] == root
    if before is not None and not wanted.replace and not same:
        raise ConfigurationError(
            "there are other overviews of this version already",
            file=place.url,
            mend="Put them out of use with --replace.",
        )
    complete = same and not wanted.replace
    if not cube.immutable:
        # the values may have changed, and the version not: no object is ever written over
        root = before.root if complete and before is not None else f"{root}.{uuid4().hex[:8]}"
    record = OverviewsRecord(cube.version, root, variables)
    store = OverviewStore(objects, record, pyramids, coordinates)
    if complete:
        return Prepared(place, cube, tuple(pyramids), left_out, store, (), None, complete, price_of(()))
    earlier = find_earlier((place.configured, place.opened), cube, store, record, coordinates)
    begun = store.is_begun
    todo = tuple(
        piece
        for piece in pieces(pyramids)
        if not (earlier is not None and earlier.has(piece)) and not (begun and is_held(piece, store))
    )
    return Prepared(place, cube, tuple(pyramids), left_out, store, todo, earlier, complete, price_of(todo))


def _find_place(wanted: Wanted, configured: Configured) -> tuple[str, str]:
    """Return the address to be named in the collection file, and where to write."""
    file = configured.file.resolve()
    given = wanted.output or configured.collection.overviews.href
    if given is None:
        given = str(file.parent / f"{configured.collection.id}.overviews")
    if given.startswith(("http://", "https://")):
        raise InvalidParameter(
            "output", "Overviews cannot be written over HTTP.", accepted="a path or an s3 address as --output"
        )
    if given.startswith("s3://"):
        return given.rstrip("/"), given.rstrip("/")
    if given.startswith("file://"):
        given = given.removeprefix("file://")
    # of the command line, relative to the working directory; of a collection file, to that
    path = Path(given).resolve() if wanted.output else (file.parent / given).resolve()
    inside = path.is_relative_to(file.parent)
    return (str(path.relative_to(file.parent)) if inside else str(path)), str(path)


def _require_readable(url: str, upstreams: Upstreams) -> None:
    try:
        upstreams.check(url)
    except UpstreamRefused:
        raise ConfigurationError(
            "no upstream covers this address, so the server could not read overviews there",
            file=url,
            key="upstreams",
            mend="List a prefix of it, or choose another place with --output.",
        ) from None


def _identity(pyramid: Pyramid, settings: str) -> list[Any]:
    """All that decides where the values of a variable lie, and what they are."""
    positions = [hashlib.sha256(each.astype("<i8").tobytes()).hexdigest() for each in pyramid.lead.values()]
    return [
        pyramid.path, pyramid.resampling, pyramid.levels, pyramid.side, pyramid.dtype.str, settings, positions
    ]  # fmt: skip
