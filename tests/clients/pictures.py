"""Pictures that a server draws, as the numbers of their colours."""

import io

import matplotlib.image as mpl_image
import numpy as np
from tests.clients.screens import colours_of


def shown_numbers(content, colormap):
    """The value n + 0.5 of each pixel of colour number n in a PNG file: float32 of (height, width), NaN where it is transparent."""
    picture = (mpl_image.imread(io.BytesIO(content)) * 255).round().astype(int)
    shown = picture[..., 3] == 255
    assert (shown | (picture[..., 3] == 0)).all()
    numbers = {tuple(colour): number for number, colour in enumerate(colours_of(colormap).tolist())}
    found = np.full(shown.shape, np.nan, "f4")
    found[shown] = [numbers[tuple(colour)] + 0.5 for colour in picture[shown][:, :3].tolist()]
    return found
