"""Decimal numbers that are read eight digits at a time are those that Python reads one by one."""

import numpy as np
import pytest

from cubegate.index.builders.decimal_numbers import MOST_DIGITS, decimals_before, words_at

# what stands beside digits in ASCII, and far from them
STOPS = [*map(ord, '/:, ]0x-+.e"'), 0, 127]


def written(numbers, stop):
    """The text of all `numbers`, each behind a stop, and where each ends."""
    text, ends = bytearray(b" " * 32), []
    for number in numbers:
        text += bytes([stop]) + number.encode()
        ends.append(len(text))
    return bytes(text), np.array(ends)


@pytest.mark.parametrize("stop", [stop for stop in STOPS if not chr(stop).isdigit()])
def test_numbers_of_any_size(stop):
    random = np.random.default_rng(stop)
    numbers = [""] + [
        "".join(random.choice(list("0123456789"), size))
        for size in range(1, MOST_DIGITS + 1)
        for _ in range(50)
    ]
    text, ends = written(numbers, stop)
    found = decimals_before(text, ends)
    assert found.digits.tolist() == [len(number) for number in numbers]
    assert found.values.tolist() == [int(number or "0") for number in numbers]


@pytest.mark.parametrize("number", ["0" * 19, "1" * 19, "9" * 30, "0" * 23 + "1"])
def test_more_digits_than_it_reads_are_seen(number):
    text, ends = written(["12", number, "3"], ord(" "))
    found = decimals_before(text, ends)
    assert found.digits[1] > MOST_DIGITS
    assert found.values[[0, 2]].tolist() == [12, 3]


def test_words_overlap():
    text = bytes(range(40))
    found = words_at(text, np.array([0, 3, 24]), 2)
    assert [row.tobytes() for row in found] == [text[0:16], text[3:19], text[24:40]]
