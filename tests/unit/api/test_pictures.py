"""What is remembered of cubes for their pictures: found once, and forgotten with the cube."""

import asyncio
import gc
import weakref

import pytest

from cubegate.api.pictures import Gallery, gallery
from cubegate.errors import NotFound
from cubegate.settings import LimitSettings


class Cube:
    picture_identity = "one"

    def refresh_overviews(self):
        pass


async def test_what_many_ask_for_at_once_is_found_once():
    known = Gallery(Cube(), LimitSettings())
    found = []

    async def find():
        found.append(1)
        await asyncio.sleep(0.01)
        return "it"

    assert await asyncio.gather(*[known._once(("a",), find()) for _ in range(5)]) == ["it"] * 5
    assert len(found) == 1
    assert known._turns == {}


async def test_an_error_is_not_remembered_and_leaves_nothing_behind():
    known = Gallery(Cube(), LimitSettings())

    async def fail():
        raise NotFound("no")

    for number in range(3):
        with pytest.raises(NotFound):
            await known._once((number,), fail())
    assert (known._turns, known._known) == ({}, {})


def test_a_cube_that_changed_is_looked_at_again_and_one_that_is_gone_is_forgotten():
    cube = Cube()
    first = gallery(cube, LimitSettings())
    assert gallery(cube, LimitSettings()) is first
    cube.picture_identity = "two"
    second = gallery(cube, LimitSettings())
    assert second is not first
    gone = weakref.ref(second)
    del cube, second
    gc.collect()
    assert gone() is None


def test_a_tile_may_read_what_is_set_and_a_map_as_much_for_each_of_its_tiles():
    known = Gallery(Cube(), LimitSettings(tile_chunks=10))
    assert known.limits.chunks == 10
    assert known.limits_of(256 * 256).chunks == 10
    assert known.limits_of(100).chunks == 10
    assert known.limits_of(512 * 512).chunks == 40
    assert Gallery(Cube(), LimitSettings(chunks=3)).limits.chunks == 3
