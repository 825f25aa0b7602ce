"""NetCDF: a CF-1.8 netCDF-4 file with exactly the decoded values, packed nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from cubegate.errors import NotAcceptable
from cubegate.formats.cf import cf_dataset
from cubegate.formats.output import Result, Shape
from cubegate.formats.spool import SpooledDocument


class NetCDFFormat:
    """CF-1.8 in netCDF-4; a series of points is a discrete sampling geometry.

    The option `compress` (0 to 9) deflates the variables after a shuffle.
    """

    name = "netcdf"
    media_type = "application/x-netcdf"
    extension = "nc"
    shapes: frozenset[Shape] = frozenset({"series", "points", "cube"})

    def write(self, result: Result) -> Iterator[bytes]:
        """Return the pieces of the document; see `OutputFormat.write`."""
        try:
            import h5netcdf  # noqa: F401, PLC0415 - heavy, and optional
        except ImportError as error:
            raise NotAcceptable(
                "NetCDF is not installed on this server: its operator may add the extra cubegate[formats]."
            ) from error
        dataset = cf_dataset(result)
        for variable in dataset.variables.values():
            variable.encoding.update(_compression(variable, int(result.options.get("compress") or 0)))

        def build(path: Path) -> None:
            dataset.to_netcdf(path, engine="h5netcdf", format="NETCDF4")

        return SpooledDocument(build, ".nc")


def _compression(variable: xr.Variable, level: int) -> dict[str, Any]:
    if not level or not variable.ndim or variable.dtype.kind not in "biuf" or not variable.size:
        return {}
    return {"zlib": True, "complevel": level, "shuffle": True}
