"""A netCDF-4 file to write a cube to."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubegate.errors import NotRepresentable
from cubegate.index.metadata import ArrayMetadata, Hierarchy
from cubegate.rechunk.layout import Layout, Region


class NetCDFTarget:
    """The arrays of `hierarchy` in the file at `path`, cut as `layouts` say.

    Raises:
        NotRepresentable: an array has no form in netCDF; the message says why.
    """

    def __init__(self, path: Path, hierarchy: Hierarchy, layouts: Mapping[str, Layout]) -> None:
        # 0.1 s of import, for those alone who write a file
        import h5netcdf  # noqa: PLC0415
        import h5py  # noqa: PLC0415

        for array in hierarchy.arrays.values():
            _check(array)
        self._hierarchy, self._layouts = hierarchy, layouts
        self._file = h5netcdf.File(path, "w")
        self._text = h5py.string_dtype()
        # HDF5 does one thing at a time
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the groups, dimensions and variables."""
        for path, group in self._hierarchy.groups.items():
            made = self._file.create_group(path) if path else self._file
            _set_attributes(made, group.attributes)
            arrays = list(self._hierarchy.arrays_in(path))
            made.dimensions = {
                name: size
                for array in arrays
                for name, size in zip(array.dimension_names or (), array.shape, strict=True)
            }
            for array in arrays:
                self._create(made, array)

    def finish(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def read(self, path: str, region: Region) -> NDArray[Any]:
        """Return the values of one region."""
        with self._lock:
            return np.asarray(self._file[path][region])

    def write(self, path: str, region: Region, values: NDArray[Any]) -> None:
        """Write one region."""
        with self._lock:
            self._file[path][region] = values

    def _create(self, group: Any, array: ArrayMetadata) -> None:
        options: dict[str, Any] = {}
        if array.shape and not array.dtype.hasobject:
            options = {"chunks": self._layouts[array.path].chunks, "shuffle": True}
            options |= {"compression": "gzip", "compression_opts": 4}
        made = group.create_variable(
            array.name,
            array.dimension_names or (),
            self._text if array.dtype.hasobject else array.dtype,
            fillvalue=array.declared_fill,
            **options,
        )
        _set_attributes(made, array.attributes)


def _check(array: ArrayMetadata) -> None:
    if array.dimension_names is None and array.shape:
        raise NotRepresentable(f"Array {array.path!r} names no dimensions, so it has no form in netCDF.")
    if array.dtype.kind not in "iuf" and not array.dtype.hasobject:
        raise NotRepresentable(f"Array {array.path!r} has no form in netCDF: there is no type {array.dtype}.")


def _set_attributes(made: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if value is None or isinstance(value, dict):
            continue
        made.attrs[name] = np.asarray(value) if isinstance(value, list) and value else value
