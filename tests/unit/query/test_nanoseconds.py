from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from cubegate.query.nanoseconds import in_unit, moment, moments

LIMITS = ["1678-01-01T00:00:00.000000001", "2261-12-31T23:59:59.999999999"]


@pytest.mark.parametrize("text", ["1677-09-21", "2262-04-12", "0001-01-01", "9999-12-31T23:59:59"])
def test_what_nanoseconds_cannot_hold_is_refused(text):
    with pytest.raises(ValueError, match="before 1678"):
        moment(text)
    with pytest.raises(ValueError, match="before 1678"):
        moments(["2020-01-01", text])
    with pytest.raises(ValueError, match="before 1678"):
        moment(dt.datetime.fromisoformat(text))
    with pytest.raises(OverflowError):
        in_unit(np.array(["2020-01-01", text], "M8[s]"), "M8[ns]")
    assert in_unit(np.array([text], "M8[s]"), "M8[us]").tolist() == [dt.datetime.fromisoformat(text)]


def test_all_that_nanoseconds_hold_is_kept():
    first, last = moments(LIMITS)
    assert [str(first), str(last)] == LIMITS
    seconds = np.array([*LIMITS, "NaT"], "M8[s]")[1:]
    made = in_unit(seconds, "M8[ns]")
    assert [str(each) for each in made] == ["2261-12-31T23:59:59.000000000", "NaT"]
    assert in_unit(np.array(LIMITS, "M8[ns]"), "M8[D]").astype(str).tolist() == ["1678-01-01", "2261-12-31"]
    assert np.isnat(moments(["NaT", "2020-01-01"])).tolist() == [True, False]
