"""The directory of a spool, locked while its process lives; those of killed processes are removed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - a system without file locks
    fcntl = None  # type: ignore[assignment]

PREFIX = "cubegate-spool-"
LOCK = "lock"
# a directory without a lock is being made, or is of a version that locked nothing
_UNLOCKED_AGE = 3600.0


class SpoolDirectory:
    """A directory below `TMPDIR` for this process alone, deleted by `close` or by the next process."""

    def __init__(self) -> None:
        _remove_abandoned(tempfile.gettempdir())
        self._directory = tempfile.TemporaryDirectory(prefix=PREFIX)
        self.path = Path(self._directory.name)
        self._unlock = weakref.finalize(self, os.close, _lock(self.path))

    def close(self) -> None:
        """Delete it with all that is in it."""
        self._directory.cleanup()
        self._unlock()


def _lock(directory: Path) -> int:
    made = directory / f"{LOCK}-made"
    descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if fcntl is not None:
        # where the file system has no locks, nobody else gets this one either
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # under its name it has been locked from the first
        made.rename(directory / LOCK)
    return descriptor


def _remove_abandoned(parent: str) -> None:
    """Remove the spools of this user below `parent` whose lock nobody holds."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        about = os.fstat(directory)
        if about.st_uid != os.getuid():
            return
        try:
            lock = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        except FileNotFoundError:
            if time.time() - about.st_mtime > _UNLOCKED_AGE:
                shutil.rmtree(path, ignore_errors=True)
            return
        try:
            if stat.S_ISREG(os.fstat(lock).st_mode):
                # raises where it is held
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
    finally:
        os.close(directory)
