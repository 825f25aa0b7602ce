"""What a store of overviews says of itself: of which version of a cube they are, and how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cubegate.catalog.collection import Collection

ATTRIBUTE = "cubegate_overviews"
# another number where the same cube would be given other values or another layout
_FORM = 1


@dataclass(frozen=True)
class OverviewsRecord:
    """The record in the root attributes of a store of overviews.

    Attributes:
        version: of the cube that they were made of.
        root: the group that holds them; the groups of the cube are below it.
        variables: by path in the cube, how it was resampled, and the digest of its settings.
    """

    version: str
    root: str
    variables: Mapping[str, tuple[str, str]]

    def attributes(self) -> dict[str, Any]:
        """Return the record as attributes."""
        variables = {
            path: {"resampling": resampling, "settings": settings}
            for path, (resampling, settings) in sorted(self.variables.items())
        }
        return {
            ATTRIBUTE: {"form": _FORM, "version": self.version, "root": self.root, "variables": variables}
        }


def read_overviews_record(attributes: Mapping[str, Any]) -> OverviewsRecord | None:
    """Return the record that root attributes hold; None where there is none, or one of another form."""
    try:
        record = attributes[ATTRIBUTE]
        if record["form"] != _FORM:
            return None
        variables = {
            str(path): (str(each["resampling"]), str(each["settings"]))
            for path, each in record["variables"].items()
        }
        return OverviewsRecord(str(record["version"]), str(record["root"]), variables)
    except (KeyError, TypeError, AttributeError):
        return None


def settings_digest(collection: Collection, path: str) -> str:
    """Hash what a collection file says that decides the values and the grid of a variable."""
    derived = {name.strip("/"): settings for name, settings in collection.derived.items()}
    said = [
        collection.crs,
        collection.dimensions.model_dump(mode="json"),
        # what is derived may be derived of others
        {name: each.model_dump(mode="json") for name, each in derived.items()} if path in derived else None,
    ]
    return digest(said)


def digest(document: Any) -> str:
    """Hash a JSON document to 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps([_FORM, document], sort_keys=True).encode()).hexdigest()[:12]
