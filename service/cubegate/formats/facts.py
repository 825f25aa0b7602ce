"""What a document says about its own origin: the same facts in headers, attributes and titles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cubegate import __version__
from cubegate.formats.fields import Contents, Field
from cubegate.formats.output import Result
from cubegate.formats.times import iso_times

_ORDER = ("title", "dataset", "version", "source")


def software() -> str:
    """The name and version of this server."""
    return f"cubegate {__version__}"


def origin(result: Result) -> dict[str, str]:
    """The provenance of a result, the best known facts first, each on one line."""
    known = {key: result.provenance[key] for key in _ORDER if key in result.provenance}
    return {key: one_line(text) for key, text in {**known, **result.provenance}.items() if str(text).strip()}


def one_line(text: Any) -> str:
    """Fold all white space, line ends included, to single spaces."""
    return " ".join(str(text).split())


def point_facts(result: Result, contents: Contents) -> dict[str, Any]:
    """The pixel centre that a series was read at, as JSON values by their role.

    `x`, `y` in the CRS, `longitude`, `latitude` in degrees, `distance_m` from the asked point in
    metres, and every other coordinate of one value under its own name.
    """
    return _by_role(result, list(contents.scalars.values()), 0)


def points_facts(result: Result, contents: Contents) -> list[dict[str, Any]]:
    """The pixel centres of all points, each as `point_facts` has them."""
    along = [field for field in contents.coordinates.values() if field.dims == ("point",)]
    return [_by_role(result, along, index) for index in range(result.dataset.sizes["point"])]


def _by_role(result: Result, fields: Sequence[Field], index: int) -> dict[str, Any]:
    own = {field.name: scalar_value(field, index) for field in fields}
    roles = {"point": "point", "x": result.x, "y": result.y,
             "longitude": "longitude", "latitude": "latitude", "distance_m": "distance"}  # fmt: skip
    found = {role: own[name] for role, name in roles.items() if name in own}
    return found | {name: value for name, value in own.items() if name not in roles.values()}


def scalar_value(field: Field, index: int = 0) -> Any:
    """One cell of a field as a JSON value: None where it is missing."""
    value = field.values.reshape(-1)[index : index + 1]
    if field.missing(value)[0] or (value.dtype.kind == "f" and not np.isfinite(value[0])):
        return None
    if field.is_time:
        return iso_times(value)[0]
    # The shortest digits of a float32 are those of the grid's author; widened ones are noise.
    return (
        float(str(value[0]))
        if value.dtype.kind == "f"
        else value[0].item()
        if hasattr(value[0], "item")
        else value[0]
    )
