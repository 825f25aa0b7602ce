"""Runs netCDF's command line programs, and reads what they print and write without them."""

import h5py
import netCDF4
import numpy as np
from tests.clients.programs import ended


def run(*command, cwd):
    """Run a program in `cwd`; returns what it prints, and fails where it does not end well."""
    result = ended(command, cwd)
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    return result.stdout


def fail(*command, cwd):
    """Run a program that must not end well; returns what it says."""
    result = ended(command, cwd)
    assert result.returncode != 0, result.stdout[-2000:]
    return result.stdout + result.stderr


def compile_cdl(text, cwd):
    """Have `ncgen` make a file of what `ncdump` or `ncks --cdl` print."""
    (cwd / "printed.cdl").write_text(text)
    run("ncgen", "-4", "-o", "printed.nc", "printed.cdl", cwd=cwd)
    return cwd / "printed.nc"


def stored(file, name):
    """The values of a variable of a file as they are stored, by netCDF4."""
    with netCDF4.Dataset(file) as opened:
        opened.set_auto_maskandscale(False)
        opened.set_auto_chartostring(False)
        return np.asarray(opened[name][...])


def attributes(file, name):
    """The attributes of a variable of a file or address, by netCDF4."""
    with netCDF4.Dataset(file) as opened:
        return {key: opened[name].getncattr(key) for key in opened[name].ncattrs()}


def granule_stack(place, name="v"):
    """The values of all granules of a place as they are stored, (dates, rows, columns), by h5py."""
    layers = []
    for file in place.granules:
        with h5py.File(file) as opened:
            layers.append(opened[name][...])
    return np.concatenate(layers)


def granule_axes(place):
    """The names and centres of columns and rows of a place, by h5py."""
    with h5py.File(place.granules[0]) as opened:
        x, y = ("lon", "lat") if "lon" in opened else ("x", "y")
        return (x, opened[x][...]), (y, opened[y][...])


def missing(values, fill=-9999):
    """Stored floats with NaN where nothing is known."""
    return np.where(values == np.float32(fill), np.float32(np.nan), values)
