"""The catalog: one opening for all who wait, nothing remembered that failed, and every change noticed."""

import asyncio
import gc
import logging
import threading
from unittest.mock import AsyncMock

import numpy as np
import pytest

from cubegate.catalog.catalog import Catalog
from cubegate.errors import ConfigurationError, NotFound, UpstreamUnavailable
from cubegate.index.build import build_index
from cubegate.index.file import write_index

KERCHUNK = "source: {kind: kerchunk, href: ../stack/stack.json}"


class Openings:
    """An opener that waits to be let through, and fails as often as it is told to."""

    def __init__(self):
        self.calls, self.failures, self.begun, self.open = 0, 0, asyncio.Event(), asyncio.Event()

    async def __call__(self, collection, file):
        self.calls += 1
        self.begun.set()
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise UpstreamUnavailable("Not now.")
        return FakeCube(collection)


class FakeCube:
    """As much of a datacube as the catalog looks at."""

    version, notes = "1", ()

    def __init__(self, collection):
        self.collection = collection


@pytest.fixture
def openings():
    return Openings()


@pytest.fixture
def catalog(tmp_path, openings, look_always):
    (tmp_path / "a.yaml").write_text("id: a\nsource: {kind: zarr, href: a.zarr}\n")
    catalog = Catalog(["*.yaml"], tmp_path, openings)
    catalog.load()
    return catalog


async def test_many_callers_share_one_opening(catalog, openings):
    waiting = [asyncio.ensure_future(catalog.get(name)) for name in ["a", "a@1"] * 10]
    await openings.begun.wait()
    openings.open.set()
    cubes = await asyncio.gather(*waiting)
    assert openings.calls == 1
    assert len({id(cube) for cube in cubes}) == 1
    assert await catalog.get("a") is cubes[0]
    assert openings.calls == 1


async def test_a_failure_is_told_to_all_who_wait_and_not_remembered(catalog, openings, monkeypatch):
    # whose look at the files takes longer would come after the failure
    monkeypatch.setattr(catalog, "refresh", AsyncMock())
    openings.failures = 1
    waiting = [asyncio.ensure_future(catalog.get("a")) for _ in range(5)]
    await openings.begun.wait()
    openings.open.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamUnavailable] * 5
    assert openings.calls == 1
    assert (await catalog.get("a")).version == "1"
    assert openings.calls == 2


async def test_a_caller_who_leaves_does_not_stop_the_others(catalog, openings):
    first, second = (asyncio.ensure_future(catalog.get("a")) for _ in range(2))
    await openings.begun.wait()
    first.cancel()
    await asyncio.sleep(0)
    openings.open.set()
    assert (await second).version == "1"
    assert first.cancelled()
    assert openings.calls == 1


async def test_a_failure_that_nobody_waits_for_any_more_is_silent(catalog, openings, caplog):
    openings.failures = 1
    caller = asyncio.ensure_future(catalog.get("a"))
    await openings.begun.wait()
    caller.cancel()
    openings.open.set()
    await asyncio.gather(caller, return_exceptions=True)
    await asyncio.sleep(0)
    assert (await catalog.get("a")).version == "1"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_several_event_loops_may_open_the_same_cube(catalog, openings):
    openings.open.set()
    found = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(catalog.get("a")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert [cube.version for cube in found] == ["1"] * 4


@pytest.mark.parametrize("name", ["b", "", "A", "a@2", "a@", "../a", "b@1"])
async def test_what_does_not_exist_is_not_found(catalog, openings, name):
    openings.open.set()
    with pytest.raises(NotFound):
        await catalog.get(name)


async def test_a_collection_file_that_is_added_changed_or_removed_is_noticed(catalog, openings, tmp_path):
    openings.open.set()
    assert catalog.ids() == ["a"]
    (tmp_path / "b.yaml").write_text("id: b\nsource: {kind: zarr, href: b.zarr}\n")
    assert catalog.ids() == ["a", "b"]
    before = await catalog.get("b")
    (tmp_path / "b.yaml").write_text("id: b\ntitle: Second\nsource: {kind: zarr, href: b.zarr}\n")
    after = await catalog.get("b")
    assert (before.collection.title, after.collection.title) == ("", "Second")
    assert openings.calls == 2
    (tmp_path / "b.yaml").unlink()
    assert catalog.ids() == ["a"]
    with pytest.raises(NotFound, match="'b'"):
        await catalog.get("b")


async def test_a_broken_collection_file_keeps_what_was_mounted(catalog, openings, tmp_path, caplog):
    openings.open.set()
    await catalog.get("a")
    (tmp_path / "a.yaml").write_text("id: a\nsauce: {}\n")
    assert (await catalog.get("a")).collection.source.href == "a.zarr"
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert str(tmp_path / "a.yaml") in message
    assert "sauce" in message
    (tmp_path / "a.yaml").write_text("id: a\nsource: {kind: zarr, href: mended.zarr}\n")
    assert (await catalog.get("a")).collection.source.href == "mended.zarr"


async def test_files_are_not_looked_at_more_often_than_the_interval(catalog, openings, tmp_path, monkeypatch):
    openings.open.set()
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 3600.0)
    await catalog.get("a")
    (tmp_path / "a.yaml").unlink()
    (tmp_path / "b.yaml").write_text("id: b\nsource: {kind: zarr, href: b.zarr}\n")
    assert catalog.ids() == ["a"]
    assert (await catalog.get("a")).version == "1"


async def test_what_is_held_is_what_get_returns_without_a_look_at_a_file(
    catalog, openings, tmp_path, monkeypatch
):
    openings.open.set()
    cube = await catalog.get("a")
    assert catalog.held("a") is None
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 3600.0)
    assert [catalog.held(name) is cube for name in ("a", "a@1")] == [True] * 2
    assert [catalog.held(name) for name in ("a@", "a@2", "b", "", "A")] == [None] * 5
    assert openings.calls == 1


async def test_what_a_changed_collection_file_replaced_is_not_held(catalog, openings, tmp_path, monkeypatch):
    openings.open.set()
    before = await catalog.get("a")
    (tmp_path / "a.yaml").write_text("id: a\ntitle: Second\nsource: {kind: zarr, href: a.zarr}\n")
    (tmp_path / "b.yaml").write_text("id: b\nsource: {kind: zarr, href: b.zarr}\n")
    assert catalog.ids() == ["a", "b"]
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 3600.0)
    assert catalog.held("a") is None
    after = await catalog.get("a")
    assert after is not before
    assert catalog.held("a") is after
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 0.0)
    (tmp_path / "a.yaml").unlink()
    assert catalog.ids() == ["b"]
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 3600.0)
    assert catalog.held("a") is None


def test_an_invalid_file_at_the_start_is_an_error(tmp_path, openings):
    (tmp_path / "a.yaml").write_text("id: a\n")
    with pytest.raises(ConfigurationError, match="source"):
        Catalog(["*.yaml"], tmp_path, openings).load()


def test_a_pattern_without_a_file_is_told_to_the_operator(tmp_path, openings, caplog):
    Catalog(["collection/*.yaml"], tmp_path, openings).load()
    assert "collection/*.yaml" in caplog.text


async def test_references_written_anew_give_the_new_cube(opened, stack, other_stack, tmp_path):
    catalog = opened(a=KERCHUNK)
    old = await catalog.get("a")
    other_stack.references.replace(stack.references)
    new = await catalog.get("a")
    assert new.version != old.version
    for cube, expected in ((old, stack.displacement), (new, other_stack.displacement)):
        dataset = await cube.dataset()
        np.testing.assert_array_equal((await dataset.displacement.load_async()).values, expected)


async def test_an_index_file_replaced_under_a_running_catalog(opened, stack, other_stack, tmp_path):
    catalog = opened(a="source: {kind: index, href: ../a.index}", k=KERCHUNK)
    upstreams = catalog._opener._upstreams
    for name, references in (("a.index", stack.references), ("b.index", other_stack.references)):
        index = await build_index(references.as_uri(), upstreams, check_url=upstreams.check)
        write_index(index, tmp_path / name)
    old = await catalog.get("a")
    running = (await old.dataset()).displacement
    assert old.version == (await catalog.get("k")).version
    (tmp_path / "b.index").replace(tmp_path / "a.index")
    new = await catalog.get("a")
    assert new.version not in ("", old.version)
    assert (await catalog.get(f"a@{new.version}")) is new
    with pytest.raises(NotFound, match=old.version):
        await catalog.get(f"a@{old.version}")
    # a request that began with the old cube ends with it
    np.testing.assert_array_equal((await running.load_async()).values, stack.displacement)
    np.testing.assert_array_equal((await new.dataset()).displacement.values, other_stack.displacement)


async def test_a_missing_index_file_is_named_with_what_makes_it(opened, tmp_path):
    catalog = opened(a="source: {kind: index, href: ../absent.index}")
    with pytest.raises(ConfigurationError, match=r"cubegate index") as caught:
        await catalog.get("a")
    assert (caught.value.file, caught.value.key) == (str(tmp_path / "collections/a.yaml"), "source.href")


def add_collections(directory, names):
    for name in names:
        (directory / f"{name}.yaml").write_text(f"id: {name}\nsource: {{kind: zarr, href: {name}.zarr}}\n")


async def test_the_cube_that_was_not_used_for_longest_is_forgotten(catalog, openings, tmp_path, monkeypatch):
    monkeypatch.setattr("cubegate.catalog.catalog.MAX_OPENED", 2)
    openings.open.set()
    add_collections(tmp_path, "bc")
    a, b = await catalog.get("a"), await catalog.get("b")
    assert await catalog.get("a") is a
    c = await catalog.get("c")
    assert (catalog.opened, openings.calls) == (2, 3)
    assert (await catalog.get("a"), await catalog.get("c")) == (a, c)
    assert openings.calls == 3
    assert await catalog.get("b") is not b
    assert (catalog.opened, openings.calls) == (2, 4)


async def test_many_cubes_at_once_are_all_opened(catalog, openings, tmp_path, monkeypatch):
    monkeypatch.setattr("cubegate.catalog.catalog.MAX_OPENED", 3)
    openings.open.set()
    names = [f"n{number}" for number in range(40)]
    add_collections(tmp_path, names)
    cubes = await asyncio.gather(*(catalog.get(name) for name in names))
    assert [cube.collection.id for cube in cubes] == names
    assert catalog.opened == 3


async def test_a_cube_that_is_forgotten_while_it_is_read_is_read_to_its_end(opened, stack, monkeypatch):
    monkeypatch.setattr("cubegate.catalog.catalog.MAX_OPENED", 1)
    catalog = opened(a=KERCHUNK, b=KERCHUNK)
    write_index((await catalog.get("a")).store.locator, stack.references.parent.parent / "c.index")
    (stack.references.parent.parent / "collections/c.yaml").write_text(
        "id: c\nsource: {kind: index, href: ../c.index}\n"
    )
    running = (await (await catalog.get("c")).dataset()).displacement
    await catalog.get("b")
    assert catalog.opened == 1
    gc.collect()
    np.testing.assert_array_equal((await running.load_async()).values, stack.displacement)


async def test_what_was_looked_at_lately_is_not_waited_for(catalog, openings, monkeypatch):
    openings.open.set()
    cube = await catalog.get("a")
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 3600.0)
    looking = threading.Event()
    monkeypatch.setattr(catalog._watch, "_look", looking.wait)
    catalog._watch._began -= 3601
    # the look that this begins does not end before it has been answered
    assert await catalog.get("a") is cube
    assert catalog.ids() == ["a"]
    assert catalog.held("a") is None
    looking.set()
