"""Loaded points, written in another CRS than that of their grid."""

from __future__ import annotations

from dataclasses import replace

import xarray as xr
from pyproj import CRS

from cubegate.errors import InvalidParameter
from cubegate.query.crs import name_crs, parse_crs, same_crs, transform_points
from cubegate.query.selection import Selection


def placed_in(selection: Selection, crs: CRS | None) -> Selection:
    """Return loaded points with the centres of their pixels in `crs`; None leaves them as they are.

    Raises:
        InvalidParameter: a centre has no place there, or its own CRS is unknown.
    """
    if crs is None:
        return selection
    if not selection.crs:
        raise InvalidParameter(
            "crs", "This dataset has no known coordinate reference system.", accepted="native"
        )
    own = parse_crs(selection.crs)
    if same_crs(own, crs):
        return selection
    dataset = selection.dataset
    x, y = (dataset[name] for name in (selection.x, selection.y))
    there = transform_points(own, crs, x.values, y.values, "crs")
    units = ("degrees_east", "degrees_north") if crs.is_geographic else ("m", "m")
    axes = (
        ("longitude", "latitude")
        if crs.is_geographic
        else ("projection_x_coordinate", "projection_y_coordinate")
    )
    names = _names(dataset, selection, crs)
    placed = dataset.drop_vars([selection.x, selection.y]).assign_coords(
        {
            name: (old.dims, values.reshape(old.shape), {"standard_name": axis, "units": unit})
            for name, old, values, axis, unit in zip(names, (x, y), there, axes, units, strict=True)
        }
    )
    return replace(selection, dataset=placed, x=names[0], y=names[1], crs=name_crs(crs))


def _names(dataset: xr.Dataset, selection: Selection, crs: CRS) -> tuple[str, str]:
    """What x and y are called there: as the CRS has it, where nothing else bears these names."""
    names = ("lon", "lat") if crs.is_geographic else ("x", "y")
    taken = (set(map(str, dataset.variables)) | set(map(str, dataset.dims))) - {selection.x, selection.y}
    return (selection.x, selection.y) if taken & set(names) else names
