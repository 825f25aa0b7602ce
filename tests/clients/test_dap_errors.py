"""What cannot be read is an error in each client of DAP2, never zeros, never fill, and no file that looks whole."""

import gc
import time
import warnings
from functools import partial
from types import SimpleNamespace

import h5py
import netCDF4
import numpy as np
import pytest
import requests
import webob.exc
import xarray as xr
import yaml
from pydap.client import open_url
from tests.clients.netcdf_programs import fail, run, stored
from tests.clients.programs import needs_program

from cubegate.cli import main

SHAPE = (3, 40, 50)
NCDUMP, NCKS, CDO = (needs_program(name) for name in ("ncdump", "ncks", "cdo"))
TOO_LARGE = 5000
# what pydap raises for an answer that is an error
REFUSED = (requests.RequestException, webob.exc.HTTPError)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """xarray and pydap try again after a while, half a minute in all; here they do so at once."""
    for module in ("xarray.backends.common.time", "urllib3.util.retry.time"):
        monkeypatch.setattr(module, SimpleNamespace(sleep=lambda _: None, time=time.time))


def write_cube(directory):
    """Three granules of float32 without a fill value, and the cube of them; returns the granules."""
    granules = []
    for number in range(SHAPE[0]):
        values = np.random.default_rng(number).normal(10, 1, (1, *SHAPE[1:])).astype("f4")
        cube = xr.Dataset(
            {"v": (("time", "lat", "lon"), values)},
            {
                "time": ("time", [float(number)], {"units": "days since 2020-01-01"}),
                "lat": ("lat", np.linspace(50, 46.1, SHAPE[1]), {"units": "degrees_north"}),
                "lon": ("lon", np.linspace(5, 9.9, SHAPE[2]), {"units": "degrees_east"}),
            },
        )
        encoding = {"v": {"zlib": True, "chunksizes": (1, 20, 25), "_FillValue": None}}
        granules.append(directory / f"{number}.nc")
        cube.to_netcdf(granules[-1], engine="netcdf4", encoding=encoding)
    configuration = {"upstreams": {f"{directory.as_uri()}/": {}}, "collections": ["cubes/*.yaml"]}
    (directory / "cubegate.yaml").write_text(yaml.safe_dump(configuration))
    build = ["build", "files", f"{directory}/*.nc", "--concat", "time", "--id", "cube"]
    build += ["-o", str(directory / "cubes"), "--config", str(directory / "cubegate.yaml"), "--json"]
    assert main(build) == 0
    limited = {**configuration, "limits": {"cells": TOO_LARGE}}
    (directory / "limited.yaml").write_text(yaml.safe_dump(limited))
    return granules


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, served):
    """The cube as it is, under a limit, with its second granule lost, and with a chunk of it overwritten."""
    found = {}
    whole, lost, broken = (tmp_path_factory.mktemp(name) for name in ("whole", "lost", "broken"))
    write_cube(whole)
    write_cube(lost)[1].unlink()
    granule = write_cube(broken)[1]
    with h5py.File(granule) as opened:
        chunk = opened["v"].id.get_chunk_info(3)
    content = bytearray(granule.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    granule.write_bytes(content)
    with (
        served(whole / "cubegate.yaml") as found["whole"],
        served(whole / "limited.yaml") as found["limited"],
        served(lost / "cubegate.yaml") as found["lost"],
        served(broken / "cubegate.yaml") as found["broken"],
    ):
        yield {name: f"{url}/datasets/cube/opendap" for name, url in found.items()}


class Program:
    """A command that reads an address, and the file that it writes."""

    def __init__(self, *command, written=None):
        self._command, self._written = command, written

    def read(self, address, directory):
        run(*self._filled(address), cwd=directory)
        assert self._written is None or (directory / self._written).exists()

    def is_refused(self, address, directory):
        fail(*self._filled(address), cwd=directory)
        assert self._written is None or not (directory / self._written).exists()

    def _filled(self, address):
        return [part.format(address, none=address.replace("cube/", "none/")) for part in self._command]


class Library:
    """A function that reads an address, and what it raises."""

    def __init__(self, read, *errors):
        self._read, self._errors = read, errors

    def read(self, address, directory):
        with warnings.catch_warnings(action="ignore"):
            self._read(address)

    def is_refused(self, address, directory):
        with warnings.catch_warnings(action="ignore"):
            with pytest.raises(self._errors) as raised:
                self._read(address)
            del raised
            # pydap forgets the connections of answers that are errors, and Python warns of it
            gc.collect()


def nothing(address):
    return address.replace("cube/", "none/")


def by_netcdf4(address, read=lambda cube: cube["v"][:]):
    with netCDF4.Dataset(address) as cube:
        return read(cube)


def by_pydap(address, read=lambda cube: cube["v"].data[:]):
    return read(open_url(address, protocol="dap2"))


def by_xarray(address, read=lambda cube: cube["v"].load()):
    with xr.open_dataset(address, engine="netcdf4") as cube:
        return read(cube)


def by_xarray_and_pydap(address):
    with xr.open_dataset(address, engine="pydap") as cube:
        return cube["v"].load()


# what reads the whole variable `v` of an address
WHOLE = {
    "ncdump": pytest.param(Program("ncdump", "-v", "v", "{}"), marks=NCDUMP),
    "ncks": pytest.param(Program("ncks", "-O", "-v", "v", "{}", "whole.nc", written="whole.nc"), marks=NCKS),
    "ncra": pytest.param(Program("ncra", "-O", "-v", "v", "{}", "mean.nc", written="mean.nc"), marks=NCKS),
    "ncwa": pytest.param(Program("ncwa", "-O", "-a", "time", "{}", "mean.nc", written="mean.nc"), marks=NCKS),
    "cdo -timmean": pytest.param(Program("cdo", "-s", "-timmean", "{}", "mean.nc"), marks=CDO),
    "cdo -fldmean": pytest.param(Program("cdo", "-s", "outputf,%g", "-fldmean", "{}"), marks=CDO),
    "netCDF4": Library(by_netcdf4, RuntimeError),
    "pydap": Library(by_pydap, *REFUSED),
    "xarray, netcdf4": Library(by_xarray, RuntimeError, OSError),
    "xarray, pydap": Library(by_xarray_and_pydap, *REFUSED),
}


def named(clients):
    """The names and the clients as parameters, with their marks."""
    both = [(name, each if hasattr(each, "marks") else pytest.param(each)) for name, each in clients.items()]
    return [pytest.param(name, *each.values, marks=each.marks, id=name) for name, each in both]


# those that read one date, or one row, at a time, and so stay within the limit
BY_PARTS = ("ncdump", "ncks", "ncra", "cdo -timmean", "cdo -fldmean")


@pytest.mark.parametrize("case", ["lost", "broken"])
@pytest.mark.parametrize("client", WHOLE.values(), ids=WHOLE)
def test_a_granule_that_cannot_be_read_is_an_error(addresses, tmp_path, case, client):
    for name in ("whole", "refused"):
        (tmp_path / name).mkdir()
    client.read(addresses["whole"], tmp_path / "whole")
    client.is_refused(addresses[case], tmp_path / "refused")


@NCKS
@CDO
@pytest.mark.parametrize("case", ["lost", "broken"])
def test_what_is_left_can_be_read(addresses, tmp_path, compared, case):
    expected = np.random.default_rng(2).normal(10, 1, SHAPE[1:]).astype("f4")
    run("ncks", "-O", "-v", "v", "-d", "time,2", addresses[case], "part.nc", cwd=tmp_path)
    run("cdo", "-s", "-seltimestep,3", addresses[case], "date.nc", cwd=tmp_path)
    for file in ("part.nc", "date.nc"):
        read = stored(tmp_path / file, "v")[0]
        np.testing.assert_array_equal(read, expected)
        compared(read)


@pytest.mark.parametrize(("name", "client"), named(WHOLE))
def test_what_is_too_large_is_an_error(addresses, tmp_path, name, client):
    if name in BY_PARTS:
        client.read(addresses["limited"], tmp_path)
    else:
        client.is_refused(addresses["limited"], tmp_path)


@NCDUMP
@NCKS
def test_the_refusal_says_what_would_fit(addresses, tmp_path):
    said = fail("ncwa", "-O", "-v", "v", "-a", "time", addresses["limited"], "mean.nc", cwd=tmp_path)
    assert "It would fit with ?v[0:1:1][0:1:39][0:1:49] at once." in said
    run("ncks", "-O", "-v", "v", "-d", "time,0,1", addresses["limited"], "part.nc", cwd=tmp_path)
    assert stored(tmp_path / "part.nc", "v").shape == (2, *SHAPE[1:])


# what no cube has: a name, an index, a dataset
UNKNOWN = {
    "ncdump, a name": pytest.param(Program("ncdump", "-v", "none", "{}"), marks=NCDUMP),
    "ncdump, a name in the address": pytest.param(Program("ncdump", "{}?none"), marks=NCDUMP),
    "ncdump, a part in the address": pytest.param(Program("ncdump", "{}?v[0][0][40:50]"), marks=NCDUMP),
    "ncdump, a dataset": pytest.param(Program("ncdump", "-h", "{none}"), marks=NCDUMP),
    "ncks, a name": pytest.param(
        Program("ncks", "-O", "-v", "none", "{}", "no.nc", written="no.nc"), marks=NCKS
    ),
    "ncks, an index": pytest.param(
        Program("ncks", "-O", "-v", "v", "-d", "lon,50", "{}", "no.nc", written="no.nc"), marks=NCKS
    ),
    "ncks, a range": pytest.param(
        Program("ncks", "-O", "-v", "v", "-d", "lon,0,50", "{}", "no.nc", written="no.nc"), marks=NCKS
    ),
    "cdo, a name": pytest.param(
        Program("cdo", "-s", "-selname,none", "{}", "no.nc", written="no.nc"), marks=CDO
    ),
    "cdo, a date": pytest.param(
        Program("cdo", "-s", "-seltimestep,9", "{}", "no.nc", written="no.nc"), marks=CDO
    ),
    "cdo, a dataset": pytest.param(Program("cdo", "-s", "sinfo", "{none}"), marks=CDO),
    "netCDF4, a name": Library(partial(by_netcdf4, read=lambda cube: cube["none"]), IndexError),
    "netCDF4, an index": Library(partial(by_netcdf4, read=lambda cube: cube["v"][0, 0, 50]), IndexError),
    "netCDF4, a part in the address": Library(lambda a: by_netcdf4(f"{a}?v[0][0][40:50]"), OSError),
    "netCDF4, a dataset": Library(lambda a: by_netcdf4(nothing(a)), OSError),
    "pydap, a name": Library(partial(by_pydap, read=lambda cube: cube["none"]), KeyError),
    "pydap, an index": Library(partial(by_pydap, read=lambda cube: cube["v"].data[0, 0, 50]), *REFUSED),
    "pydap, a part in the address": Library(lambda a: by_pydap(f"{a}?v[0][0][40:50]"), *REFUSED),
    "pydap, a dataset": Library(lambda a: by_pydap(nothing(a)), *REFUSED),
    "xarray, a name": Library(partial(by_xarray, read=lambda cube: cube["none"]), KeyError),
    "xarray, an index": Library(partial(by_xarray, read=lambda cube: cube["v"][0, 0, 50].load()), IndexError),
}


@pytest.mark.parametrize("client", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_there_is_an_error(addresses, tmp_path, client):
    client.is_refused(addresses["whole"], tmp_path)
