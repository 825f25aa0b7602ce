from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cubegate.errors import InvalidParameter
from cubegate.query.grid import find_grid
from cubegate.query.selectors import read_selectors

RUNS = ["2020-01-01T00:00:00", "2020-01-01T06:00:00", "2021-01-01T00:00:00"]


def places(unit, text, *more):
    """The index on a dimension of times in `unit` that `text` means."""
    runs = np.array([*RUNS, *more], f"M8[{unit}]")
    axes = {"time": np.array(RUNS[:1], "M8[ns]"), "run": runs, "y": [2.0, 1.0], "x": [1.0, 2.0]}
    dataset = xr.Dataset({"v": (("time", "run", "y", "x"), np.zeros((1, len(runs), 2, 2)))}, axes)
    grid = find_grid(dataset, "v", crs="EPSG:32611")
    return read_selectors(dataset, grid, ["v"], {"run": text}, known=())["run"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    ("text", "place"),
    [("2020", 0), ("2020-01-01", 0), ("2020-01-01T06", 1), ("2020-01-01T06:00:00.000Z", 1), ("2021-01", 2)],
)
def test_a_time_is_found_by_its_text(unit, text, place):
    assert places(unit, text) == place


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01T06:00:00.5", "2020-01-01T06:00:00.0000000000001", "2019", "9999", "1066-10-14", "", "Z", "NaT", "now", "2020-13",
        "99999999999-01-01", "2604-07-21T23:34:33.709551616", "2604-07-21T23:34:33.709551616Z",
    ],
)  # fmt: skip
def test_a_time_that_is_not_there_is_none_of_those_that_are(unit, text):
    with pytest.raises(InvalidParameter, match="is not on this dimension"):
        places(unit, text)


def test_times_beyond_nanoseconds_are_found_and_do_not_hide_others():
    assert places("s", "9000-01-01", "9000-01-01") == 3
    assert places("s", "2020-01-01T06:00:00.000000000", "2100") == 1
