"""What every reader is asked for: points and boxes of one variable, and the right answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from .stack import LEFT, PIXEL, TOP, Stack

VARIABLE = "displacement"
SCATTERED = 100


@dataclass(frozen=True)
class Point:
    """One pixel, by its row and column, at all dates."""

    row: int
    column: int

    @property
    def xy(self) -> tuple[float, float]:
        """The pixel's centre in the CRS of the stack."""
        return LEFT + PIXEL * (self.column + 0.5), TOP - PIXEL * (self.row + 0.5)


@dataclass(frozen=True)
class Box:
    """Rows and columns, the last ones exclusive, at one date or at all."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    date: int | None = None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The outer edges in the CRS of the stack: minx, miny, maxx, maxy."""
        (top, bottom), (left, right) = self.rows, self.columns
        return LEFT + PIXEL * left, TOP - PIXEL * bottom, LEFT + PIXEL * right, TOP - PIXEL * top


# No two of these share a chunk, but p1 and p2, and p3 and p4.
POINTS = {
    "p1": Point(800, 90),
    "p2": Point(803, 94),
    "p3": Point(60, 1100),
    "p4": Point(63, 1104),
}
BOXES = {
    "b1": Box((384, 896), (640, 1152), date=100),
    "b2": Box((128, 384), (128, 384)),
}
LABELS = {
    "open": "first open",
    "p1": "p1, the series of a point",
    "p2": "p2, a point beside it",
    "p3": "p3, a point in another chunk column",
    "b1": "b1, 512 x 512 pixels of one date",
    "b2": "b2, 256 x 256 pixels of all dates",
    "scattered": "100 scattered points",
}


def scattered_points(height: int, width: int) -> list[Point]:
    """Points all over the grid, the same ones in every run."""
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, height, SCATTERED), rng.integers(0, width, SCATTERED)
    return [Point(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def right_answers(stack: Stack) -> Path:
    """A file with the values of every query, read by h5py from the granules; made once a stack."""
    points = [*POINTS.values(), *scattered_points(stack.size.height, stack.size.width)]
    asked = json.dumps([asdict(query) for query in (*points, *BOXES.values())])
    path = stack.directory / f"answers-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.npz"
    marker = stack.directory / "stack.json"
    if path.exists() and path.stat().st_mtime > marker.stat().st_mtime:
        return path
    rows, columns = [point.row for point in points], [point.column for point in points]
    series = np.empty((len(points), stack.size.dates), np.float32)
    boxes: dict[str, list[np.ndarray]] = {name: [] for name in BOXES}
    for date, granule in enumerate(stack.granules):
        with h5py.File(granule) as file:
            layer = file[VARIABLE][:]
        series[:, date] = layer[rows, columns]
        for name, box in BOXES.items():
            if box.date in (None, date):
                boxes[name].append(layer[slice(*box.rows), slice(*box.columns)])
    named = dict(zip(POINTS, series, strict=False))
    stacked = {name: np.stack(layers) for name, layers in boxes.items()}
    np.savez(path, **named, **stacked, scattered=series[len(POINTS) :])
    return path
