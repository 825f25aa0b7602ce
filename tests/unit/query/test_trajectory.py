import numpy as np
import pytest
import shapely
import xarray as xr
from pyproj import CRS, Transformer

from cubegate.errors import BudgetExceeded, InvalidParameter
from cubegate.query.crs import lonlat
from cubegate.query.grid import find_grid
from cubegate.query.trajectory import Line, nearest_times, trace


def make_grid(x, y, crs):
    geographic = CRS.from_user_input(crs).is_geographic
    units = ("degrees_east", "degrees_north") if geographic else ("m", "m")
    dataset = xr.Dataset(
        {"v": (("y", "x"), np.zeros((len(y), len(x))))},
        {
            "x": ("x", x, {"units": units[0], "standard_name": "longitude" if geographic else "projection_x_coordinate"}),
            "y": ("y", y, {"units": units[1], "standard_name": "latitude" if geographic else "projection_y_coordinate"}),
        },
    )  # fmt: skip
    return find_grid(dataset, "v", crs=crs)


GRIDS = {
    "utm": make_grid(400_015 + 30.0 * np.arange(40), 3_900_000 - 30.0 * np.arange(30), "EPSG:32611"),
    "polar": make_grid(
        np.arange(-250_000, -200_000, 2_000.0), -2_000_000 - 1_000.0 * np.arange(40), "EPSG:3413"
    ),
    "ascending": make_grid(np.arange(0, 300, 10.0), np.arange(0, 400, 20.0), "EPSG:32633"),
    "uneven": make_grid(np.cumsum(np.linspace(1, 9, 25)), -np.cumsum(np.linspace(2, 7, 30)), "EPSG:32633"),
    "degrees": make_grid(np.arange(0, 360, 5.0), np.arange(87.5, -90, -5.0), "OGC:CRS84"),
}


def line_of(vertices, crs=None, m=None):
    x, y = np.array(vertices, float).T
    return Line(x, y, None if m is None else np.array(m, float), crs)


def cells_of(path, grid):
    return [(grid.y.nearest(y), grid.x.nearest(x)) for x, y in zip(path.points.x, path.points.y, strict=True)]


def crossed(grid, vertices):
    """The cells whose inside a line in the grid's CRS has a part of, by shapely, with how long that part is."""
    line = shapely.LineString(vertices)
    x, y = grid.x.edges, grid.y.edges
    west, south = np.meshgrid(x[:-1], y[:-1])
    east, north = np.meshgrid(x[1:], y[1:])
    inside = shapely.intersection(shapely.box(west, south, east, north), line)
    found = {}
    for row, column in zip(*np.nonzero(shapely.length(inside) > 0), strict=True):
        iy = len(y) - 2 - row if grid.y.descending else row
        ix = len(x) - 2 - column if grid.x.descending else column
        part = inside[row, column]
        middle = (
            line.project(part.interpolate(0.5, normalized=True)) if part.geom_type == "LineString" else None
        )
        found[int(iy), int(ix)] = shapely.length(part), middle
    return found


@pytest.mark.parametrize("name", ["utm", "polar", "ascending", "uneven"])
@pytest.mark.parametrize("seed", range(6))
def test_the_cells_of_a_straight_line_are_those_that_it_has_a_part_in(name, seed):
    grid = GRIDS[name]
    west, south, east, north = grid.bounds
    random = np.random.default_rng(seed)
    vertices = np.column_stack([random.uniform(west, east, 2), random.uniform(south, north, 2)])
    expected = crossed(grid, vertices)
    ordered = sorted(expected, key=lambda cell: expected[cell][1])
    found = cells_of(trace(line_of(vertices, grid.crs), (grid,), 10_000), grid)
    assert found == ordered
    assert len(found) > 3


@pytest.mark.parametrize("name", ["utm", "polar"])
def test_a_line_in_degrees_is_straight_there_and_bent_on_the_grid(name):
    grid = GRIDS[name]
    there = Transformer.from_crs(grid.crs, lonlat(), always_xy=True)
    west, south, east, north = grid.bounds
    ends = there.transform([west + 103, east - 107], [south + 151, north - 163])
    vertices = np.column_stack(ends)
    x, y = (np.linspace(*side, 20_001) for side in ends)
    bent = np.column_stack(there.transform(x, y, direction="INVERSE"))
    expected = crossed(grid, bent)
    sure = {
        cell for cell, (length, _) in expected.items() if length > 0.01 * (east - west) / len(grid.x.values)
    }
    found = cells_of(trace(line_of(vertices, lonlat()), (grid,), 10_000), grid)
    assert sure <= set(found) <= set(expected)
    assert len(found) == len(set(found)) > 30
    if name == "polar":
        straight = crossed(grid, bent[[0, -1]])
        assert set(straight) != set(found)


def test_a_line_that_comes_back_has_its_cells_again():
    grid = GRIDS["ascending"]
    out = cells_of(trace(line_of([(5, 5), (95, 5)], grid.crs), (grid,), 100), grid)
    both = cells_of(trace(line_of([(5, 5), (95, 5), (5, 5)], grid.crs), (grid,), 100), grid)
    assert out == [(0, ix) for ix in range(1, 11)]
    assert both == [*out, *out[-2::-1]]


def test_a_line_through_a_corner_has_no_third_cell():
    grid = GRIDS["ascending"]
    found = cells_of(trace(line_of([(10, 20), (30, 60)], grid.crs), (grid,), 100), grid)
    assert found == [(1, 1), (2, 2), (3, 3)]


def test_what_lies_outside_has_no_cells():
    grid = GRIDS["ascending"]
    found = cells_of(
        trace(line_of([(-100, 100), (25, 100), (25, -1000), (100, -1000), (100, 0)], grid.crs), (grid,), 100),
        grid,
    )
    assert (
        found == [*((5, ix) for ix in range(4)), *((iy, 3) for iy in range(4, -1, -1)), (0, 10)][: len(found)]
    )
    assert found[:4] == [(5, 0), (5, 1), (5, 2), (5, 3)]
    assert found[-1] == (0, 10)
    with pytest.raises(InvalidParameter, match="does not meet"):
        trace(line_of([(-100, 100), (-200, 100)], grid.crs), (grid,), 100)


def test_over_the_seam_of_longitudes():
    grid = GRIDS["degrees"]
    found = cells_of(trace(line_of([(-12, 1), (12, 1)], lonlat()), (grid,), 100), grid)
    assert [grid.x.values[ix] for _, ix in found] == [350, 355, 0, 5, 10]
    found = cells_of(trace(line_of([(170, 1), (190, 1)], lonlat()), (grid,), 100), grid)
    assert [grid.x.values[ix] for _, ix in found] == [170, 175, 180, 185, 190]


def test_times_go_evenly_from_vertex_to_vertex():
    grid = GRIDS["ascending"]
    line = line_of([(0, 0), (100, 0), (100, 100)], grid.crs, m=[0, 1000, 3000])
    path = trace(line, (grid,), 100)
    x, y = np.array(path.points.x), np.array(path.points.y)
    np.testing.assert_allclose(path.seconds, np.where(y > 0, 1000 + 20 * y, 10 * x), atol=1e-6)
    middles = x[(y == 0) & (x > 5) & (x < 95)]
    np.testing.assert_allclose(middles, np.arange(10, 91, 10), atol=2.5)


def test_several_grids_answer_for_their_own_places():
    west = make_grid(np.arange(5, 100, 10.0), np.arange(5, 100, 10.0), "EPSG:32633")
    east = make_grid(np.arange(62, 200, 4.0), np.arange(5, 100, 10.0), "EPSG:32633")
    path = trace(line_of([(50, 50), (119, 50)], west.crs), (west, east), 100)
    places = np.array(path.points.x)
    assert [west.x.nearest(x) for x in places[places < 100]] == [5, 6, 7, 8, 9]
    assert [east.x.nearest(x) for x in places[places >= 100]] == [10, 11, 12, 13, 14]


def test_too_long_a_line_is_refused():
    grid = GRIDS["utm"]
    west, south, east, north = grid.bounds
    with pytest.raises(BudgetExceeded, match="10 cells"):
        trace(line_of([(west, south), (east, north)], grid.crs), (grid,), 10)
    fine = make_grid(np.arange(0, 100.0), np.arange(0, 100.0), "EPSG:32633")
    with pytest.raises(BudgetExceeded, match="shorter"):
        trace(line_of([(0, 0), (1e8, 0)], fine.crs), (fine,), 10)


def test_the_nearest_time_and_the_earlier_of_two():
    times = np.array(["2020-01-03", "NaT", "2020-01-01", "2020-01-03"], "M8[s]")
    day = 86_400
    first = np.datetime64("2020-01-01", "s").astype(int)
    found = nearest_times(times, first + np.array([0, 0.9, 1, 1.1, 2]) * day, "coords")
    assert [str(each)[:10] for each in found] == [
        "2020-01-01",
        "2020-01-01",
        "2020-01-01",
        "2020-01-03",
        "2020-01-03",
    ]
    for beyond in (-1, 2 * day + 1):
        with pytest.raises(InvalidParameter, match="outside those"):
            nearest_times(times, np.array([first + beyond], float), "coords")
    with pytest.raises(InvalidParameter, match="no times"):
        nearest_times(np.array([], "M8[s]"), np.zeros(1), "coords")
