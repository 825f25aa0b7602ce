"""Searches a STAC API by pystac-client, which may ask nobody but that API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cubegate.archives.cmr import check_status
from cubegate.chunks.address import shown
from cubegate.errors import (
    ConfigurationError,
    UpstreamError,
    UpstreamMismatch,
    UpstreamUnavailable,
)
from cubegate.index.progress import Progress

if TYPE_CHECKING:
    from pystac_client.stac_api_io import StacApiIO

_DEADLINE = 60.0
_LARGEST_PAGE = 2**26
_MOST_ITEMS = 100_000
_PAGE = 100

JSON = Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """What is asked for: the items of one collection that meet a box and an interval, if these are given."""

    collection: str
    bbox: tuple[float, float, float, float] | None = None
    datetime: str | None = None


@dataclass(frozen=True)
class Found:
    """The items of a search, and the document of their collection; GeoJSON and JSON as the API gave them."""

    items: Sequence[JSON]
    collection: JSON


def search_items(api: str, search: Search, progress: Progress) -> Found:
    """Return what `search` finds at the API `api`, anonymously; blocks.

    Raises:
        ConfigurationError: pystac-client is not installed.
        UpstreamUnavailable: the API cannot be reached, or is not available.
        UpstreamError: it refuses the search, or answers something else than items.
    """
    try:
        from pystac_client import Client  # noqa: PLC0415 - not installed everywhere
        from pystac_client.exceptions import APIError  # noqa: PLC0415 - as above
    except ImportError:
        raise ConfigurationError(
            "the package pystac-client is not installed", mend="Install cubegate[stac]."
        ) from None
    try:
        client = Client.open(api, stac_io=_guarded_io(api))
        collection = client.get_collection(search.collection)
        asked = client.search(
            collections=[search.collection],
            bbox=search.bbox,
            datetime=search.datetime,
            limit=_PAGE,
            max_items=_MOST_ITEMS + 1,
        )
        items: list[JSON] = []
        for item in asked.items_as_dicts():
            items.append(item)
            progress("Searching", len(items), len(items))
    except UpstreamError:
        raise
    except (APIError, KeyError, TypeError, ValueError, AttributeError, NotImplementedError):
        # what it says may hold what the server said
        raise UpstreamMismatch(f"{shown(api)} does not answer as a STAC API does.") from None
    if len(items) > _MOST_ITEMS:
        raise UpstreamMismatch(f"The search finds more than {_MOST_ITEMS:,} items. Ask for less.")
    return Found(items, {} if collection is None else collection.to_dict(transform_hrefs=False))


def _guarded_io(api: str) -> StacApiIO:
    import requests  # noqa: PLC0415 - comes with pystac-client
    from pystac_client.stac_api_io import StacApiIO  # noqa: PLC0415 - not installed everywhere

    origin = urlsplit(api)[:2]

    class OwnOrigin(StacApiIO):
        """Asks the origin of the API alone: its links may lead anywhere."""

        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,
            parameters: dict[str, Any] | None = None,
        ) -> str:
            if urlsplit(href)[:2] != origin:
                raise UpstreamMismatch(f"{shown(api)} links to another server, which is not asked.")
            is_body = method in {"POST", "PUT"}
            try:
                with self.session.request(
                    method or "GET",
                    href,
                    headers=headers,
                    json=parameters if is_body else None,
                    params=None if is_body else parameters,
                    timeout=_DEADLINE,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    check_status(answer.status_code, shown(api))
                    data = b""
                    for part in answer.iter_content(2**20):
                        data += part
                        if len(data) > _LARGEST_PAGE:
                            raise UpstreamMismatch(f"{shown(api)} answers more than {_LARGEST_PAGE:,} bytes.")
            except requests.RequestException:
                raise UpstreamUnavailable(f"{shown(api)} cannot be reached.") from None
            return data.decode("utf-8", "strict")

    io = OwnOrigin(max_retries=3)
    # no proxy and no netrc
    io.session.trust_env = False
    return io


def read_items(path: Path) -> Found:
    """Read items from a file: one item, or a FeatureCollection of them.

    Raises:
        ConfigurationError: it cannot be read, or holds something else.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror})", file=str(path)) from None
    except (ValueError, RecursionError):
        document = None
    found = document if isinstance(document, dict) else {}
    items = found.get("features") if found.get("type") == "FeatureCollection" else [found]
    if not isinstance(items, list) or not all(_is_item(item) for item in items):
        raise ConfigurationError(
            "holds no STAC items", file=str(path), mend="Give an item or a FeatureCollection."
        )
    base = path.resolve().as_uri()
    return Found([{**item, "_base": base} for item in items], {})


def _is_item(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "Feature" and isinstance(item.get("assets"), dict)
