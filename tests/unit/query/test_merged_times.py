from collections import Counter

import cftime
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.errors import NotAcceptable
from cubegate.query.merged_times import merge_times

days = st.lists(st.integers(0, 12), max_size=12)


def layers(times):
    seen, found = Counter(), []
    for time in times:
        found.append((time, seen[time]))
        seen[time] += 1
    return found


@given(st.lists(days, min_size=1, max_size=4), st.sampled_from(["ns", "s", "D"]))
def test_the_axis_is_the_sorted_union_of_times_and_their_occurrences(parts, unit):
    merged = merge_times([np.array(part, "M8[D]").astype(f"M8[{unit}]") for part in parts])
    expected = sorted({layer for part in parts for layer in layers(part)})
    assert merged.values.astype("M8[D]").astype(int).tolist() == [time for time, _ in expected]
    for part, places in zip(parts, merged.places, strict=True):
        assert [expected[place] for place in places] == layers(part)
    assert merged.complete() == all(set(layers(part)) == set(expected) for part in parts)


def test_missing_times_come_last_and_are_counted_too():
    merged = merge_times([np.array(["NaT", "2020", "NaT"], "M8[ns]"), np.array(["2021", "NaT"], "M8[ns]")])
    assert np.datetime_as_string(merged.values, unit="Y").tolist() == ["2020", "2021", "NaT", "NaT"]
    assert [places.tolist() for places in merged.places] == [[2, 0, 3], [1, 2]]


def test_units_are_made_one_and_calendars_are_not():
    seconds, fine = np.array(["2020-01-02"], "M8[s]"), np.array(["2020-01-01T00:00:00.000000001"], "M8[ns]")
    merged = merge_times([seconds, fine])
    assert merged.values.tolist() == [1577836800000000001, 1577923200000000000]
    far = np.array(["9000-01-01"], "M8[s]")
    with pytest.raises(NotAcceptable, match="too far apart"):
        merge_times([far, fine])
    noleap = np.array([cftime.DatetimeNoLeap(2020, 1, day) for day in (3, 1, 3)])
    other = np.array([cftime.DatetimeNoLeap(2020, 1, 2)])
    merged = merge_times([noleap, other])
    assert [time.day for time in merged.values] == [1, 2, 3, 3]
    assert [places.tolist() for places in merged.places] == [[2, 0, 3], [1]]
    for unlike in (seconds, np.array([cftime.Datetime360Day(2020, 1, 1)]), np.array([1.0, 2.0])):
        with pytest.raises(NotAcceptable, match="calendar"):
            merge_times([noleap, unlike])
