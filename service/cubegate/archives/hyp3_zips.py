"""Unpacks what a cube needs of the ZIP files of HyP3 products, once, and checks what is there already."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from cubegate.archives.hyp3_names import split_file_name
from cubegate.errors import InvalidReference

_MAX_MEMBERS = 10_000
_MAX_RATIO = 200
_SMALL_NBYTES = 2**28
_STEP = 2**20
_WANTED = (".tif", ".tiff", ".txt", ".xml", ".json")
_MANIFEST = "unpacked.json"


def folder_of(copies: Path, url: str, validator: str | None) -> Path:
    """Return where the members of the ZIP file at `url`, which is known by `validator`, go."""
    return copies / f"zip-{hashlib.sha256(f'{url} {validator}'.encode()).hexdigest()[:16]}"


def unpacked(folder: Path) -> list[Path] | None:
    """Return the files that were unpacked to `folder`, None where they are not all there as they were."""
    try:
        members = json.loads((folder / _MANIFEST).read_text("utf-8"))
        found = [(folder / _safe(str(name)), int(size), int(crc)) for name, size, crc in members]
        whole = all(path.stat().st_size == size and _checksum(path) == crc for path, size, crc in found)
    except (OSError, ValueError, TypeError, InvalidReference):
        # none yet, or what a crash left
        return None
    return [path for path, _, _ in found] if whole else None


def unpack(source: Path, folder: Path, name: str) -> list[Path]:
    """Unpack the GeoTIFFs and documents of a ZIP file of products to `folder`, and return their paths.

    `name` is for messages.

    Raises:
        InvalidReference: it is no ZIP file, is damaged, has names that lead elsewhere, or more than it can
            honestly hold.
        OSError: there is no room, or a file cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(source) as archive:
            members = _members(archive, name, source.stat().st_size)
            _require_room(members, folder, name)
            manifest = []
            for member in members:
                path = folder / _safe(member.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as stored, path.open("xb") as file:
                    shutil.copyfileobj(stored, file, _STEP)
                manifest.append((member.filename, member.file_size, member.CRC))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        shutil.rmtree(folder, ignore_errors=True)
        raise InvalidReference(f"{name} is no ZIP file, or is damaged or encrypted. Get it again.") from None
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, delete=False) as told:
        json.dump(manifest, told)
    Path(told.name).replace(folder / _MANIFEST)
    return [folder / _safe(name) for name, _, _ in manifest]


def _members(archive: zipfile.ZipFile, name: str, nbytes: int) -> list[zipfile.ZipInfo]:
    every = archive.infolist()
    if len(every) > _MAX_MEMBERS:
        raise InvalidReference(f"{name} has {len(every):,} members, and at most {_MAX_MEMBERS:,} are taken.")
    members = [
        member
        for member in every
        if not member.is_dir()
        and member.filename.lower().endswith(_WANTED)
        # _safe comes first: a name that leads elsewhere is an error whatever else it says
        and split_file_name(_safe(member.filename).rpartition("/")[2]) is not None
    ]
    for member in every:
        _safe(member.filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InvalidReference(f"{name} has a symbolic link, and is not unpacked.")
    if len({member.filename for member in members}) < len(members):
        raise InvalidReference(f"{name} has two members of one name, and is not unpacked.")
    total = sum(member.file_size for member in members)
    if total > max(_SMALL_NBYTES, _MAX_RATIO * nbytes):
        raise InvalidReference(
            f"{name} would unpack to {total:,} bytes, over {_MAX_RATIO} times its size, and is not unpacked."
        )
    return members


def _require_room(members: Sequence[zipfile.ZipInfo], folder: Path, name: str) -> None:
    total, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if total > free:
        raise InvalidReference(
            f"{name} unpacks to {total:,} bytes, and {free:,} are free at the output. Make room, "
            "or build elsewhere."
        )


def _safe(name: str) -> str:
    """Return `name` where it stays below the folder that it is unpacked to."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ":" in parts[0] or {"..", "."} & set(parts) or "\0" in name:
        raise InvalidReference(
            f"A ZIP file has the name {name[:80]!r}, which leads elsewhere. It is not unpacked."
        )
    return name


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while data := file.read(_STEP):
            value = zlib.crc32(data, value)
    return value
