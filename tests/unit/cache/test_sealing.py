"""What was not sealed under exactly this key is no value."""

from hypothesis import assume, given
from hypothesis import strategies as st

from cubegate.cache.sealing import CHECKSUM, seal, seal_block, unseal, unseal_column

KEYS = st.text(max_size=30)
VALUES = st.binary(max_size=200)
COLUMNS = st.integers(1, 12).flatmap(
    lambda nbytes: st.tuples(
        st.just(nbytes), st.lists(st.binary(min_size=nbytes, max_size=nbytes), min_size=1, max_size=8)
    )
)


def change(data, place, by):
    place %= len(data)
    return data[:place] + bytes([data[place] ^ by]) + data[place + 1 :]


@given(KEYS, VALUES)
def test_what_was_sealed_is_unsealed(key, value):
    sealed = seal(key, value)
    assert unseal(key, sealed) == value
    assert type(unseal(key, sealed)) is bytes


@given(KEYS, VALUES, st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_is_no_value(key, value, place, by):
    assert unseal(key, change(seal(key, value), place, by)) is None


@given(KEYS, VALUES, st.integers(0, 10**6))
def test_a_cut_value_is_no_value(key, value, kept):
    sealed = seal(key, value)
    assert unseal(key, sealed[: kept % len(sealed)]) is None
    assert unseal(key, sealed[kept % len(sealed) + 1 :]) is None


@given(KEYS, VALUES, st.binary(min_size=1, max_size=30))
def test_an_extended_value_is_no_value(key, value, more):
    assert unseal(key, seal(key, value) + more) is None
    assert unseal(key, more + seal(key, value)) is None


@given(KEYS, KEYS, VALUES)
def test_the_value_of_another_key_is_no_value(key, other, value):
    assume(key != other)
    assert unseal(key, seal(other, value)) is None


@given(KEYS, VALUES, VALUES)
def test_the_head_of_one_value_does_not_vouch_for_another(key, value, other):
    assume(value != other)
    head = len(seal(key, b""))
    assert unseal(key, seal(key, value)[:head] + other) is None


@given(
    KEYS, st.binary(max_size=60) | st.none() | st.integers() | st.floats() | st.lists(st.binary()) | st.text()
)
def test_what_was_never_sealed_is_no_value(key, stored):
    assert unseal(key, stored) is None
    assert unseal_column(key, 0, 8, stored) is None


def stored_columns(key, block):
    nbytes, columns = block
    sealed = seal_block(key, b"".join(columns), nbytes)
    step = nbytes + CHECKSUM
    assert len(sealed) == step * len(columns)
    return [sealed[start : start + step] for start in range(0, len(sealed), step)]


@given(KEYS, COLUMNS)
def test_each_column_is_unsealed_alone(key, block):
    nbytes, columns = block
    for number, (column, stored) in enumerate(zip(columns, stored_columns(key, block), strict=True)):
        assert unseal_column(key, number, nbytes, stored) == column


@given(KEYS, COLUMNS, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_is_no_column(key, block, number, place, by):
    stored = stored_columns(key, block)
    number %= len(stored)
    assert unseal_column(key, number, block[0], change(stored[number], place, by)) is None


@given(KEYS, COLUMNS, st.binary(min_size=1, max_size=9))
def test_a_cut_or_extended_column_is_no_column(key, block, more):
    for number, stored in enumerate(stored_columns(key, block)):
        for wrong in (stored[:-1], stored[1:], stored[: -len(more)], stored + more, more + stored, b""):
            assert unseal_column(key, number, block[0], wrong) is None


@given(KEYS, KEYS, COLUMNS)
def test_a_column_in_another_place_is_no_column(key, other, block):
    nbytes, columns = block
    stored = stored_columns(key, block)
    for number, one in enumerate(stored):
        for place in range(len(columns) + 2):
            if place != number:
                assert unseal_column(key, place, nbytes, one) is None
        if key != other:
            assert unseal_column(other, number, nbytes, one) is None


@given(KEYS, COLUMNS, st.integers(1, 20))
def test_a_column_of_another_size_is_no_column(key, block, nbytes):
    assume(nbytes != block[0])
    for number, stored in enumerate(stored_columns(key, block)):
        assert unseal_column(key, number, nbytes, stored) is None
        whole = seal_block(key, b"".join(block[1]), block[0])
        start = number * (nbytes + CHECKSUM)
        assert unseal_column(key, number, nbytes, whole[start : start + nbytes + CHECKSUM]) is None


@given(KEYS, COLUMNS)
def test_values_and_columns_are_not_taken_for_each_other(key, block):
    nbytes, columns = block
    assert unseal(key, seal_block(key, b"".join(columns), nbytes)) is None
    sealed = seal(key, b"".join(columns))
    assert unseal_column(key, 0, len(sealed) - CHECKSUM, sealed) is None
