"""What a browser shows, pixel by pixel, beside GDAL's warp of the granules."""

import io
import time

import matplotlib as mpl
import matplotlib.image as mpl_image
import numpy as np
from pyproj import Transformer
from tests.clients.places import COLOURS, COLUMNS, ROWS

# of a cell: nearer to a border than this, a pixel may show the cell on either side
NEAR = 0.01
# of the width of the world in EPSG:3857, in metres
HALF = 20037508.342789244
LONGEST = 30


def colours_of(colormap):
    """The colours of the numbers 0 to 254 by matplotlib: (255, 3) of 0 to 255."""
    return mpl.colormaps[colormap]((np.arange(COLOURS) + 0.5) / COLOURS, bytes=True)[:, :3].astype(int)


def screenshot(page):
    """What is seen: (height, width, 3) of 0 to 255."""
    return (mpl_image.imread(io.BytesIO(page.picture()))[..., :3] * 255).round().astype(int)


def settled(page, right):
    """Look until `right(picture)`, since what is loaded is drawn a little later; returns the last picture."""
    deadline = time.monotonic() + LONGEST
    while not right(seen := screenshot(page)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


class Expected:
    """GDAL's picture of a granule on a map, and where there is no doubt about it.

    The map is of `size` (width, height) pixels in `crs`, with `bounds` (west, south, east, north).
    """

    def __init__(self, place, date, crs, *, bounds, size):
        west, south, east, north = bounds
        width, height = size
        across = west + (np.arange(width) + 0.5) * (east - west) / width
        down = north - (np.arange(height) + 0.5) * (north - south) / height
        self.numbers = place.warped(date, crs, bounds, width, height)
        # a map that goes beyond the end of the world goes on at its beginning
        half = {"EPSG:3857": HALF, "EPSG:4326": 180}.get(crs, np.inf)
        for turn in (-2 * half, 2 * half) if np.isfinite(half) else ():
            beyond = (across > half) if turn < 0 else (across < -half)
            if beyond.any():
                moved = (west + turn, south, east + turn, north)
                self.numbers[:, beyond] = place.warped(date, crs, moved, width, height)[:, beyond]
                across = np.where(beyond, across + turn, across)
        self.clear = _clear(place, crs, *np.meshgrid(across, down))

    def wrong(self, picture, colormap, background):
        """How many pixels without a doubt have another colour in a picture of (height, width, 3)."""
        colours = np.array([*colours_of(colormap), background])
        numbers = np.where(np.isnan(self.numbers), COLOURS, self.numbers).astype(int)
        return int(((picture != colours[numbers]).any(axis=-1) & self.clear).sum())

    @property
    def present(self):
        """The values of the pixels that show some, without a doubt."""
        return self.numbers[self.clear & ~np.isnan(self.numbers)]


def _clear(place, crs, x, y):
    x, y = Transformer.from_crs(crs, place.crs, always_xy=True).transform(x, y)
    if place.crs == "EPSG:4326":
        x = place.bounds[0] + np.mod(x - place.bounds[0] + 1, 360) - 1
    column, row = ~place.transform @ (x, y)
    around = (column > -1) & (column < COLUMNS + 1) & (row > -1) & (row < ROWS + 1)
    with np.errstate(invalid="ignore"):
        aside = np.minimum(np.abs(column - np.round(column)), np.abs(row - np.round(row)))
    return ~around | (aside > NEAR)
