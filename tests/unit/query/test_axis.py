import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from cubegate.query.axis import Axis

steps = st.lists(st.floats(0.01, 50), min_size=1, max_size=30)
places = st.floats(-0.2, 1.2)


def _values(first, steps, descending):
    values = first + np.cumsum([0.0, *steps])
    return values[::-1].copy() if descending else values


@given(st.floats(-1000, 1000), steps, st.booleans(), places)
def test_the_cell_of_a_value_has_the_nearest_centre_or_none(first, steps, descending, place):
    values = _values(first, steps, descending)
    low, high = values.min() - steps[0] / 2, values.max() + steps[-1] / 2
    value = low + place * (high - low)
    found = Axis("x", values).nearest(value)
    if 1e-6 < place < 1 - 1e-6:
        distances = np.abs(values - value)
        assert distances[found] <= distances.min() * (1 + 1e-9) + 1e-9
    elif not -1e-3 < place < 1.001:
        assert found is None


@given(
    st.floats(-1000, 1000), steps, st.booleans(), st.booleans(), st.lists(st.floats(-2000, 2000), max_size=20)
)
def test_many_values_are_in_the_cells_of_each(first, steps, descending, cyclic, asked):
    axis = Axis("x", _values(first, steps, descending), cyclic=cyclic)
    # edges and centres are where two ways of reckoning would differ
    asked = np.array([*asked, *axis.values, *axis.edges])
    one_by_one = [axis.nearest(value) for value in asked]
    expected = [-1 if index is None else index for index in one_by_one]
    np.testing.assert_array_equal(axis.nearest_of(asked), expected)


@given(st.floats(-1000, 1000), steps, st.booleans(), places, places)
def test_the_cells_between_are_those_with_a_centre_inside(first, steps, descending, one, other):
    values = _values(first, steps, descending)
    low, high = sorted(values.min() + np.array([one, other]) * (values.max() - values.min()))
    # numbers within the tolerance of a centre may go either way
    assume(np.abs(values[:, None] - [low, high]).min() > 1e-4 * max(steps))
    found = Axis("x", values).between(low, high)
    inside = np.flatnonzero((values >= low) & (values <= high))
    if inside.size:
        np.testing.assert_array_equal(found, inside)
    elif high < values.min() - steps[0] / 2 or low > values.max() + steps[-1] / 2:
        assert found.size == 0
    else:
        assert found.size == 1


@given(
    st.sampled_from([0, -180, -179.5, 0.25, 20]),
    st.sampled_from([0.5, 1, 2.5, 10]),
    st.booleans(),
    st.floats(-360, 360),
)
def test_global_longitudes_belong_to_the_nearest_centre_around_the_circle(first, step, descending, longitude):
    values = np.arange(first, first + 360 - step / 2, step)
    values = values[::-1].copy() if descending else values
    found = Axis("lon", values, cyclic=True).nearest(longitude)
    around = np.abs((values - longitude + 180) % 360 - 180)
    assert around[found] <= around.min() + 1e-5 * step


@given(st.sampled_from([0, -180, 0.5]), st.booleans(), st.floats(-360, 359), st.floats(0.01, 400))
def test_global_boxes_hold_the_longitudes_inside_and_none_twice(first, descending, west, width):
    values = np.arange(first, first + 360, 1.0)
    values = values[::-1].copy() if descending else values
    offset = (values - west) % 360
    assume(np.abs((offset - min(width, 359.5) + 180) % 360 - 180).min() > 1e-4)
    assume(min(offset.min(), 360 - offset.max()) > 1e-4)
    found = Axis("lon", values, cyclic=True).between(west, west + width)
    inside = np.flatnonzero(offset <= width)
    if inside.size:
        assert sorted(found.tolist()) == inside.tolist()
    else:
        assert found.size == 1


def test_ties_go_to_the_larger_coordinate_in_both_directions():
    assert Axis("x", np.array([0.0, 1, 2])).nearest(0.5) == 1
    assert Axis("x", np.array([2.0, 1, 0])).nearest(0.5) == 1
    assert Axis("x", np.array([2.0, 1, 0])).nearest(1.5) == 0


def test_the_outer_edge_itself_is_inside():
    axis = Axis("x", np.array([0.0, 1, 2]))
    assert [axis.nearest(value) for value in (-0.5, 2.5)] == [0, 2]
    assert [axis.nearest(value) for value in (-0.51, 2.51)] == [None, None]


def test_coordinates_of_32_bits_are_met_by_their_decimal_numbers():
    axis = Axis("lat", np.arange(-1, 1, 0.1, np.float32).astype(float), precision=5e-7)
    assert axis.between(-0.5, 0.3).tolist() == list(range(5, 14))
    assert axis.nearest(-1.05) == 0


def test_a_single_cell_has_the_size_it_is_given():
    assert Axis("x", np.array([5.0]), cell=2.0).nearest(5.9) == 0
    assert Axis("x", np.array([5.0]), cell=2.0).nearest(6.1) is None
    assert Axis("x", np.array([5.0])).nearest(5.1) is None
    assert Axis("x", np.array([5.0])).nearest(5.0) == 0


def test_the_seam_goes_on_in_coordinates():
    axis = Axis("lon", np.arange(0, 360, 10.0), cyclic=True)
    found = axis.between(-25, 25)
    assert axis.values[found].tolist() == [340, 350, 0, 10, 20]
    assert axis.unrolled(found, -25).tolist() == [-20, -10, 0, 10, 20]


def test_a_gap_of_regional_longitudes_is_outside():
    axis = Axis("lon", np.arange(170, 200, 1.0), cyclic=True)
    assert axis.nearest(-170) == 20
    assert axis.nearest(190) == 20
    assert axis.nearest(0) is None
    assert axis.values[axis.between(-179, -175)].tolist() == [181, 182, 183, 184, 185]
    assert axis.between(0, 100).size == 0
    assert axis.between(-170.4, -170.3).tolist() == [20]


def test_regularity():
    assert Axis("x", np.arange(5.0)).regular
    assert Axis("x", np.arange(5, 6, 0.1, np.float32).astype(float)).regular
    assert not Axis("x", np.array([0.0, 1, 3])).regular
