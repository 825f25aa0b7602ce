"""Reader (d): cubegate's own queries over HTTP, on one connection that is there before the first of them.

A time goes from sending the request to having the last byte of the answer. Reading the values out of the CSV or
NetCDF comes after that, and is not timed.
"""

from __future__ import annotations

import csv
import http.client
import io
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import xarray as xr

from .queries import BOXES, POINTS, VARIABLE, Box, Point, scattered_points
from .stack import date_of
from .subject import Measurements, run

_CSV = {"variables": VARIABLE, "f": "csv"}
# Long enough for a column to be kept, which happens after the answer has been sent.
_PAUSE = 1.5


class Gateway:
    """One dataset of a cubegate server, on one connection."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self._path = split.path
        self._connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=600)
        self._connection.connect()
        # an answer of the server itself, so that the connection is known to work
        self.request("GET", "/healthz", below=False)

    def request(
        self, method: str, path: str, body: bytes | None = None, *, below: bool = True, **fields: str
    ) -> bytes:
        """Return the body of an answer; raises on any status but 200."""
        target = self._path + path if below else path
        self._connection.request(method, target, body, fields)
        with self._connection.getresponse() as response:
            content = response.read()
            if response.status != 200:
                raise RuntimeError(f"{method} {target} was answered {response.status}: {content[:500]!r}")
            return content

    def point(self, point: Point) -> bytes:
        """The CSV of one point's series."""
        x, y = point.xy
        return self.request("GET", f"/timeseries?{urlencode({'x': x, 'y': y, **_CSV})}")

    def points(self, points: Sequence[Point]) -> bytes:
        """The CSV of many points' series."""
        rows = [
            "id,x,y",
            *(f"{number},{x},{y}" for number, (x, y) in enumerate(point.xy for point in points)),
        ]
        body = "\n".join(rows).encode()
        fields = {"Content-Type": "text/csv"}
        return self.request("POST", f"/timeseries?{urlencode(_CSV)}", body, **fields)

    def box(self, box: Box) -> bytes:
        """The NetCDF of a box."""
        query = {
            "bbox": ",".join(map(str, box.bounds)),
            "bbox-crs": "native",
            "variables": VARIABLE,
            "f": "netcdf",
        }
        if box.date is not None:
            query["datetime"] = f"{date_of(box.date):%Y-%m-%dT%H:%M:%SZ}"
        return self.request("GET", f"/subset?{urlencode(query)}")


def measure(job: dict[str, Any], measured: Measurements) -> None:
    """Ask the dataset at the URL that the job names for what `queries` lists, in that order."""
    gateway = Gateway(job["url"])
    points = scattered_points(*job["shape"])
    for name in job["queries"]:
        if name == "pause":
            time.sleep(_PAUSE)
            continue
        with measured.timed(name):
            if name == "open":
                content = gateway.request("GET", "/zarr/.zmetadata")
            elif name == "scattered":
                content = gateway.points(points)
            elif name in POINTS:
                content = gateway.point(POINTS[name])
            else:
                content = gateway.box(BOXES[name])
        if name == "scattered":
            measured.values[name] = read_many(content, len(points))
        elif name in POINTS:
            measured.values[name] = read_series(content)
        elif name in BOXES:
            measured.values[name] = read_netcdf(content)


def read_series(content: bytes) -> np.ndarray:
    """The values (time,) of a CSV of one point."""
    return np.array([row[VARIABLE] for row in _rows(content)], dtype=np.float32)


def read_many(content: bytes, count: int) -> np.ndarray:
    """The values (point, time) of a CSV of many points, whose ids are their numbers."""
    series: list[list[str]] = [[] for _ in range(count)]
    for row in _rows(content):
        series[int(row["id"])].append(row[VARIABLE])
    return np.array(series, dtype=np.float32)


def read_netcdf(content: bytes) -> np.ndarray:
    """The values (time, y, x) of a NetCDF file."""
    with xr.open_dataset(io.BytesIO(content), engine="h5netcdf") as dataset:
        return dataset[VARIABLE].to_numpy()


def _rows(content: bytes) -> csv.DictReader[str]:
    lines = content.decode("utf-8").splitlines()
    return csv.DictReader(line for line in lines if not line.startswith("#"))


if __name__ == "__main__":
    run(measure)
