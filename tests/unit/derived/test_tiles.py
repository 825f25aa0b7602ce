"""Large selections are computed in tiles: the values are the same, and no chunk is read twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.derived.cubes import by_hand, stack

from cubegate.derived import array
from cubegate.derived.array import tiles_of
from cubegate.store.encoded import EncodedStore

DERIVED = """
  c: {kind: continuous, variable: displacement}
  r: {kind: continuous, variable: displacement, reference: {kind: point, lon: -116.9942, lat: 35.242}}
  speed: {kind: speed, x: displacement, y: displacement}
  shear: {kind: strain, component: shear, x: displacement, y: displacement, units: m/year}
"""


@pytest.mark.parametrize("largest", [1, 100, 1500, 5000])
async def test_tiles_change_no_value_and_read_each_chunk_once(  # noqa: PLR0917
    open_cube, asking, truth, monkeypatch, largest, compared
):
    dataset = stack(truth.stored, truth.times, truth.references)
    del dataset.displacement.attrs["units"]
    cube = await open_cube(dataset, DERIVED)
    at_once = await asking.box(cube, ["c", "r", "speed", "shear"])
    np.testing.assert_array_equal(at_once.c.values, by_hand(truth.stored, truth.times, truth.references))
    monkeypatch.setattr(array, "LARGEST", largest)
    read = EncodedStore.read
    asked = []

    async def counted(self, metadata, chunks, deliver):
        asked.extend(tuple(map(int, chunk)) for chunk in chunks)
        await read(self, metadata, chunks, deliver)

    monkeypatch.setattr(EncodedStore, "read", counted)
    for name, inputs in (("c", 1), ("r", 1), ("speed", 2), ("shear", 2)):
        asked.clear()
        box = await asking.box(cube, [name])
        np.testing.assert_array_equal(box[name].values, at_once[name].values)
        compared(box[name].values)
        at_pixel = 12 if name == "r" else 0
        assert len(asked) == inputs * 12 * 12 + at_pixel


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 7)), min_size=1, max_size=3),
    st.integers(0, 200),
    st.sets(st.integers(0, 2)),
)
def test_tiles_cover_all_once_and_stay_below_the_limit(axes, limit, whole):
    positions = [np.arange(size) for size, _ in axes]
    chunks = [chunk for _, chunk in axes]
    counts = np.zeros([size for size, _ in axes], int)
    for tile in tiles_of(positions, chunks, whole, limit):
        counts[tile] += 1
        cut = [each.stop - each.start for axis, each in enumerate(tile) if axis not in whole]
        smallest = [chunk for axis, chunk in enumerate(chunks) if axis not in whole]
        # a chunk is cut no further
        assert np.prod(cut) <= max(limit, 1) * np.prod(smallest)
        assert all(each.start % chunks[axis] == 0 for axis, each in enumerate(tile) if axis not in whole)
    assert (counts == 1).all()
