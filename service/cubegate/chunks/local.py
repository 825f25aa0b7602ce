"""Local files below a root directory, read by position in worker threads."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cubegate.chunks.address import Address, AllowList, check_range
from cubegate.chunks.limits import LARGEST_OBJECT
from cubegate.chunks.source import ChunkReference, ObjectState
from cubegate.chunks.validators import changed
from cubegate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)

T = TypeVar("T")

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_ESCAPES = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})


class LocalFiles:
    """An object source over the files below `root`, a `file://` address.

    URLs are percent-decoded, as `Path.as_uri` encodes them. Symbolic links may not lead outside
    the root.
    """

    def __init__(self, root: Address) -> None:
        self._root = root.path
        self._allowed = AllowList([root])

    async def get(self, reference: ChunkReference) -> bytes:
        """Return exactly the bytes of `reference`; see `ChunkSource`."""
        check_range(reference)
        _, address = self._allowed.resolve(reference.url)
        if reference.length == 0:
            return b""
        return await asyncio.to_thread(
            self._opened, address, lambda file, address: _read_exactly(file, address, reference)
        )

    async def stat(self, url: str) -> ObjectState:
        """Return what the file at `url` is known by now: a tag of its size and its time of change."""
        _, address = self._allowed.resolve(url)
        return await asyncio.to_thread(self._opened, address, _state)

    async def list(self, url: str) -> list[str]:
        """Return the URLs of all files below `url`; see `ObjectSource`."""
        _, address = self._allowed.resolve(url)
        return sorted(await asyncio.to_thread(self._files, address, url.rstrip("/")))

    async def aclose(self) -> None:
        """There is nothing to release."""

    def _opened(self, address: Address, use: Callable[[int, Address], T]) -> T:
        try:
            # Without O_NONBLOCK, opening a named pipe would wait for a writer.
            file = os.open(self._real_path(address), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise self._translated(error, address) from None
        try:
            return use(file, address)
        except OSError as error:
            raise self._translated(error, address) from None
        finally:
            os.close(file)

    def _files(self, address: Address, url: str) -> Sequence[str]:
        found = []
        try:
            folder = self._real_path(address)
            for current, folders, files in os.walk(folder, onerror=_raise):
                if any(Path(current, name).is_symlink() for name in folders):
                    raise UpstreamRefused(f"The folders below {address} include symbolic links.")
                relative = os.path.relpath(current, folder)
                below = "" if relative == "." else f"{relative}/"
                found += [f"{url}/{(below + name).translate(_ESCAPES)}" for name in files]
        except OSError as error:
            problem = self._translated(error, address)
            if isinstance(problem, UpstreamObjectMissing):
                return []
            raise problem from None
        return found

    def _real_path(self, address: Address) -> str:
        root = os.path.realpath(self._root)
        path = os.path.realpath(address.path)
        if path != root and not path.startswith(f"{root.rstrip('/')}/"):
            raise UpstreamRefused(f"{address} leads outside its configured root.")
        return path

    def _translated(self, error: OSError, address: Address) -> UpstreamError:
        if error.errno in _ABSENT:
            # An unmounted disk says nothing about its files.
            if Path(self._root).exists():
                return UpstreamObjectMissing(f"{address} does not exist.")
            return UpstreamUnavailable(f"The root of {address} is not there.")
        if isinstance(error, PermissionError):
            return UpstreamDenied(
                f"{address} may not be read by this process.", mend="Let the server's user read it."
            )
        if error.errno == errno.ELOOP:
            return UpstreamRefused(f"{address} is a loop of symbolic links.")
        return UpstreamUnavailable(f"{address} cannot be read.")


def _raise(error: OSError) -> None:
    raise error


def _state(file: int, address: Address) -> ObjectState:
    status = _status(file, address)
    return ObjectState(_tag(status), status.st_size)


def _read_exactly(file: int, address: Address, reference: ChunkReference) -> bytes:
    status = _status(file, address)
    if reference.validator is not None and reference.validator != _tag(status):
        raise changed(address)
    length = status.st_size if reference.length is None else reference.length
    if reference.offset + length > status.st_size:
        raise UpstreamMismatch(f"{address} ends before byte {reference.offset + length}.")
    if reference.length is None and length > LARGEST_OBJECT:
        raise UpstreamMismatch(f"{address} is larger than the {LARGEST_OBJECT} bytes that are read whole.")
    data = os.pread(file, length, reference.offset)
    while len(data) < length:
        more = os.pread(file, length - len(data), reference.offset + len(data))
        if not more:
            raise UpstreamMismatch(f"{address} became shorter while it was read.")
        data += more
    if reference.validator is not None and reference.validator != _tag(os.fstat(file)):
        # written over while it was read
        raise changed(address)
    return data


def _status(file: int, address: Address) -> os.stat_result:
    status = os.fstat(file)
    if stat.S_ISDIR(status.st_mode):
        raise UpstreamObjectMissing(f"{address} is a folder.")
    if not stat.S_ISREG(status.st_mode):
        raise UpstreamMismatch(f"{address} is not a regular file.")
    return status


def _tag(status: os.stat_result) -> str:
    return f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
