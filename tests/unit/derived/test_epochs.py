"""Which epoch carries each one on, by dates alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubegate.derived.epochs import FIRST, LOST, link_epochs

HOUR = 3600.0


def dates(*texts):
    return np.array(texts, "M8[ns]")


def test_an_epoch_is_carried_on_by_that_of_its_reference_date():
    epochs = link_epochs(
        dates("2020-01-13", "2020-01-25", "2020-02-06", "2020-02-18"),
        dates("2020-01-01", "2020-01-01", "2020-01-25", "2020-02-06"),
        HOUR,
    )
    assert epochs.parents.tolist() == [FIRST, FIRST, 1, 2]
    assert epochs.levels.tolist() == [0, 0, 1, 2]
    assert (epochs.unmatched, epochs.ambiguous) == ((), ())
    assert epochs.needed(np.array([3])).tolist() == [1, 2, 3]
    assert epochs.needed(np.array([0, 0])).tolist() == [0]
    assert epochs.needed(np.array([], int)).tolist() == []


@pytest.mark.parametrize(
    ("seconds", "carried"), [(0, True), (3600, True), (-3600, True), (3601, False), (-3601, False)]
)
def test_dates_of_one_acquisition_differ_by_up_to_the_tolerance(seconds, carried):
    times = dates("2020-01-13T10:00:00", "2020-01-25T10:00:00")
    references = dates("2020-01-01T10:00:00", "2020-01-13T10:00:00") + np.array(
        [0, seconds]
    ) * np.timedelta64(1, "s")
    epochs = link_epochs(times, references, HOUR)
    assert epochs.parents.tolist() == [FIRST, 0 if carried else LOST]
    assert epochs.unmatched == (() if carried else (references[1],))


def test_first_reference_dates_that_differ_by_seconds_are_one():
    epochs = link_epochs(
        dates("2020-01-13", "2020-01-25"), dates("2020-01-01T00:00:07", "2020-01-01T00:00:00"), HOUR
    )
    assert epochs.parents.tolist() == [FIRST, FIRST]


def test_what_builds_on_a_lost_epoch_is_lost_too():
    epochs = link_epochs(
        dates("2020-01-13", "2020-03-01", "2020-03-13", "2020-03-25"),
        dates("2020-01-01", "2020-02-01", "2020-03-01", "2020-01-13"),
        HOUR,
    )
    assert epochs.parents.tolist() == [FIRST, LOST, LOST, 0]
    assert [str(date)[:10] for date in epochs.unmatched] == ["2020-02-01"]
    assert epochs.needed(np.array([2])).tolist() == [2]


def test_missing_dates_are_lost():
    epochs = link_epochs(
        dates("2020-01-13", "NaT", "2020-01-25", "2020-02-06"),
        dates("2020-01-01", "2020-01-01", "NaT", "2020-01-25"),
        HOUR,
    )
    # the third has the date that the fourth needs, yet nothing is known of its own reference date
    assert epochs.parents.tolist() == [FIRST, FIRST, LOST, LOST]
    assert link_epochs(dates("2020-01-13"), dates("NaT"), HOUR).parents.tolist() == [LOST]


def test_an_epoch_of_its_own_reference_date_is_not_its_own_predecessor():
    times = dates("2020-01-13", "2020-01-13", "2020-01-25")
    references = dates("2020-01-01", "2020-01-13", "2020-01-13")
    assert link_epochs(times, references, HOUR).parents.tolist() == [FIRST, 0, 0]


def test_of_several_epochs_the_nearest_then_that_of_the_earliest_reference_then_the_first_counts():
    origin = "2020-01-13T00:10:00"
    references = dates("2020-01-01", "2020-01-01", "2020-01-01", "2020-01-02", origin)
    times = dates(
        "2020-01-13T00:00:00",
        "2020-01-13T00:09:00",
        "2020-01-13T00:11:00",
        "2020-01-13T00:10:30",
        "2020-02-01",
    )
    times[0] = np.datetime64("2020-01-02", "ns")
    epochs = link_epochs(times, references, HOUR)
    assert epochs.parents.tolist() == [FIRST, FIRST, FIRST, 0, 3]
    assert epochs.ambiguous == (np.datetime64(origin),)
    times[3] = times[1]
    assert link_epochs(times, references, HOUR).parents[4] == 1
    times[2] = times[1]
    assert link_epochs(times, references, HOUR).parents[4] == 1


def test_a_nearer_epoch_of_a_later_reference_date_does_not_count():
    times = dates("2020-01-13T00:00:10", "2020-01-13T00:00:00", "2020-01-25")
    references = dates("2020-01-01", "2020-01-13T00:00:00", "2020-01-13T00:00:00")
    epochs = link_epochs(times, references, HOUR)
    assert epochs.parents.tolist() == [FIRST, 0, 0]
    assert epochs.ambiguous == ()


@st.composite
def series(draw):
    """Days of epochs and of their references, in any order and with repetitions."""
    count = draw(st.integers(1, 12))
    times = draw(st.lists(st.integers(0, 15), min_size=count, max_size=count))
    references = draw(st.lists(st.integers(0, 15), min_size=count, max_size=count))
    return np.array(times), np.array(references)


@given(series())
def test_chains_are_those_that_a_search_finds(days):
    times, references = days
    start = np.datetime64("2020-01-01", "ns")
    epochs = link_epochs(
        start + times * np.timedelta64(1, "D"), start + references * np.timedelta64(1, "D"), HOUR
    )

    def chain(number):
        """All epochs that one is made of, None where the chain is broken."""
        if references[number] == references.min():
            return [number]
        before = [
            (references[n], n) for n in range(len(times)) if times[n] == references[number] > references[n]
        ]
        rest = chain(min(before)[1]) if before else None
        return None if rest is None else [number, *rest]

    for number in range(len(times)):
        found = chain(number)
        assert (epochs.parents[number] == LOST) == (found is None)
        assert epochs.needed(np.array([number])).tolist() == sorted(found or [number])
        assert found is None or epochs.levels[number] == len(found) - 1
