import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cubegate.errors import NotAcceptable
from cubegate.formats.csv import CSVFormat
from cubegate.formats.rows import ROWS

NAMES = ("displacement", "coherence", "counts", "big", "valid", "label", "observed", "phasor")


def body(result):
    return b"".join(CSVFormat().write(result))


def test_header_then_time_then_variables(series):
    lines = body(series("displacement")).decode().splitlines()
    assert lines[:4] == ["# title: A demo cube", "# dataset: demo", "# version: abc123", "# source: kerchunk"]
    assert "# crs: EPSG:32611" in lines
    assert "# pixel centre: x 400090.0, y 3699940.0, longitude -118.07, latitude 33.41" in lines
    assert "# distance: 4.25 m" in lines
    assert "# units of displacement: m" in lines
    rows = [line for line in lines if not line.startswith("#")]
    assert rows[0] == "time,displacement"
    assert [row.split(",")[0] for row in rows[1:]] == [
        "2020-01-13T00:00:00Z", "2020-01-25T06:30:00Z", "2020-02-06T00:00:00.123456789Z",
    ]  # fmt: skip
    assert rows[2].split(",")[1] == "0.1"


def test_times_read_back_to_the_nanosecond(series, read_table):
    result = series("displacement")
    times = pd.to_datetime(read_table(body(result))["time"], format="ISO8601").dt.tz_localize(None)
    np.testing.assert_array_equal(times.to_numpy("M8[ns]"), result.dataset["time"].data)


@pytest.mark.parametrize("kind", ["cube", "points", "series"])
@pytest.mark.parametrize("name", ["displacement", "coherence"])
def test_floats_read_back_bit_for_bit(request, kind, name, read_table):
    result = request.getfixturevalue(kind)(name)
    expected = result.dataset[name].data
    texts = read_table(body(result))[name].replace("", "nan")
    np.testing.assert_array_equal(
        texts.to_numpy(str).astype(expected.dtype).reshape(expected.shape), expected
    )


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", ">f8"])
def test_every_bit_pattern_of_a_float_survives(series, dtype):
    bits = np.random.default_rng(3).integers(0, 256, 4000 * np.dtype(dtype).itemsize, dtype="u1").tobytes()
    values = np.concatenate(
        [np.frombuffer(bits, dtype), np.array([0.1, -0.0, 1e4, np.inf, -np.inf, np.nan], dtype)]
    )
    result = replace(series(), dataset=xr.Dataset({"v": ("time", values)}))
    table = pd.read_csv(io.BytesIO(body(result)), comment="#", dtype=str, keep_default_na=False)
    back = table["v"].replace("", "nan").to_numpy(str).astype("f8").astype(dtype)
    np.testing.assert_array_equal(back, values)
    np.testing.assert_array_equal(np.signbit(back[~np.isnan(values)]), np.signbit(values[~np.isnan(values)]))


def test_whole_floats_stay_floats_and_integers_stay_integers(series, read_table):
    dataset = xr.Dataset(
        {"f": ("time", np.array([1.0, -3.0, 0.0], "f4")), "i": ("time", np.array([2**62, -5, 0]))}
    )
    table = read_table(body(replace(series(), dataset=dataset)))
    assert table["f"].tolist() == ["1.0", "-3.0", "0.0"]
    assert table["i"].tolist() == [str(2**62), "-5", "0"]


def test_integers_with_a_fill_are_integers_and_empty_fields(cube, read_table):
    result = cube("counts")
    assert result.dataset["counts"].dtype == np.float32
    expected = ["" if n == -7 else str(n) for n in range(-20, 40)]
    assert read_table(body(result))["counts"].tolist() == expected


def test_text_keeps_quotes_commas_hashes_and_lines(cube, read_table):
    result = cube("label")
    table = read_table(body(result))
    assert list(table.columns) == ["y", "x", "label"]
    assert table["label"].tolist() == result.dataset["label"].data.ravel().tolist()


def test_an_empty_text_is_not_a_missing_one(series):
    dataset = xr.Dataset({"a": ("time", np.array(["", None, "x"], object)), "b": ("time", np.arange(3))})
    assert body(replace(series(), dataset=dataset)).decode().splitlines()[-3:] == ['0,"",0', "1,,1", "2,x,2"]


def test_a_single_empty_column_has_no_blank_lines(series):
    dataset = xr.Dataset({"v": ((), np.float32(np.nan))})
    assert body(replace(series(), dataset=dataset)).endswith(b'\nv\n""\n')


def test_cube_columns_and_order(cube, read_table):
    result = cube("displacement", "big", ascending=True)
    table = read_table(body(result))
    assert list(table.columns) == ["time", "y", "x", "displacement", "big"]
    assert len(table) == 60
    frame = result.dataset[["displacement", "big"]].to_dataframe(dim_order=["time", "y", "x"]).reset_index()
    for name in ("y", "x", "big"):
        np.testing.assert_array_equal(table[name].to_numpy(str).astype(frame[name].dtype), frame[name])


def test_points_have_their_position_in_front(points, read_table):
    table = read_table(body(points("displacement")))
    assert list(table.columns) == [
        "point", "requested_lon", "x", "y", "longitude", "latitude", "distance", "time", "displacement",
    ]  # fmt: skip
    assert table["point"].tolist() == ["7"] * 3 + ["8"] * 3 + ["9"] * 3


def test_the_time_column_is_called_time_whatever_the_dimension(series, read_table):
    result = series("displacement")
    renamed = replace(result, dataset=result.dataset.rename(time="mid_date"), time="mid_date")
    assert list(read_table(body(renamed)).columns) == ["time", "displacement"]


def test_time_beside_a_dimension_that_is_none(series, read_table):
    result = series("displacement")
    dataset = result.dataset.rename(time="granule").assign_coords(
        granule=["a", "b", "c"], secondary=("granule", result.dataset["time"].data)
    )
    table = read_table(body(replace(result, dataset=dataset, time="granule")))
    assert list(table.columns) == ["time", "displacement"]
    assert table["time"][0] == "2020-01-13T00:00:00Z"


def test_other_dimensions_become_columns(series, read_table):
    dataset = series().dataset[["displacement"]].expand_dims(band=["red", "nir"], axis=1)
    table = read_table(body(replace(series(), dataset=dataset)))
    assert list(table.columns) == ["time", "band", "displacement"]
    assert table["band"].tolist() == ["red", "nir"] * 3


def test_static_variables_repeat_beside_others_and_stand_alone(series, read_table):
    assert read_table(body(series("displacement", "big")))["big"].tolist() == [str(2**60 + 13)] * 3
    assert len(read_table(body(series("big")))) == 1


def test_other_calendars_in_iso_form(other_calendar, read_table):
    assert read_table(body(other_calendar("displacement")))["time"].tolist() == [
        "2020-02-30T00:00:00Z", "2020-03-01T06:30:00Z", "2020-03-02T00:00:00.000005Z",
    ]  # fmt: skip


def test_complex_numbers_are_two_columns(series, read_table):
    table, values = read_table(body(series("phasor"))), series("phasor").dataset["phasor"].data
    assert list(table.columns) == ["time", "phasor_real", "phasor_imag"]
    np.testing.assert_array_equal(table["phasor_real"].to_numpy(str).astype("f4"), values.real)
    np.testing.assert_array_equal(table["phasor_imag"].to_numpy(str).astype("f4"), values.imag)


def test_durations_are_whole_numbers_with_a_unit(series):
    dataset = xr.Dataset({"dt": ("time", np.array([12, 24, "NaT"], "m8[D]").astype("m8[ns]"))})
    lines = body(replace(series(), dataset=dataset, time=None)).decode().splitlines()
    assert "# units of dt: days" in lines
    assert lines[-3:] == ["12", "24", '""'] or [line.split(",")[-1] for line in lines[-3:]] == [
        "12",
        "24",
        "",
    ]


def test_no_times_is_a_header_alone(series, read_table):
    result = series("displacement")
    table = read_table(body(replace(result, dataset=result.dataset.isel(time=slice(0)))))
    assert list(table.columns) == ["time", "displacement"]
    assert table.empty


def test_grid_mapping_and_bounds_are_no_columns(cube, read_table):
    result = cube("displacement")
    dataset = result.dataset.assign(time_bnds=(("time", "nv"), np.zeros((3, 2))))
    dataset["time"].attrs["bounds"] = "time_bnds"
    assert list(read_table(body(replace(result, dataset=dataset))).columns) == [
        "time",
        "y",
        "x",
        "displacement",
    ]


def test_large_cubes_come_in_bounded_pieces(cube):
    values = np.arange(3 * ROWS, dtype="i4").reshape(3, 256, -1)
    result = replace(cube(), dataset=xr.Dataset({"v": (("time", "y", "x"), values)}), time=None)
    pieces = list(CSVFormat().write(result))
    assert len(pieces) == 4
    table = pd.read_csv(io.BytesIO(b"".join(pieces)), comment="#")
    np.testing.assert_array_equal(table["v"], values.ravel())


def test_two_columns_of_one_name_are_refused(series):
    dataset = series("phasor").dataset.assign(phasor_real=("time", np.zeros(3)))
    with pytest.raises(NotAcceptable, match="phasor_real"):
        CSVFormat().write(replace(series(), dataset=dataset))


def test_structures_are_refused_before_the_first_piece(series):
    dataset = xr.Dataset({"v": ("time", np.zeros(3, "i4,f4"))})
    with pytest.raises(NotAcceptable, match="structures"):
        CSVFormat().write(replace(series(), dataset=dataset))
