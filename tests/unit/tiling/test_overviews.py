"""Pictures of low zooms show overviews where a cube has them, each the coarsest that is fine enough."""

import numpy as np
import pytest

from cubegate.errors import NotFound
from cubegate.query.budget import plan_query
from cubegate.query.conditions import parse_conditions
from cubegate.query.crs import parse_crs
from cubegate.query.lattice import Lattice
from cubegate.query.variables import GridSettings
from cubegate.tiling.layers import find_layers
from cubegate.tiling.overviews import overview_groups
from cubegate.tiling.picture import View, plan_picture


class Grouped:
    id, grid_settings = "grouped", GridSettings()

    def __init__(self, groups):
        self.groups = groups

    async def dataset(self, group=""):
        if group not in self.groups:
            raise NotFound(group)
        return self.groups[group]

    async def sidecar(self, group):
        return None

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
