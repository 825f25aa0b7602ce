"""Serves an array by xpublish and xpublish-zarr; run by the Python of an environment that has them."""

import sys

import dask.array
import numpy as np
import xarray as xr
import xpublish
from xpublish_zarr import ZarrPlugin
from zarr.codecs.numcodecs import Shuffle, Zlib


def main(file: str, port: int) -> None:
    """Serve the array (time, y, x) in `file` as `displacement` of the dataset `opera`."""
    values = np.load(file)
    # of chunks that are in memory, xpublish-zarr would answer without its cache
    array = dask.array.from_array(values, chunks=(1, 256, 256))
    displacement = xr.Variable(("time", "y", "x"), array)
    displacement.encoding = {"compressors": (Shuffle(elementsize=4), Zlib(level=4))}
    dataset = xr.Dataset({"displacement": displacement})
    rest = xpublish.Rest({"opera": dataset}, plugins={"zarr": ZarrPlugin()})
    rest.serve(host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
