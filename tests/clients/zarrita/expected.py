"""What zarrita has to read, as h5py and numpy have it."""

import hashlib

import numpy as np

# what of an array is not an attribute of its granule
OF_ZARR = {"_FillValue", "_CRS", "_ARRAY_DIMENSIONS"}


def part(selection):
    """What numpy calls a selection of a job."""
    parts = (slice(None) if each is None else each for each in selection)
    return tuple(slice(*each) if isinstance(each, list) else each for each in parts)


def attributes(variable):
    """The attributes of an HDF5 variable as JSON has them, without what netCDF-4 keeps in them for itself."""
    found = {}
    for name, value in variable.attrs.items():
        if name in ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST") or name.startswith("_Netcdf4"):
            continue
        values = np.asarray(value).reshape(-1)
        plain = [each.decode() if isinstance(each, bytes) else each for each in values.tolist()]
        found[name] = plain[0] if len(plain) == 1 else plain
    return found


def same(found, expected, compared):
    """Assert that an array was read as `expected`, its type included, and its bits where a digest was asked for."""
    assert found.error is None, found.error
    if found.digest:
        assert found.digest == hashlib.sha256(np.ascontiguousarray(expected)).hexdigest()
    else:
        np.testing.assert_array_equal(found.values, expected)
        assert found.values.shape == expected.shape
    if expected.dtype.kind in "iuf":
        assert found.dtype == expected.dtype.name
    compared(expected)
