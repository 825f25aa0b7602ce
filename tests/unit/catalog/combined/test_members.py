"""The members of a combined collection: broken, changed, forgotten, misconfigured; and what queries cost."""

import asyncio
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from cubegate.catalog.checking import check_cube
from cubegate.catalog.chunk_layout import describe_layout
from cubegate.catalog.inspection import describe_cube
from cubegate.errors import (
    BudgetExceeded,
    ConfigurationError,
    CubegateError,
    InvalidParameter,
    NotFound,
)
from cubegate.query import parameters
from cubegate.query.points import read_points
from cubegate.query.selection import Selection
from cubegate.settings import LimitSettings
from cubegate.store.encoded import EncodedStore

from .cubes import (
    BOTH,
    ONLY_POLAR,
    ONLY_UTM,
    UTM_TIMES,
    Made,
)


async def test_what_is_too_large_is_refused_before_anything_is_read(mounted, polar, utm, monkeypatch):
    ask = await mounted(polar=polar, utm=utm)
    await ask.point(lon="-50", lat="65")
    await ask.point(lon="-49.6", lat="65")

    async def read(*_):
        raise AssertionError("read")

    monkeypatch.setattr(EncodedStore, "read", read)
    monkeypatch.setattr("cubegate.query.selection.load_variable", read)
    items = [("bbox", BOTH), ("variables", "v")]
    whole = (await ask.plan(parameters.read_cube(items).query)).price
    for share in (1.5, 5, 60, 10_000):
        limits = LimitSettings(cells=int(whole.cells / share))
        plan = await ask.plan(parameters.read_cube(items).query, limits=limits)
        with pytest.raises(BudgetExceeded) as caught:
            await plan.enforce()
        assert caught.value.hint == await plan.hint()
        assert caught.value.hint.startswith("It would fit with ")
        offered = dict(re.findall(r"(datetime|bbox|bbox-crs)=([^\s&]+?)(?=[.]?$|\s|&)", caught.value.hint))
        assert offered
        smaller = parameters.read_cube({**dict(items), **offered}.items()).query
        assert (await ask.plan(smaller, limits=limits)).price.within(limits)
    rows = "lon,lat\n" + "\n".join(["-50,65", "-49.6,65"] * 20)
    points = read_points(rows.encode(), "text/csv", None, 1000)
    query = parameters.read_table([("variables", "v")], points).query
    plan = await ask.plan(query, limits=LimitSettings(cells=100))
    with pytest.raises(BudgetExceeded, match=r"Up to \d+ of these points at once would fit"):
        await plan.enforce()
    assert (await ask.plan(query)).price.cells == 20 * 4 + 20 * 3 + 40 * 5


async def test_a_cube_that_cannot_be_opened_fails_for_its_own_places_only(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    (tmp_path / "utm.zarr").rename(tmp_path / "away.zarr")
    combined = await ask.catalog.get("all")
    before = combined.version
    assert [note.partition(":")[0] for note in combined.notes] == ["utm"]
    assert not combined.immutable
    for lon in ("-50.1", "-49.9"):
        assert (await ask.point(lon=lon, lat="65")).facts == {"cube": "polar"}
    assert (await ask.area("-50.05,64.98,-49.98,65.02")).facts == {"cube": "polar"}
    # no one knows whether it has the last of these places
    for lon in ("-49.6", "-40"):
        with pytest.raises(CubegateError) as caught:
            await ask.point(lon=lon, lat="65")
        assert not isinstance(caught.value, InvalidParameter)
    for bbox in (BOTH, ONLY_UTM, None):
        with pytest.raises(CubegateError) as caught:
            await ask.area(bbox)
        assert not isinstance(caught.value, InvalidParameter)
    (tmp_path / "away.zarr").rename(tmp_path / "utm.zarr")
    assert (await ask.point(lon="-49.6", lat="65")).facts == {"cube": "utm"}
    assert (await ask.catalog.get("all")).version != before


async def test_a_broken_cube_that_comes_first_may_own_any_place(mounted, polar, utm, tmp_path):
    ask = await mounted(utm=utm, polar=polar)
    (tmp_path / "utm.zarr").rename(tmp_path / "away.zarr")
    for work in (ask.point(lon="-50.1", lat="65"), ask.area(ONLY_POLAR)):
        with pytest.raises(CubegateError) as caught:
            await work
        assert not isinstance(caught.value, InvalidParameter)


async def test_an_area_over_a_chunk_that_cannot_be_read_fails(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    whole = await ask.area(BOTH)
    for chunk in (tmp_path / "utm.zarr" / "v").glob("0.*"):
        chunk.write_bytes(b"broken")
    ask.catalog._cubes.clear()
    with pytest.raises(CubegateError):
        await ask.area(BOTH)
    with pytest.raises(CubegateError):
        await ask.table(["-50,65", "-49.6,65"], variables="v")
    assert (await ask.point(lon="-50", lat="65", variables="v")).facts == {"cube": "polar"}
    assert whole.dataset.v.notnull().any()


async def test_a_change_of_a_member_is_noticed(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    old = await ask.catalog.get("all")
    versions = {old.version}
    identities = {old.identity}
    changed = Made("EPSG:32622", -49.75, 65.0, 120.0, 140, [*UTM_TIMES, "2020-05-01"], 12)
    changed.write(tmp_path / "utm.zarr")
    new = await ask.catalog.get("all")
    versions.add(new.version)
    found = await ask.point(lon="-49.6", lat="65", variables="v")
    row, column = changed.cells(4326, -49.6, 65.0)
    order = np.argsort(changed.times, kind="stable")
    np.testing.assert_array_equal(found.dataset.v, changed.values[order, row, column])
    (tmp_path / "collections/utm.yaml").write_text(
        "id: utm\ntitle: Changed\nsource: {kind: zarr, href: ../utm.zarr}\n"
    )
    configured = await ask.catalog.get("all")
    assert configured is not new
    identities |= {new.identity, configured.identity}
    assert (len(versions), len(identities)) == (2, 3)
    assert await ask.catalog.get(f"all@{configured.version}") is configured
    with pytest.raises(NotFound, match="not mounted in version"):
        await ask.catalog.get(f"all@{old.version}")


async def test_members_that_are_forgotten_are_held(mounted, polar, utm, monkeypatch):
    ask = await mounted(polar=polar, utm=utm)
    monkeypatch.setattr("cubegate.catalog.catalog.MAX_OPENED", 1)
    combined = await ask.catalog.get("all")
    assert ask.catalog.opened == 1
    found = await asyncio.gather(*(ask.point(lon=lon, lat="65") for lon in ("-50", "-49.6", "-50", "-49.6")))
    assert [each.facts["cube"] for each in found] == ["polar", "utm", "polar", "utm"]
    assert await ask.catalog.get("all") is combined


@pytest.mark.parametrize(
    ("source", "key", "said"),
    [
        ("{kind: combined, members: [a, absent]}", "source.members", "no collection 'absent'. Add its file"),
        (
            "{kind: combined, members: [a, other]}",
            "source.members",
            "'other' is itself a combined collection",
        ),
        ("{kind: combined, members: [all]}", "source.members", "itself a combined"),
        ("{kind: combined, members: [a, a]}", "source.members", "'a' is named twice"),
        ("{kind: combined, members: []}", "source.members", "Add it."),
        ("{kind: combined}", "source.members", "Add it."),
        ("{kind: combined, members: [a], href: a.zarr}", "source.href", "has members, and no href"),
        ("{kind: combined, members: [a], group: b}", "source.group", "has this from its members"),
        (
            "{kind: zarr, href: a.zarr, members: [a]}",
            "source.members",
            "only a collection of the kind combined",
        ),
        ("{kind: combined, members: [a]}\ncrs: EPSG:3413", "crs", "has this from its members"),
        ("{kind: combined, members: [a]}\nvariables: [v]", "variables", "has this from its members"),
    ],
)
def test_errors_name_the_file_the_key_and_the_mend(opened, tmp_path, source, key, said):
    zarr = "source: {kind: zarr, href: a.zarr}"
    with pytest.raises(ConfigurationError) as caught:
        opened(a=zarr, other="source: {kind: combined, members: [a]}", all=f"source: {source}")
    assert (caught.value.file, caught.value.key) == (str(tmp_path / "collections/all.yaml"), key)
    assert said in str(caught.value)


async def test_a_combined_collection_has_no_store(mounted, polar, utm):
    ask = await mounted(polar=polar, utm=utm)
    with pytest.raises(NotFound, match=r"/datasets/polar/, /datasets/utm/\."):
        await ask.catalog.stored("all")
    assert (await ask.catalog.stored("utm")).id == "utm"
    assert ask.catalog.ids() == ["all", "polar", "utm"]


async def test_a_cube_without_a_crs_is_named(mounted, polar, tmp_path):
    plain = SimpleNamespace(write=lambda path, **_: xr.Dataset(
        {"v": (("y", "x"), np.zeros((3, 4)))}, {"x": np.arange(4) * 10.0, "y": np.arange(3) * 10.0}
    ).to_zarr(path, zarr_format=2))  # fmt: skip
    ask = await mounted(polar=polar, plain=plain)
    assert (await ask.point(lon="-50", lat="65")).facts == {"cube": "polar"}
    with pytest.raises(InvalidParameter, match="'plain' has no known coordinate reference system"):
        await ask.point(lon="-40", lat="65")


async def test_inspect_lists_the_members_and_where_they_lie(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    console = Console(file=io.StringIO(), width=240)
    console.print(*await describe_cube(await ask.catalog.get("all")))
    text = " ".join(console.file.getvalue().split())
    version = (await ask.catalog.get("utm")).version
    assert "combined of 2 cubes" in text
    west, north = utm.x[0] - 60, utm.y[0] + 60
    assert f"2 utm: version {version}, x {west:.10g} to {west + 140 * 120:.10g}, y" in text
    assert f"to {north:.10g} (EPSG:32622), x -49.9" in text
    assert "1 polar: version" in text
    (part,) = await describe_layout(await ask.catalog.get("all"))
    assert "polar, utm" in str(part)


async def test_check_says_which_members_cannot_be_used(mounted, polar, utm, tmp_path):
    ask = await mounted(polar=polar, utm=utm)
    console = Console(file=io.StringIO(), width=240)
    assert await check_cube(ask.catalog, "all", 1, console) == 0
    assert console.file.getvalue().strip().endswith("2 members, whose chunks are checked as theirs: ok")
    (tmp_path / "utm.zarr").rename(tmp_path / "away.zarr")
    console = Console(file=io.StringIO(), width=240)
    assert await check_cube(ask.catalog, "all", 1, console) == 1
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("all: member utm: cannot be used: ")
    assert lines[1].endswith(": 1 failures")


async def test_members_are_read_at_the_same_time(mounted, polar, utm, monkeypatch):
    ask = await mounted(polar=polar, utm=utm)
    load, reading, most = Selection.load, 0, 0

    async def counted(selection):
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        # whoever is to begin now has begun
        await asyncio.sleep(0)
        try:
            return await load(selection)
        finally:
            reading -= 1

    monkeypatch.setattr(Selection, "load", counted)
    for work in (ask.area(BOTH), ask.table(["-50,65", "-49.6,65"], variables="v")):
        most = 0
        await work
        assert most == 2
    assert reading == 0


async def test_a_member_whose_file_is_removed_is_told_and_still_mounted(
    mounted, polar, utm, tmp_path, caplog
):
    ask = await mounted(polar=polar, utm=utm)
    before = await ask.catalog.get("all")
    (tmp_path / "collections/utm.yaml").unlink()
    assert await ask.catalog.get("all") is before
    assert (await ask.point(lon="-49.6", lat="65")).facts == {"cube": "utm"}
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert str(tmp_path / "collections/all.yaml") in message
    assert "no collection 'utm'" in message
