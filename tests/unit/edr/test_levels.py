import numpy as np
import pytest
import xarray as xr

from cubegate.edr.description import Dimension
from cubegate.edr.levels import keep_levels, read_levels
from cubegate.errors import InvalidParameter
from cubegate.query.selection import Selection

PRESSURE = Dimension("level", (1000.0, 850.0, 500.0, 200.0), "hPa", vertical=True)
BAND = Dimension("band", ("red", "green", "nir"), "", vertical=False)


@pytest.mark.parametrize(
    ("text", "dimension", "selectors", "kept"),
    [
        ("850", PRESSURE, {"level": "850"}, {}),
        ("850,200", PRESSURE, {}, {"level": (1, 3)}),
        ("200,850,200", PRESSURE, {}, {"level": (1, 3)}),
        ("1000,850,500,200", PRESSURE, {}, {}),
        ("400/900", PRESSURE, {}, {"level": (1, 2)}),
        ("900/400", PRESSURE, {}, {"level": (1, 2)}),
        ("400/600", PRESSURE, {"level": "500.0"}, {}),
        ("-inf/inf", PRESSURE, {}, {}),
        ("R3/200/325", PRESSURE, {}, {"level": (1, 3)}),
        ("R1/500/1", PRESSURE, {"level": "500.0"}, {}),
        ("red,nir", BAND, {}, {"band": (0, 2)}),
        ("nir", BAND, {"band": "nir"}, {}),
    ],
)
def test_every_form(text, dimension, selectors, kept):
    found = read_levels(text, dimension, "z")
    assert (dict(found.selectors), dict(found.kept)) == (selectors, kept)


@pytest.mark.parametrize(
    "text", ["850,700", "600/700", "R2/100/1", "1/2/3", "R2/100", "a/b", "850,x", "850,"]
)
def test_what_is_not_there_is_refused(text):
    with pytest.raises(InvalidParameter) as refusal:
        read_levels(text, PRESSURE, "z")
    assert refusal.value.parameter == "z"


def test_kept_levels_are_cut_out_of_what_was_read():
    dataset = xr.Dataset(
        {"v": (("level", "x"), np.arange(8).reshape(4, 2)), "flat": ("x", [1, 2])},
        {"level": list(PRESSURE.values)},
    )
    found = keep_levels(Selection("series", dataset, "x", "y", None, ""), {"level": (1, 3)}).dataset
    assert found.v.to_numpy().tolist() == [[2, 3], [6, 7]]
    assert found.level.to_numpy().tolist() == [850, 200]
    assert found.flat.to_numpy().tolist() == [1, 2]
