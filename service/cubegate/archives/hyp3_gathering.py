"""Gathers HyP3 products from folders, prefixes and ZIP files, and reads what they say of themselves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cubegate.archives.hyp3_names import split_file_name
from cubegate.archives.hyp3_parameters import MAX_NBYTES, read_card4l, read_parameters
from cubegate.archives.hyp3_products import Product, group_files, without_repeats
from cubegate.archives.hyp3_zips import folder_of, unpack, unpacked
from cubegate.chunks.address import shown
from cubegate.chunks.concurrency import run_all
from cubegate.chunks.source import ChunkReference, ObjectSource
from cubegate.errors import (
    CubegateError,
    InvalidReference,
    UpstreamDenied,
    UpstreamMismatch,
    UpstreamObjectMissing,
)
from cubegate.index.progress import Progress

_IN_FLIGHT = 64
_RANGE_NBYTES = 2**24
_RANGES = 8
_SHOWN = 20


def refuse(what: str, problems: Mapping[str, str]) -> None:
    """Raise `InvalidReference` where there are problems; the message names each, and says why.

    Raises:
        InvalidReference: there is a problem.
    """
    if problems:
        said = [f"{name}: {problem.rstrip('.')}" for name, problem in problems.items()]
        more = [f"and {len(said) - _SHOWN:,} more"] if len(said) > _SHOWN else []
        raise InvalidReference(
            f"{what}: {'; '.join([*said[:_SHOWN], *more])}. Mend or leave out these, and run the command "
            "again: what could be read is kept."
        )


async def gather_products(
    places: Sequence[str],
    source: ObjectSource,
    copies: Path,
    *,
    in_place: Sequence[str] = (),
    progress: Progress,
) -> tuple[list[Product], dict[str, str]]:
    """Return the products below `places`, and those that are left out with the reason.

    A place is the address of a ZIP file, or a folder or prefix with products and ZIP files of them below.
    What is needed of ZIP files is unpacked below `copies`, once, unless the same listing has their files.
    Layers called as `in_place` says are taken from beside a ZIP file on a server, where HyP3 has them
    until a job expires.

    Raises:
        InvalidReference: a place has no product, or something else than products; the message names it.
        UpstreamError: a place cannot be listed.
        OSError: a file cannot be written.
    """
    files: list[str] = []
    zips: dict[str, None] = {}
    problems: dict[str, str] = {}
    for number, place in enumerate(places):
        progress("Listing", number, len(places))
        if _is_zip(place):
            zips[place] = None
            continue
        # what an earlier build made is nothing to build of
        below = [url for url in await source.list(place) if not url.startswith(f"{copies.as_uri()}/")]
        plain = [url for url in below if not _is_zip(url)]
        there = _zips_of(plain)
        zips.update(dict.fromkeys(url for url in below if _is_zip(url) and url not in there))
        files += plain
        if not below:
            problems[shown(place)] = "has no files, or is not there"
    for number, url in enumerate(zips):
        progress("Unpacking ZIP files", number, len(zips))
        try:
            found = await files_beside(url, in_place, source) if in_place else []
            found = found or [path.as_uri() for path in await _unpacked(url, source, copies)]
        except CubegateError as error:
            problems[shown(url)] = str(error)
            continue
        files += found
        if not found:
            problems[shown(url)] = "has no file of a HyP3 product"
    products, strangers = group_files(dict.fromkeys(files))
    problems |= strangers
    if not products and not problems:
        problems = {shown(place): "has no GeoTIFF of a HyP3 product" for place in places}
    refuse("Not all of this is HyP3 products that can be read", problems)
    return without_repeats(products)


def _zips_of(files: Sequence[str]) -> set[str]:
    """Return where the ZIP files of the complete products among `files` lie, if beside them."""
    products, _ = group_files(files)
    return {
        f"{next(iter(each.tiffs.values())).rpartition('/')[0]}/{each.name.name}.zip"
        for each in products
        if each.parameters is not None or not each.name.is_pair
    }


def _is_zip(url: str) -> bool:
    return urlsplit(url).path.lower().endswith(".zip")


async def files_beside(url: str, layers: Sequence[str], source: ObjectSource) -> list[str]:
    """Return the GeoTIFFs of `layers`, and the parameter file, that lie beside a ZIP file on a server.

    None where there are no GeoTIFFs, or where a pair has no parameter file.

    Raises:
        UpstreamError: the server cannot be asked.
    """
    base = url[: -len(".zip")]
    product = split_file_name(unquote(base.rpartition("/")[2]))
    if product is None or product[1] or local_path(url) is not None:
        return []

    async def is_there(address: str) -> bool:
        try:
            await source.stat(address)
        except (UpstreamObjectMissing, UpstreamDenied):
            # who may not list a bucket is refused what it has not
            return False
        return True

    asked = [f"{base}.txt", *(f"{base}_{layer}.tif" for layer in layers)]
    there = await run_all(map(is_there, asked), in_flight=_IN_FLIGHT)
    told, *tiffs = there
    if not any(tiffs) or (product[0].is_pair and not told):
        return []
    return [address for address, found in zip(asked, there, strict=True) if found]


async def _unpacked(url: str, source: ObjectSource, copies: Path) -> list[Path]:
    state = await source.stat(url)
    folder = folder_of(copies, url, state.validator)
    found = await asyncio.to_thread(unpacked, folder)
    if found is not None:
        return found
    local = local_path(url)
    if local is not None:
        return await asyncio.to_thread(unpack, local, folder, shown(url))
    fetched = await fetch(url, source, copies)
    try:
        return await asyncio.to_thread(unpack, fetched, folder, shown(url))
    finally:
        await asyncio.to_thread(shutil.rmtree, fetched.parent, ignore_errors=True)


def local_path(url: str) -> Path | None:
    """Return the path of a `file://` address, None for others."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


async def fetch(url: str, source: ObjectSource, copies: Path) -> Path:
    """Return a copy of a whole object, however large, below `copies`, which keeps it.

    Raises:
        UpstreamError: it cannot be read, does not say its size, or changes meanwhile.
        OSError: it cannot be written.
    """
    state = await source.stat(url)
    if state.nbytes is None:
        raise UpstreamMismatch(f"{shown(url)} does not say how large it is.")
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    digest = hashlib.sha256(f"{url} {state.validator}".encode()).hexdigest()[:12]
    path = copies / f"fetched-{digest}" / name
    if await asyncio.to_thread(path.exists):
        return path
    descriptor, made = await asyncio.to_thread(_begin, path.parent)
    try:
        starts = range(0, state.nbytes, _RANGE_NBYTES)

        async def read(start: int) -> None:
            length = min(_RANGE_NBYTES, (state.nbytes or 0) - start)
            data = await source.get(ChunkReference(url, start, length, state.validator))
            await asyncio.to_thread(os.pwrite, descriptor, data, start)

        await run_all(map(read, starts), in_flight=_RANGES)
        await asyncio.to_thread(made.replace, path)
    finally:
        os.close(descriptor)
        await asyncio.to_thread(made.unlink, missing_ok=True)
    return path


def _begin(folder: Path) -> tuple[int, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder)
    return descriptor, Path(name)


async def read_documents(
    products: Sequence[Product], source: ObjectSource, *, progress: Progress
) -> list[Product]:
    """Return `products` with what their parameter files and CARD4L documents say.

    Raises:
        InvalidReference: one cannot be read, or a pair has no parameter file; the message names each.
    """

    async def read(product: Product) -> Product | CubegateError:
        try:
            return await _with_documents(product, source)
        except CubegateError as error:
            return error

    found = await run_all(
        map(read, products),
        in_flight=_IN_FLIGHT,
        report=lambda done, total: progress("Reading parameter files", done, total),
    )
    named = zip(products, found, strict=True)
    refuse(
        "What describes products cannot be read",
        {product.name.name: str(each) for product, each in named if isinstance(each, CubegateError)},
    )
    return [each for each in found if isinstance(each, Product)]


async def _with_documents(product: Product, source: ObjectSource) -> Product:
    if product.name.is_pair and product.parameters is None:
        raise InvalidReference(f"its parameter file {product.name.name}.txt is not beside its GeoTIFFs")
    said: dict[str, float | str] = {}
    for url in product.documents:
        said |= read_card4l(await _small(url, source), unquote(url.rpartition("/")[2]))
    if product.parameters is not None:
        said |= read_parameters(
            await _small(product.parameters, source), unquote(product.parameters.rpartition("/")[2])
        )
    complete = replace(product, said=said)
    # both look whether the file is of this product
    _ = complete.time, complete.reference
    return complete


async def _small(url: str, source: ObjectSource) -> bytes:
    state = await source.stat(url)
    if state.nbytes is None or state.nbytes > MAX_NBYTES:
        raise InvalidReference(f"{shown(url)} has over {MAX_NBYTES:,} bytes, or does not say how many")
    return await source.get(ChunkReference(url))
