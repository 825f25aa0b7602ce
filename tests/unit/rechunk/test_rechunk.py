"""What `cubegate rechunk` writes has the values of the granules, whichever way it was cut."""

import json
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from cubegate.rechunk.blocks import checksum
from cubegate.rechunk.copying import Endpoints, copy_cube
from cubegate.rechunk.layout import Layout
from cubegate.rechunk.running import Threads

ZARR = [(), ("--format", "zarr2")]
CUTS = [("--for", "series"), ("--for", "maps"), ("--chunks", "time=2,y=5,x=7")]


def bits(values):
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("form", ZARR)
def test_a_stack_of_granules_is_written(rechunk, cubes, compared, form, cut):
    code, output = rechunk("stack", *form, *cut)
    assert code == 0
    written = zarr.open_group(output, mode="r")
    for number, path in enumerate(cubes.stack.granules):
        with h5py.File(path) as granule:
            for name in ("displacement", "coherence"):
                values = np.asarray(written[name][number])
                np.testing.assert_array_equal(values, granule[name][0])
                compared(values)
    dataset = xr.open_zarr(output)
    assert dataset.time.values.astype("M8[D]").astype(str).tolist() == [
        "2020-01-01",
        "2020-01-13",
        "2020-01-25",
    ]
    assert dataset.displacement.attrs["grid_mapping"] == "spatial_ref" or "spatial_ref" in dataset.coords
    dataset.close()


@pytest.fixture
def small_blocks(monkeypatch):
    """So little at once that a source is read in several blocks, by way of the store between."""
    sizes = {"chunk_nbytes": 512, "block_nbytes": 1024}
    monkeypatch.setattr("cubegate.rechunk.layout.lay_out.__kwdefaults__", sizes)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("cut", [*CUTS, ("--chunks", "time=1,y=12,x=10")])
@pytest.mark.parametrize("form", ZARR)
def test_long_chunks_are_turned_to_the_last_bit(rechunk, cubes, compared, form, cut):
    code, output = rechunk("pencils", *form, *cut)
    assert code == 0
    written = zarr.open_group(output, mode="r")
    for name in ("v", "packed"):
        values = np.asarray(written[name][:])
        np.testing.assert_array_equal(bits(values), bits(cubes.pencils[name].astype(values.dtype)))
        compared(values)
    assert list(written["pair"][:]) == list(cubes.pencils["pair"])
    assert written.attrs["title"] == "pencils"


def test_xarray_reads_the_same_dataset(rechunk, tmp_path):
    code, output = rechunk("pencils")
    assert code == 0
    with xr.open_zarr(tmp_path / "pencils.zarr") as source, xr.open_zarr(output) as written:
        xr.testing.assert_identical(source.load(), written.load())


def test_a_netcdf_file_has_the_same_dataset(rechunk, tmp_path, compared):
    code, output = rechunk("pencils", "--format", "netcdf", "--chunks", "time=8,y=6,x=10")
    assert code == 0
    with (
        xr.open_zarr(tmp_path / "pencils.zarr") as source,
        xr.open_dataset(output, engine="netcdf4") as written,
    ):
        xr.testing.assert_equal(source.load(), written.load())
        compared(written.v.values)
        assert written.packed.attrs == source.packed.attrs
    with h5py.File(output) as file:
        assert file["v"].chunks == (8, 6, 10)


def test_shards_hold_the_chunks(rechunk):
    _, output = rechunk("stack", "--for", "series")
    displacement = zarr.open_array(output, path="displacement", mode="r")
    assert (displacement.chunks, displacement.shards) == ((3, 20, 24), None)
    files = [path for path in Path(output, "displacement").rglob("*") if path.is_file()]
    assert len(files) == 2


def test_the_report_is_for_scripts(rechunk, capsys):
    code, output = rechunk("stack", "--variables", "coherence", "--json")
    report = json.loads(capsys.readouterr().out)
    assert (code, report["output"]) == (0, output)
    assert set(report["chunks"]) == {"coherence", "time", "x", "y", "spatial_ref"}
    assert report["values"] == 3 * 20 * 24 + 3 + 20 + 24 + 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("none",), "There is no dataset 'none'"),
        (("stack", "--chunks", "z=3"), "There is no dimension 'z'. Accepted: time, x, y"),
        (("stack", "--chunks", "time"), "'time' is no size"),
        (("stack", "--chunks", "time=0"), "'time=0' is no size"),
        (("stack", "--variables", "nothing"), "nothing"),
        (("stack", "--threads", "0"), "1 or more"),
        (("stack", "--format", "netcdf", "--scheduler", "tcp://127.0.0.1:1"), "One file has one writer"),
        (("stack", "--scheduler", "tcp://127.0.0.1:1"), "no Dask scheduler answers"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(rechunk, capsys, tmp_path, options, said):
    code, output = rechunk(*options)
    assert code == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path(output).exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_output_that_exists_is_left_alone(rechunk, tmp_path, capsys):
    (tmp_path / "written").mkdir()
    (tmp_path / "written" / "mine").write_text("mine")
    assert rechunk("stack")[0] == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "written" / "mine").read_text() == "mine"


def test_a_lost_granule_leaves_nothing_behind(rechunk, cubes, tmp_path, capsys):
    cubes.stack.granules[1].unlink()
    code, output = rechunk("stack")
    assert code == 1
    assert "Copying of coherence[0:3, 0:20, 0:24] failed" in " ".join(capsys.readouterr().err.split())
    assert not Path(output).exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


class Lossy:
    """A target that keeps all values but one."""

    def __init__(self):
        self.values, self.lock = np.zeros((4, 4), "i4"), threading.Lock()

    def read(self, path, region):
        return self.values[region]

    def write(self, path, region, values):
        self.values[region] = values
        self.values[2, 2] = -1


class Counted:
    def read(self, path, region):
        return np.arange(16, dtype="i4").reshape(4, 4)[region]


def test_what_reads_back_differently_fails():
    layout = Layout((2, 2), (2, 2), (2, 2))
    run = Threads(Endpoints(Counted(), Lossy()), 2)
    with pytest.raises(Exception, match=r"Comparing of v\[2:4, 2:4\] failed: it reads back differently"):
        copy_cube({"v": layout}, {"v": (4, 4)}, run, lambda *_: None)


def test_checksums_tell_texts_apart():
    one, other = np.array(["ab", "c"], object), np.array(["a", "bc"], object)
    assert checksum(one) != checksum(other)
    assert checksum(np.array(0.0)) != checksum(np.array(-0.0))
