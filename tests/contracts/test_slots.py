"""What everything that keeps counted numbers must do."""

import sys
import threading

import pytest

from cubegate.metrics.shared_slots import SharedSlots
from cubegate.metrics.slots import ProcessSlots, SeriesKey

KEY = SeriesKey("requests_total", ("GET", 'a "quoted"\n\\name é'))


@pytest.fixture(params=["process", "shared"])
def slots(request, tmp_path):
    made = ProcessSlots() if request.param == "process" else SharedSlots(tmp_path)
    yield made
    made.close()


def read(slots):
    (reading,) = slots.readings()
    return reading


def test_nothing_is_read_before_anything_is_counted(slots):
    assert read(slots) == (True, {})


def test_what_is_counted_is_read_at_once(slots):
    numbers = slots.allot(KEY, 3)
    assert numbers.tolist() == [0, 0, 0]
    numbers[0] += 1.0
    numbers[2] += 2.5
    assert read(slots).series == {KEY: (1.0, 0.0, 2.5)}
    numbers[0] += 1.0
    assert read(slots).series == {KEY: (2.0, 0.0, 2.5)}


def test_a_series_has_the_same_numbers_each_time(slots):
    slots.allot(KEY, 1)[0] += 1.0
    slots.allot(SeriesKey(*KEY), 1)[0] += 1.0
    assert read(slots).series == {KEY: (2.0,)}


def test_thousands_of_series_keep_apart(slots):
    widths = {SeriesKey("f", (str(n),)): 1 + n % 17 for n in range(3000)}
    allotted = {key: slots.allot(key, width) for key, width in widths.items()}
    for n, numbers in enumerate(allotted.values()):
        for place in range(len(numbers)):
            numbers[place] += n + place
    expected = {
        key: tuple(float(n + place) for place in range(width))
        for n, (key, width) in enumerate(widths.items())
    }
    assert read(slots).series == expected


def test_no_count_of_several_threads_is_lost(slots):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def count():
        numbers = slots.allot(KEY, 1)
        for _ in range(100_000):
            numbers[0] += 1.0

    threads = [threading.Thread(target=count) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert read(slots).series == {KEY: (400_000.0,)}


def test_large_counts_are_exact(slots):
    numbers = slots.allot(KEY, 1)
    numbers[0] += 2**53 - 2
    numbers[0] += 1
    assert read(slots).series == {KEY: (2.0**53 - 1,)}


def test_counting_goes_on_after_the_end(slots):
    numbers = slots.allot(KEY, 1)
    slots.close()
    slots.close()
    numbers[0] += 1.0
    slots.allot(SeriesKey("late", ()), 1)[0] += 1.0
    assert read(slots).series[KEY] == (1.0,)
