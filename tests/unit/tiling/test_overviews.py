"""Pictures of low zooms show overviews where a cube has them, each the coarsest that is fine enough."""

from dataclasses import replace

import numpy as np
import pytest

from cubegate.errors import NotFound
from cubegate.query.budget import plan_query
from cubegate.query.conditions import parse_conditions
from cubegate.query.crs import parse_crs
from cubegate.query.lattice import Lattice
from cubegate.query.variables import GridSettings
from cubegate.settings import LimitSettings
from cubegate.tiling.layers import find_layers
from cubegate.tiling.overviews import overview_groups
from cubegate.tiling.picture import View, plan_picture
from cubegate.tiling.zooms import _dearest_date


class Grouped:
    id, grid_settings = "grouped", GridSettings()

    def __init__(self, groups, beside=None):
        self.groups, self.beside = groups, beside

    async def dataset(self, group=""):
        if group not in self.groups:
            raise NotFound(group)
        return self.groups[group]

    async def sidecar(self, group):
        return None if self.beside is None else (self.beside, f"made/{group}".strip("/"))

    async def plan(self, group, query, limits):
        return plan_query(self.groups[group], self.grid_settings, query, limits)


def coarser(dataset, factor, **more):
    """Every cell of an overview has a value that tells it from the cells of all other levels."""
    found = dataset.coarsen(x=factor, y=factor).mean(keep_attrs=True)
    values = np.arange(found.v.size, dtype="f4").reshape(found.v.shape) + 1000 * factor
    return (
        found.assign(v=(found.v.dims, values, dataset.v.attrs))
        .drop_vars("mapping")
        .assign(mapping=dataset.mapping, **more)
    )


@pytest.fixture
def grouped(made):
    base = made["utm"][0].isel(x=slice(0, 160), y=slice(0, 144))
    layout = [
        {"asset": "."},
        *({"asset": f"overview_{factor}"} for factor in (4, 2, 8)),
        {"asset": "lost"},
        7,
        {"asset": None},
    ]
    attributes = {"multiscales": {"layout": layout}}
    groups = {f"overview_{factor}": coarser(base, factor) for factor in (2, 4, 8)}
    return Grouped({"": base.assign_attrs(attributes), **groups})


def lattice_of(cells, size=16):
    """In the cube's own CRS, pixels of so many cells."""
    return Lattice(parse_crs("EPSG:32611"), 400_000, 3_900_015, 30.0 * cells, 30.0 * cells, size, size)


@pytest.mark.parametrize(
    ("cells", "level"), [(1, 1), (1.9, 1), (2, 2), (3.9, 2), (4, 4), (7, 4), (9, 8), (10, 8)]
)
async def test_the_coarsest_that_is_fine_enough_is_shown(grouped, limits, cells, level):
    layer = (await find_layers([grouped], ""))["v"]
    picture = await plan_picture(View(layer, layer.times[1]), lattice_of(cells, 8), limits)
    group = "" if level == 1 else f"overview_{level}"
    assert picture.pieces[0][0].group == group
    values = await picture.load()
    places = np.floor((np.arange(8) + 0.5) * cells / level).astype(int)
    np.testing.assert_array_equal(values, grouped.groups[group].v.values[1][np.ix_(places, places)])


async def test_with_a_mask_the_cells_themselves_are_shown(grouped, limits):
    layer = (await find_layers([grouped], ""))["v"]
    view = View(layer, layer.times[1], mask=parse_conditions(["v>-100"], "mask"))
    assert (await plan_picture(view, lattice_of(8), limits)).pieces[0][0].group == ""


async def test_what_shows_other_dates_or_places_is_no_overview(grouped):
    grouped.groups["overview_2"] = grouped.groups["overview_2"].isel(time=slice(0, 2))
    moved = grouped.groups["overview_4"]
    grouped.groups["overview_4"] = moved.assign_coords(x=moved.x + 1000)
    layer = (await find_layers([grouped], ""))["v"]
    assert [each.group for each in layer.parts[0].overviews] == ["overview_8"]


@pytest.mark.parametrize(
    "told",
    [
        None,
        "overview_2",
        {"layout": "x"},
        {"layout": {"a": 1}},
        {"layout": [None, {"asset": 5}, {"asset": "."}, {}]},
        [1],
    ],
)
def test_what_is_told_in_another_form_is_not_believed(made, told):
    assert overview_groups(made["utm"][0].assign_attrs(multiscales=told), "") == ()


@pytest.fixture
def beside(made):
    """A cube of odd sizes, whose overviews are in another store and reach beyond it."""
    base = made["utm"][0].isel(x=slice(0, 153), y=slice(0, 137))
    # so many cells that a whole number of larger ones lies over 153 x 137
    whole = {
        factor: made["utm"][0].isel(
            x=slice(0, -(-153 // factor) * factor), y=slice(0, -(-137 // factor) * factor)
        )
        for factor in (2, 4, 8)
    }
    layout = [{"asset": f"overview_{factor}"} for factor in (2, 4, 8)]
    groups = {f"made/overview_{factor}": coarser(whole[factor], factor) for factor in (2, 4, 8)}
    told = base.drop_vars(list(base.variables)).assign_attrs(multiscales={"layout": layout})
    return Grouped({"": base}, Grouped({"made": told, **groups}))


def wide(cells, size):
    return Lattice(parse_crs("EPSG:32611"), 400_000, 3_900_015, 30.0 * cells, 30.0 * cells, size, size)


async def test_overviews_beside_a_cube_end_where_it_ends(beside, limits):
    layer = (await find_layers([beside], ""))["v"]
    assert [each.group for each in layer.parts[0].overviews] == [f"made/overview_{n}" for n in (2, 4, 8)]
    picture = await plan_picture(View(layer, layer.times[1]), wide(8, 24), limits)
    assert picture.pieces[0][0].group == "made/overview_8"
    values = await picture.load()
    centres = 8 * (np.arange(24) + 0.5)
    inside = (centres < 137)[:, None] & (centres < 153)
    np.testing.assert_array_equal(np.isfinite(values), inside)
    truth = beside.beside.groups["made/overview_8"].v.values[1]
    np.testing.assert_array_equal(values[:17, :19], truth[:17, :19])


async def test_a_date_that_an_overview_lacks_is_drawn_of_the_cells(beside, limits):
    for name in ("made/overview_2", "made/overview_4", "made/overview_8"):
        beside.beside.groups[name] = beside.beside.groups[name].isel(time=[0, 2])
    layer = (await find_layers([beside], ""))["v"]
    shown = [
        (await plan_picture(View(layer, date), wide(8, 8), limits)).pieces[0][0].group for date in layer.times
    ]
    assert shown == ["made/overview_8", "", "made/overview_8"]
    # the date that is dearest decides where tiles begin
    assert _dearest_date(layer) == layer.times[1]
    beside.beside.groups["made/overview_2"] = beside.beside.groups["made/overview_2"].isel(time=[1, 0])
    layer = (await find_layers([beside], ""))["v"]
    assert [each.group for each in layer.parts[0].overviews] == ["made/overview_4", "made/overview_8"]


async def test_of_several_values_at_one_date_the_overview_must_have_all(beside, limits):
    twice = beside.groups[""].time.values[[0, 1, 1]]
    beside.groups[""] = beside.groups[""].assign_coords(time=twice)
    for name, dates in (
        ("made/overview_2", [1, 1]),
        ("made/overview_4", [1]),
        ("made/overview_8", [0, 1, 1]),
    ):
        group = beside.beside.groups[name].isel(time=slice(0, len(dates)))
        beside.beside.groups[name] = group.assign_coords(time=beside.groups[""].time.values[dates])
    layer = (await find_layers([beside], ""))["v"]
    assert [each.group for each in layer.parts[0].overviews] == ["made/overview_2", "made/overview_8"]


async def test_larger_cells_are_shown_where_the_others_would_cost_too_much(beside, monkeypatch):
    async def plan(self, group, query, limits):
        found = plan_query(self.groups[group], self.grid_settings, query, limits)
        chunks = {"": 500, "made/overview_2": 400, "made/overview_4": 10, "made/overview_8": 1}[group]
        return replace(found, price=replace(found.price, chunks=chunks))

    monkeypatch.setattr(Grouped, "plan", plan)
    layer = (await find_layers([beside], ""))["v"]
    for cells, most, level in ((3, 400, 2), (3, 399, 4), (5, 20, 4), (1, 450, 2), (9, 1, 8), (3, 1, 4)):
        limits = LimitSettings(chunks=most)
        picture = await plan_picture(View(layer, layer.times[1]), wide(cells, 8), limits)
        assert picture.pieces[0][0].group == f"made/overview_{level}", cells
    # a map may read as much as the tiles that it would take
    picture = await plan_picture(View(layer, layer.times[1]), wide(3, 512), LimitSettings(chunks=100))
    assert picture.pieces[0][0].group == "made/overview_2"
    picture = await plan_picture(View(layer, layer.times[1]), wide(3, 511), LimitSettings(chunks=100))
    assert picture.pieces[0][0].group == "made/overview_4"
