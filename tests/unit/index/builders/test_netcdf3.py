"""The index of a netCDF-3 file leads to the values that netCDF4 reads, whatever its version."""

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.errors import InvalidReference
from cubegate.index.build import build_index

SHARED = Path(__file__).resolve().parents[4].parent / "shared" / "data"
FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def write(path, form, *, records=("a", "b", "c")):
    random = np.random.default_rng(2)
    with netCDF4.Dataset(path, "w", format=form) as file:
        for name, size in (("time", None), ("y", 7), ("x", 5), ("letters", 3)):
            file.createDimension(name, size)
        types = {"a": "f4", "b": "i1", "c": "i2", "time": "f8"}
        for name in records:
            array = file.createVariable(name, types[name], ("time", "y", "x")[: 1 if name == "time" else 3])
            shape = (4,) if name == "time" else (4, 7, 5)
            array[:] = random.integers(-9, 9, shape)
        file.createVariable("fixed", "f8", ("y", "x"), fill_value=-1.5)[:] = random.normal(size=(7, 5))
        file.createVariable("text", "S1", ("y", "letters"))[:] = np.full((7, 3), b"q")
        file.createVariable("scalar", "i4", ())[...] = 42
        file["fixed"].units, file.title, file.numbers = "m", "classic", np.array([1, 2], "i2")
    return path


def read(path):
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        file.set_auto_chartostring(False)
        return {name: np.asarray(array[...]) for name, array in file.variables.items()}


@pytest.mark.parametrize("records", [("time", "a", "b", "c"), ("b",), ("c",)], ids="-".join)
@pytest.mark.parametrize("form", FORMATS)
async def test_every_version_gives_the_values_of_the_file(tmp_path, local_source, same_values, form, records):
    path = write(tmp_path / "classic.nc", form, records=records)
    index = await build_index(path.as_uri(), local_source, check_url=lambda _: None)
    expected = read(path)
    assert set(index.hierarchy.arrays) == set(expected)
    assert await same_values(index, expected) > 100
    fixed = index.hierarchy.arrays["fixed"]
    assert (fixed.dimension_names, fixed.declared_fill, fixed.attributes) == (
        ("y", "x"),
        -1.5,
        {"units": "m"},
    )
    assert index.hierarchy.arrays[records[-1]].dimension_names == ("time", "y", "x")
    assert index.hierarchy.groups[""].attributes == {"title": "classic", "numbers": [1, 2]}
    assert len(index.content.validators[0]) > 2


@pytest.mark.parametrize("length", [4, 40, 200, 0.6, 0.99])
async def test_a_cut_file_is_refused_by_name(tmp_path, local_source, length):
    data = write(tmp_path / "classic.nc", FORMATS[0]).read_bytes()
    cut = tmp_path / "cut.nc"
    cut.write_bytes(data[: length if isinstance(length, int) else int(length * len(data))])
    with pytest.raises(InvalidReference, match=r"cut\.nc"):
        await build_index(cut.as_uri(), local_source, check_url=lambda _: None)


async def test_a_damaged_header_is_refused_or_read(tmp_path, local_source):
    data = write(tmp_path / "classic.nc", FORMATS[0]).read_bytes()
    random = np.random.default_rng(7)
    refused = []
    for number in range(80):
        damaged = bytearray(data)
        start = int(random.integers(4, 500))
        damaged[start : start + 4] = random.bytes(4)
        path = tmp_path / f"damaged{number}.nc"
        path.write_bytes(damaged)
        try:
            await build_index(path.as_uri(), local_source, check_url=lambda _: None)
        except InvalidReference as error:
            refused.append(path.name in str(error) or "key" in str(error))
    assert len(refused) > 30
    assert all(refused)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real files are not beside the project")
async def test_real_files_are_read_as_netcdf4_reads_them(same_values):
    source = LocalFiles(parse_address(SHARED.as_uri()))
    count = 0
    for path in sorted(SHARED.rglob("*.nc")):
        if path.read_bytes()[:3] == b"CDF":
            index = await build_index(path.as_uri(), source, check_url=lambda _: None)
            count += await same_values(index, read(path), source)
    assert count > 300_000
