"""Pictures that a server draws, as the numbers of their colours."""

import io

import matplotlib.image as mpl_image
import numpy as np
from tests.clients.screens import colours_of

# of red, green and blue in one number
_PLACES = np.array([1 << 16, 1 << 8, 1])


def shown_numbers(content, colormap):
    """The value n + 0.5 of each pixel of colour number n in a PNG file: float32 of (height, width), NaN where it is transparent."""
    return numbers_of((mpl_image.imread(io.BytesIO(content)) * 255).round().astype(int), colormap)


def numbers_of(pixels, colormap):
    """The same of pixels, (height, width, 4) of 0 to 255."""
    shown = pixels[..., 3] == 255
    assert (shown | (pixels[..., 3] == 0)).all()
    colours = colours_of(colormap) @ _PLACES
    order = np.argsort(colours)
    asked = pixels[shown][:, :3].astype(int) @ _PLACES
    numbers = order[np.searchsorted(colours, asked, sorter=order).clip(max=len(order) - 1)]
    np.testing.assert_array_equal(colours[numbers], asked)
    found = np.full(shown.shape, np.nan, "f4")
    found[shown] = numbers + 0.5
    return found
