"""Composes the build of a cube of any files."""

from __future__ import annotations

import asyncio
import fnmatch
import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cubegate.archives.building import Part, Plan, read_part, write_cube
from cubegate.archives.files import Joined, Joining, join_files
from cubegate.archives.piece import Piece
from cubegate.chunks.concurrency import run_all
from cubegate.chunks.upstream import Upstreams
from cubegate.conversions.upstreams import opened_upstreams
from cubegate.errors import CubegateError, NotFound, UpstreamError
from cubegate.index.build import HDF5_SUFFIXES
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.settings import Settings

_IN_FLIGHT = 16
_LATER = np.datetime64("NaT", "ns")
_WILD = re.compile(r"[*?\[]")


async def build_files(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    patterns: Sequence[str],
    joining: Joining,
    *,
    group: str,
    leave_out: bool,
    progress: Progress,
) -> Joined:
    """Build the cube of the files that `patterns` name, and say what became of each.

    A pattern is a path, with wildcards or not, or an address, with wildcards or with a slash at its end
    where the upstream can list.

    Raises:
        NotFound: a pattern matches no file.
        InvalidReference, InvalidParameter: files do not fit together; see `join_files`.
        UpstreamError: files cannot be listed.
        OSError: a file cannot be written.
    """
    async with opened_upstreams(settings, environment) as upstreams:
        progress("Listing files", 0, 1)
        urls = sorted({url for pattern in patterns for url in await list_files(pattern, upstreams)})
        parts = [Part(name, url, _LATER, group=group) for name, url in zip(_names(urls), urls, strict=True)]
        return await build_parts(upstreams, plan, parts, joining, leave_out=leave_out, progress=progress)


async def build_parts(
    upstreams: Upstreams,
    plan: Plan,
    parts: Sequence[Part],
    joining: Joining,
    *,
    leave_out: bool,
    progress: Progress,
) -> Joined:
    """Build the cube of `parts`, files or references over them, whose names differ; see `build_files`.

    Raises:
        InvalidReference, InvalidParameter: they do not fit together.
        OSError: a file cannot be written.
    """
    plan.parts.mkdir(parents=True, exist_ok=True)
    read = await run_all(
        (_piece(plan, part, joining.dimension, upstreams) for part in parts),
        in_flight=_IN_FLIGHT,
        report=lambda done, total: progress("Scanning files", done, total),
    )
    pieces = [each for each in read if isinstance(each, Piece)]
    broken = {
        part.name: str(each) for part, each in zip(parts, read, strict=True) if not isinstance(each, Piece)
    }
    progress("Joining", 0, 1)
    joined = await asyncio.to_thread(join_files, pieces, joining, broken, leave_out=leave_out)
    await write_cube(plan, joined.index)
    return joined


async def list_files(pattern: str, upstreams: Upstreams) -> list[str]:
    """Return the addresses of all files that `pattern` names.

    Raises:
        NotFound: there is none.
        UpstreamError: they cannot be listed.
    """
    if "://" not in pattern:
        urls = await asyncio.to_thread(_local, pattern)
    elif wild := _WILD.search(pattern):
        start = pattern[: wild.start()].rpartition("/")[0] + "/"
        urls = [url for url in await upstreams.list(start) if fnmatch.fnmatchcase(url, pattern)]
    elif pattern.endswith("/"):
        urls = [url for url in await upstreams.list(pattern) if url.lower().endswith(HDF5_SUFFIXES)]
    else:
        urls = [pattern]
    if not urls:
        raise NotFound(f"There is no file at {pattern.partition('?')[0]}.")
    return urls


def _local(pattern: str) -> list[str]:
    """Return the addresses of the files that a path names, which may have wildcards or be a folder."""
    folder = Path(pattern)
    if folder.is_dir():
        found = [path for path in folder.rglob("*") if path.name.lower().endswith(HDF5_SUFFIXES)]
    else:
        found = [Path(path) for path in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - of any path
    return [path.resolve().as_uri() for path in found if path.is_file()]


def _names(urls: Sequence[str]) -> list[str]:
    """Return the last parts of `urls`, or all of them where two files have one name."""
    last = [url.rpartition("/")[2] for url in urls]
    return last if len(set(last)) == len(last) else list(urls)


async def _piece(plan: Plan, part: Part, dimension: str, source: Upstreams) -> Piece | CubegateError:
    """Return a file, or what is wrong with it."""
    index = await read_part(plan, part, source, source.check)
    if not isinstance(index, Index):
        return index
    piece = Piece(part.name, index)
    try:
        await piece.read_small(dimension, source)
    except UpstreamError as error:
        return error
    return piece
