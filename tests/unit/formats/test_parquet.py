import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from cubegate.formats.parquet import ParquetFormat
from cubegate.formats.rows import ROWS

NAMES = ("displacement", "coherence", "counts", "big", "valid", "label", "observed", "phasor")


def read(result):
    return pq.read_table(io.BytesIO(b"".join(ParquetFormat().write(result))))


@pytest.mark.parametrize("kind", ["cube", "points", "series"])
def test_values_and_types_read_back(request, kind):
    result = request.getfixturevalue(kind)(*NAMES)
    table = read(result)
    dims = [dim for dim in ("point", "time", "y", "x") if dim in result.dataset.dims]
    frame = result.dataset[[*NAMES]].to_dataframe(dim_order=dims).reset_index()
    for name in ("displacement", "coherence", "valid", "big"):
        assert table.schema.field(name).type == pa.from_numpy_dtype(result.dataset[name].dtype)
        np.testing.assert_array_equal(table[name].to_numpy(), frame[name].to_numpy())
    counts = table["counts"]
    assert counts.type == pa.int16()
    assert [np.nan if n is None else n for n in counts.to_pylist()] == pytest.approx(
        frame["counts"].tolist(), nan_ok=True
    )
    assert table["label"].to_pylist() == frame["label"].tolist()
    np.testing.assert_array_equal(
        table["observed"].to_numpy().astype("M8[ns]"), frame["observed"].to_numpy("M8[ns]")
    )
    np.testing.assert_array_equal(table["phasor_imag"].to_numpy(), frame["phasor"].to_numpy().imag)


def test_times_are_utc_nanoseconds(series):
    result = series("displacement")
    time = read(result)["time"]
    assert time.type == pa.timestamp("ns", tz="UTC")
    np.testing.assert_array_equal(time.to_numpy().astype("M8[ns]"), result.dataset["time"].to_numpy())


def test_times_beyond_nanoseconds_come_in_a_coarser_unit(series):
    dataset = xr.Dataset(
        {"v": ("time", [1, 2])}, {"time": np.array(["0001-01-01", "9999-12-31T23:59:59"], "M8[s]")}
    )
    time = read(replace(series(), dataset=dataset))["time"]
    assert time.type == pa.timestamp("ms", tz="UTC")
    np.testing.assert_array_equal(
        time.cast(pa.int64()).to_numpy(), dataset["time"].to_numpy().astype("i8") * 1000
    )


def test_missing_cells_are_null(series):
    dataset = xr.Dataset({
        "f": ("time", np.array([np.nan, 1, 2], "f4")), "t": ("time", np.array(["NaT", "2020-01-01", "2020-01-02"], "M8[ns]")),
        "s": ("time", np.array([None, "", "x"], object)),
    })  # fmt: skip
    table = read(replace(series(), dataset=dataset))
    assert [table[name].null_count for name in ("f", "t", "s")] == [1, 1, 1]
    assert table["s"].to_pylist() == [None, "", "x"]


def test_other_calendars_are_text(other_calendar):
    assert read(other_calendar("displacement"))["time"].to_pylist()[0] == "2020-02-30T00:00:00Z"


def test_units_and_origin_are_in_the_metadata(series):
    schema = read(series("displacement")).schema
    assert schema.field("displacement").metadata[b"units"] == b"m"
    metadata = schema.metadata
    assert (metadata[b"dataset"], metadata[b"version"], metadata[b"crs"]) == (
        b"demo",
        b"abc123",
        b"EPSG:32611",
    )
    assert (metadata[b"point_x"], metadata[b"point_distance_m"]) == (b"400090.0", b"4.25")


def test_large_cubes_are_many_row_groups(cube):
    values = np.arange(2 * ROWS + 5, dtype="i4").reshape(1, 1, -1)
    result = replace(cube(), dataset=xr.Dataset({"v": (("time", "y", "x"), values)}), time=None)
    file = pq.ParquetFile(io.BytesIO(b"".join(ParquetFormat().write(result))))
    assert file.num_row_groups == 3
    np.testing.assert_array_equal(file.read()["v"].to_numpy(), values.ravel())


def test_no_times_keep_their_types(series):
    result = series("displacement")
    table = read(replace(result, dataset=result.dataset.isel(time=slice(0))))
    assert table.num_rows == 0
    assert table.schema.field("displacement").type == pa.float32()
    assert table.schema.field("time").type == pa.timestamp("ns", tz="UTC")
