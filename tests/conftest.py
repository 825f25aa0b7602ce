"""What tests of every kind use."""

import gc

import pytest
from hypothesis import settings
from kerchunk.hdf import SingleHdf5ToZarr

# no test asserts a time
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def scan_granule():
    """Return kerchunk's references over an HDF5 file; `options` go to `SingleHdf5ToZarr`."""

    def scan(path, **options):
        # kerchunk holds HDF5's lock while zarr's thread works for it: if that thread collected a
        # forgotten HDF5 object, both would wait for ever
        gc.collect()
        gc.disable()
        try:
            return SingleHdf5ToZarr(str(path), **{"url": path.resolve().as_uri(), **options}).translate()
        finally:
            gc.enable()

    return scan
