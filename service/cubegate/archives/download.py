"""Reads one whole document of an archive, from a file or over HTTP, of a bounded size."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from cubegate.chunks.address import parse_address, shown
from cubegate.errors import (
    ConfigurationError,
    InvalidParameter,
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)

_DEADLINE = 60.0
_PAUSES = (0.5, 2.0)
_ACCEPTED = "the path of a file, or an http or https URL"


async def read_document(where: str, *, parameter: str, most: int) -> bytes:
    """Return the bytes of the document at `where`: the path of a file, or a file, http or https URL.

    It is read anonymously. Redirects are not followed, and documents beyond `most` bytes not read.

    Raises:
        InvalidParameter: `where` is neither; it names `parameter`.
        ConfigurationError: the file cannot be read.
        UpstreamError: the server cannot be reached, refuses, redirects, or has no such document.
    """
    if "://" not in where:
        return await asyncio.to_thread(_read_file, Path(where), most)
    try:
        address = parse_address(where)
    except UpstreamRefused as error:
        raise InvalidParameter(parameter, str(error), accepted=_ACCEPTED) from None
    if address.scheme == "file":
        return await asyncio.to_thread(_read_file, Path(address.path), most)
    if address.scheme not in {"http", "https"}:
        raise InvalidParameter(
            parameter, f"{shown(where)} is neither a file nor an http address.", accepted=_ACCEPTED
        )
    return await _fetch(address.url, most)


def _read_file(path: Path, most: int) -> bytes:
    if path.exists() and not path.is_file():
        raise ConfigurationError("is not a file", file=str(path))
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror})", file=str(path)) from error
    _check_size(data, str(path), most)
    return data


def _check_size(data: bytes | bytearray, name: str, most: int) -> None:
    if len(data) > most:
        raise UpstreamMismatch(f"{name} has more than {most:,} bytes, and is not read.")


async def _fetch(url: str, most: int) -> bytes:
    for pause in (*_PAUSES, None):
        try:
            return await _attempt(url, most)
        except UpstreamUnavailable:
            if pause is None:
                raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
    raise AssertionError


async def _attempt(url: str, most: int) -> bytes:
    # 0.2 s of import, for those alone who build
    import aiohttp  # noqa: PLC0415

    name = shown(url)
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE), trust_env=False)
    try:
        async with session, session.get(url, allow_redirects=False) as answer:
            _check_status(answer.status, name)
            data = bytearray()
            while part := await answer.content.read(most + 1 - len(data)):
                data += part
            _check_size(data, name, most)
            return bytes(data)
    except TimeoutError:
        raise UpstreamUnavailable(f"{name} did not answer within {_DEADLINE:g} s.") from None
    except (aiohttp.ClientError, OSError):
        raise UpstreamUnavailable(f"{name} cannot be reached.") from None


def _check_status(status: int, name: str) -> None:
    if status == 200:
        return
    if status in {408, 429} or status >= 500:
        raise UpstreamUnavailable(f"{name} is not available (HTTP {status}).")
    if status in {401, 403}:
        raise UpstreamDenied(f"{name} may not be read (HTTP {status}).")
    if status in {404, 410}:
        raise UpstreamObjectMissing(f"There is nothing at {name} (HTTP {status}).")
    if 300 <= status < 400:
        raise UpstreamMismatch(f"{name} has moved (HTTP {status}), and redirects are not followed.")
    raise UpstreamError(f"{name} cannot be read (HTTP {status}).")
