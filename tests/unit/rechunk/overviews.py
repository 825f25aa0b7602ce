"""Where overviews lie in a store, what numpy makes of a cube for them, and how a server is asked of maps."""

import httpx
import numpy as np
import zarr


def store_of(folder):
    (path,) = folder.glob("*.zarr")
    root = zarr.open_group(path, mode="r").attrs["cubegate_overviews"]["root"]
    return path, root


def whole_blocks(values, factor, outside):
    """Shape (..., rows, factor, columns, factor), with `outside` where the grid ends within a block."""
    *lead, height, width = values.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padded = np.full((*lead, rows * factor, columns * factor), outside, np.result_type(values, type(outside)))
    padded[..., :height, :width] = values
    return padded.reshape(*lead, rows, factor, columns, factor)


def means(values, factor):
    blocks = whole_blocks(values.astype("f8"), factor, np.nan)
    there = whole_blocks(np.ones(values.shape[-2:]), factor, 0.0).sum(axis=(1, 3))
    known = np.isfinite(blocks).sum(axis=(-3, -1))
    with np.errstate(invalid="ignore"):
        return np.where(2 * known >= there, np.nansum(blocks, axis=(-3, -1)) / known, np.nan)


def ask(url, path, status=200, **parameters):
    answer = httpx.get(f"{url}/datasets/{path}", params=parameters, timeout=60)
    assert answer.status_code == status, answer.text
    return answer
