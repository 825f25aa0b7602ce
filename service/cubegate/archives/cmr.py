"""Granules as NASA's Common Metadata Repository (CMR) lists them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cubegate.errors import UpstreamDenied, UpstreamError, UpstreamMismatch, UpstreamUnavailable

_PAGE = 500
_LARGEST_PAGE = 2**27
_DEADLINE = 60.0
_PAUSES = (0.5, 2.0)
_DATA_TYPES = ("GET DATA", "EXTENDED METADATA", "GET DATA VIA DIRECT ACCESS")

Query = Sequence[tuple[str, str]]
"""CMR search parameters, of which some come more than once."""


@dataclass(frozen=True)
class Granule:
    """One granule: its name (GranuleUR), where its files are, its additional attributes and outline.

    `outline` has the longitude and latitude of each corner of each polygon.
    """

    name: str
    urls: tuple[str, ...]
    attributes: Mapping[str, str]
    outline: tuple[tuple[tuple[float, float], ...], ...] = ()

    def url_with(self, suffix: str, accepts: Callable[[str], bool]) -> str | None:
        """Return the first address that ends with `suffix` and that `accepts` does not turn down."""
        return next((url for url in self.urls if url.endswith(suffix) and accepts(url)), None)


class CMR:
    """Searches the CMR at `url`, page by page, anonymously."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def granules(
        self, query: Query, report: Callable[[int, int], None] = lambda *_: None
    ) -> list[Granule]:
        """Return every granule that `query` finds; `report` is told how many there are so far, and in all.

        Raises:
            UpstreamUnavailable: it cannot be reached, or is not available.
            UpstreamError: it refuses the query, or answers something else than a list of granules.
        """
        found: dict[str, Granule] = {}
        total = 0
        async for page, hits in self._pages(query):
            # pages overlap where granules are added meanwhile
            found |= {granule.name: granule for granule in map(_granule, page)}
            total = max(hits, len(found))
            report(len(found), total)
        if len(found) < total:
            raise UpstreamMismatch(
                f"{self._url} said that there are {total} granules, and listed {len(found)}."
            )
        return list(found.values())

    async def _pages(self, query: Query) -> AsyncIterator[tuple[list[Any], int]]:
        after: str | None = None
        while True:
            document, headers = await self._ask(query, after)
            items, hits = document.get("items"), document.get("hits")
            if not isinstance(items, list) or type(hits) is not int:
                raise UpstreamMismatch(f"{self._url} did not answer a list of granules.")
            yield items, hits
            after = headers.get("CMR-Search-After")
            if not items or after is None:
                return

    async def _ask(self, query: Query, after: str | None) -> tuple[dict[str, Any], Mapping[str, str]]:
        for pause in (*_PAUSES, None):
            try:
                return await self._attempt(query, after)
            except UpstreamUnavailable:
                if pause is None:
                    raise
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        raise AssertionError

    async def _attempt(self, query: Query, after: str | None) -> tuple[dict[str, Any], Mapping[str, str]]:
        # 0.2 s of import, for those alone who build
        import aiohttp  # noqa: PLC0415

        timeout = aiohttp.ClientTimeout(total=_DEADLINE)
        headers = {"Accept": "application/vnd.nasa.cmr.umm_results+json", "Client-Id": "cubegate"}
        if after is not None:
            headers["CMR-Search-After"] = after
        session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        try:
            async with (
                session,
                session.get(
                    f"{self._url}/search/granules.umm_json",
                    params=[*query, ("page_size", str(_PAGE))],
                    headers=headers,
                    allow_redirects=False,
                ) as answer,
            ):
                check_status(answer.status, self._url)
                body = await answer.content.read(_LARGEST_PAGE)
                while not answer.content.at_eof() and len(body) < _LARGEST_PAGE:
                    body += await answer.content.read(_LARGEST_PAGE - len(body))
                return _document(body, self._url), dict(answer.headers)
        except TimeoutError:
            raise UpstreamUnavailable(f"{self._url} did not answer within {_DEADLINE:g} s.") from None
        except (aiohttp.ClientError, OSError):
            raise UpstreamUnavailable(f"{self._url} cannot be reached.") from None


def check_status(status: int, url: str) -> None:
    """Accept what a search at `url` was answered with.

    Raises:
        UpstreamUnavailable: it is not available.
        UpstreamError: it refuses the search.
    """
    if status == 200:
        return
    if status in {408, 429} or status >= 500:
        raise UpstreamUnavailable(f"{url} is not available (HTTP {status}).")
    if status in {401, 403}:
        raise UpstreamDenied(f"{url} refuses the search (HTTP {status}).")
    raise UpstreamError(f"{url} does not take the search (HTTP {status}).")


def _document(body: bytes, url: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UpstreamMismatch(f"{url} did not answer JSON, or not all of it.")
    return document


def _granule(item: Any) -> Granule:
    try:
        umm = item["umm"]
        attributes = {
            entry["Name"]: str(entry["Values"][0])
            for entry in umm.get("AdditionalAttributes", ())
            if entry.get("Values")
        }
        urls = [entry["URL"] for entry in umm.get("RelatedUrls", ()) if entry.get("Type") in _DATA_TYPES]
        return Granule(str(umm["GranuleUR"]), tuple(map(str, urls)), attributes, _outline(umm))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise UpstreamMismatch("The search answered a granule of another shape than UMM-G.") from None


def _outline(umm: Mapping[str, Any]) -> tuple[tuple[tuple[float, float], ...], ...]:
    geometry = umm.get("SpatialExtent", {}).get("HorizontalSpatialDomain", {}).get("Geometry", {})
    polygons = [
        tuple((float(p["Longitude"]), float(p["Latitude"])) for p in each["Boundary"]["Points"])
        for each in geometry.get("GPolygons", ())
    ]
    for box in geometry.get("BoundingRectangles", ()):
        west, east = float(box["WestBoundingCoordinate"]), float(box["EastBoundingCoordinate"])
        south, north = float(box["SouthBoundingCoordinate"]), float(box["NorthBoundingCoordinate"])
        polygons.append(((west, south), (east, south), (east, north), (west, north), (west, south)))
    return tuple(polygons)
