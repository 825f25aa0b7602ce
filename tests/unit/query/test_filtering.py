import asyncio
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pyproj import CRS
from xarray.backends import BackendArray
from xarray.core import indexing

from cubegate.errors import InvalidParameter
from cubegate.query.budget import plan_query, price
from cubegate.query.conditions import parse_conditions
from cubegate.query.cube import CubeQuery
from cubegate.query.filtering import select
from cubegate.query.interval import parse_interval
from cubegate.query.position import Points, PositionQuery
from cubegate.query.variables import GridSettings, choose_variables

SATELLITES = np.array(["1A", "1B", "8", "1A", "9", "1B", "1A", "8"])
SEPARATIONS = np.array([6, 12, 64, 60, np.nan, 6, 48, 60], "f4")
DAYS = np.array([40, 3, 17, 17, 5, 80, 1, 40])


@pytest.fixture
def ice(make_cube):
    """Dates unsorted and twice, one value a date beside the velocities, a map, a level."""
    times = np.datetime64("2020-01-01", "ns") + DAYS * np.timedelta64(1, "D")
    x, y = -200_000 + 100.0 * np.arange(9), -2_000_000 - 100.0 * np.arange(7)
    attributes = (
        {"standard_name": "projection_x_coordinate", "units": "m"},
        {"standard_name": "projection_y_coordinate", "units": "m"},
    )
    cube = make_cube(x, y, times, attributes=attributes, crs="EPSG:3413").rename(
        displacement="v", time="mid_date"
    )
    cube["date_dt"] = ("mid_date", SEPARATIONS, {"units": "days"})
    cube["satellite"] = ("mid_date", SATELLITES.astype("S4"))
    cube["acquired"] = ("mid_date", times - np.timedelta64(36, "h"))
    cube["dem"] = (("y", "x"), np.arange(63.0).reshape(7, 9))
    return cube


def _select(dataset, query):
    grid, variables = choose_variables(dataset, query.variables, GridSettings())
    return select(dataset, grid, variables, query)


def _where(text):
    return parse_conditions([text], "where")


def _series(where, **more):
    return PositionQuery(Points((-199_810.0,), (-2_000_290.0,), None), where=_where(where), **more)


def _table(where, **more):
    points = Points((-199_810.0, -199_300.0), (-2_000_290.0, -2_000_000.0), None, many=True)
    return PositionQuery(points, where=_where(where), **more)


KEPT = [
    ("date_dt<60d", [0, 1, 5, 6]),
    ("date_dt<=60", [0, 1, 3, 5, 6, 7]),
    ("date_dt!=6", [1, 2, 3, 6, 7]),
    ("satellite='1A'", [0, 3, 6]),
    ("satellite=8,date_dt>=60d", [2, 7]),
    ("satellite!=1A, satellite!=8", [1, 4, 5]),
    ("mid_date>=2020-02", [0, 5, 7]),
    ("acquired<2020-01-03", [1, 6]),
    ("date_dt", [0, 1, 2, 3, 5, 6, 7]),
]


def _sorted(positions):
    return np.array(positions)[np.argsort(DAYS[positions], kind="stable")]


@pytest.mark.parametrize(("where", "positions"), KEPT)
async def test_a_series_has_the_dates_that_meet_the_conditions(ice, where, positions):
    loaded = await _select(ice, _series(where, variables=("v", "satellite", "date_dt"))).load()
    order = _sorted(positions)
    np.testing.assert_array_equal(loaded.dataset.v, ice.v.to_numpy()[order, 3, 2])
    np.testing.assert_array_equal(loaded.dataset.satellite, SATELLITES[order].astype("S4"))
    np.testing.assert_array_equal(loaded.dataset.date_dt, SEPARATIONS[order])
    np.testing.assert_array_equal(loaded.dataset.mid_date, ice.mid_date.to_numpy()[order])
    assert (loaded.shape, loaded.time, loaded.narrow) == ("series", "mid_date", None)


@pytest.mark.parametrize(("where", "positions"), KEPT)
async def test_so_have_points_and_boxes(ice, where, positions):
    order = _sorted(positions)
    points = await _select(ice, _table(where)).load()
    np.testing.assert_array_equal(points.dataset.v, ice.v.to_numpy()[order][:, [3, 0], [2, 7]].T)
    np.testing.assert_array_equal(points.dataset.dem, ice.dem.to_numpy()[[3, 0], [2, 7]])
    box = (-199_850, -2_000_450, -199_450, -2_000_150)
    cube = await _select(ice, CubeQuery(box, where=_where(where))).load()
    np.testing.assert_array_equal(cube.dataset.v, ice.v.to_numpy()[order][:, 2:5, 2:6])
    np.testing.assert_array_equal(cube.dataset.mid_date, ice.mid_date.to_numpy()[order])


async def test_the_interval_is_applied_first(ice):
    query = _series("satellite='1A'", interval=parse_interval("2020-01"))
    loaded = await _select(ice, query).load()
    np.testing.assert_array_equal(loaded.dataset.v, ice.v.to_numpy()[[6, 3], 3, 2])
    query = _series("satellite='9'", interval=parse_interval("2020-02/.."))
    with pytest.raises(
        InvalidParameter, match=r"No date meets satellite='9'\. Accepted: satellite: '1A', '1B', '8'\."
    ):
        await _select(ice, query).load()


@pytest.mark.parametrize("kind", [_series, _table, lambda where: CubeQuery(where=_where(where))])
async def test_no_date_is_an_error_that_says_what_there_is(ice, kind):
    with pytest.raises(InvalidParameter) as caught:
        await _select(ice, kind("date_dt<6d,satellite=8")).load()
    assert caught.value.parameter == "where"
    assert caught.value.detail == "No date meets date_dt<6d, satellite=8."
    assert caught.value.accepted == "date_dt: 6.0 to 64.0; satellite: '1A', '1B', '8', '9'"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("v>1", "no variable 'v' with one value a date"),
        ("dem", "no variable 'dem' with one value a date"),
        ("nothing=1", "no variable 'nothing' with one value a date"),
        ("x>1", "no variable 'x' with one value a date"),
        ("date_dt=soon", "no number"),
        ("satellite<'1A'", "texts"),
        ("acquired>60d", "neither a time"),
        ("satellite", "texts"),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused_before_anything_is_read(ice, where, said):
    with pytest.raises(InvalidParameter) as caught:
        _select(ice, _series(where))
    assert caught.value.parameter == "where"
    assert said in caught.value.detail
    if "one value" in said:
        assert caught.value.accepted == "conditions on mid_date, date_dt, satellite, acquired"


def test_what_has_no_time_has_no_dates_to_filter(ice):
    with pytest.raises(InvalidParameter, match="no time dimension") as caught:
        _select(ice, _series("date_dt<60d", variables=("dem",)))
    assert caught.value.parameter == "where"
    maps = ice[["dem", "spatial_ref"]]
    with pytest.raises(InvalidParameter, match="no time dimension"):
        _select(maps, _series("date_dt<60d"))


@dataclass
class _Cost:
    chunks: int
    nbytes: int


class _Stored(BackendArray):
    """Values that are read through xarray's own lazy indexing, a chunk a date, with a journal of all reads."""

    def __init__(self, name, values, journal):
        self._name, self._values, self._journal = name, values, journal
        self.shape, self.dtype = values.shape, values.dtype

    def cost(self, indexers):
        dates = np.arange(self.shape[0])[indexers[0]]
        return _Cost(dates.size, dates.size * 10)

    def __getitem__(self, key):
        raise AssertionError("read outside of the event loop")

    async def async_getitem(self, key):
        self._journal.append((self._name, "begins"))
        await asyncio.sleep(0)
        adapter = indexing.NumpyIndexingAdapter(self._values)
        if isinstance(key, indexing.VectorizedIndexer):
            found = adapter.vindex[key]
        else:
            found = adapter.oindex[key] if isinstance(key, indexing.OuterIndexer) else adapter[key]
        self._journal.append((self._name, "ends", np.size(found)))
        return found


@pytest.fixture
def stored(ice):
    """The same cube, read lazily: the dataset, and the journal of its reads."""
    journal = []
    lazy = ice.copy()
    for name in ("v", "date_dt", "satellite"):
        array = _Stored(name, ice[name].values, journal)
        variable = xr.Variable(ice[name].dims, indexing.LazilyIndexedArray(array), ice[name].attrs)
        variable.encoding = {"encoded_array": array}
        lazy[name] = variable
    return lazy, journal


async def test_conditions_are_read_first_and_then_only_the_dates_that_meet_them(stored, ice):
    lazy, journal = stored
    selection = _select(lazy, _series("date_dt<60d,satellite='1A'", variables=("v",)))
    assert journal == []
    assert price(selection).chunks == 3 * 8
    loaded = await selection.load()
    np.testing.assert_array_equal(loaded.dataset.v, ice.v.to_numpy()[[6, 0], 3, 2])
    assert [entry[0] for entry in journal[:4]].count("v") == 0
    assert [entry[1:] for entry in journal if entry[0] == "v"] == [("begins",), ("ends", 2)]
    assert [entry[2] for entry in journal if entry[1] == "ends"] == [8, 8, 2]
    # both conditions at once
    assert [entry[1] for entry in journal[:2]] == ["begins", "begins"]


async def test_the_price_is_that_of_the_interval_and_the_conditions(stored):
    lazy, journal = stored
    query = _table("satellite='9'", variables=("v", "date_dt"), interval=parse_interval("2020-01"))
    plan = plan_query(lazy, GridSettings(), query, _Limits(40))
    # 5 dates in January: 2 points of v, date_dt, and the condition
    assert (plan.price.chunks, plan.price.bytes, plan.price.cells) == (20, 200, 15)
    assert await plan.hint() == ""
    assert journal == []
    loaded = await (await plan.enforce()).load()
    assert dict(loaded.dataset.sizes) == {"point": 2, "mid_date": 1}


@dataclass
class _Limits:
    chunks: int
    bytes: int = 10**9
    cells: int = 10**9


async def test_a_hint_keeps_the_conditions_and_fits(stored):
    lazy, _ = stored
    query = CubeQuery(
        where=_where("satellite='1A'"), mask=parse_conditions(["dem>3"], "mask"), variables=("date_dt", "v")
    )
    plan = plan_query(lazy, GridSettings(), query, _Limits(10))
    assert plan.price.chunks == 24
    interval = (await plan.hint()).removeprefix("It would fit with datetime=").removesuffix(".")
    smaller = plan_query(lazy, GridSettings(), replace(query, interval=parse_interval(interval)), _Limits(10))
    assert smaller.price.chunks <= 10
    assert await smaller.hint() == ""
    # where only one variable fits, it is one that the mask applies to
    hint = await plan_query(lazy, GridSettings(), query, _Limits(2)).hint()
    assert hint.startswith(
        "It would fit with variables=v and datetime=2020-01-02T00:00:00Z/2020-01-02T00:00:00Z"
    )


def test_80_832_dates_are_filtered(make_cube):
    rng = np.random.default_rng(3)
    count = 80_832
    times = np.datetime64("2000-01-01", "ns") + rng.integers(0, 10**17, count).astype("m8[ns]")
    cube = make_cube([0.0, 1], [1.0, 0], times)
    cube["date_dt"] = ("time", rng.integers(6, 400, count).astype("f8"), {"units": "days"})
    cube["satellite"] = ("time", rng.choice(["1A", "1B", "8"], count).astype(object))
    query = PositionQuery(Points((0.0,), (0.0,), None), where=_where("date_dt<60d,satellite='1A'"))
    loaded = asyncio.run(_select(cube, query).load())
    frame = pd.DataFrame(
        {"v": cube.displacement.to_numpy()[:, 1, 0], "dt": cube.date_dt, "s": cube.satellite}, times
    )
    expected = frame.query("dt < 60 and s == '1A'").sort_index(kind="stable")
    np.testing.assert_array_equal(loaded.dataset.displacement, expected.v)
    assert 3_000 < expected.size / 3 < 5_000


async def test_nothing_that_was_read_stays_in_the_dataset(stored):
    lazy, journal = stored
    query = _series("date_dt<60d", variables=("v",), mask=parse_conditions(["v>10"], "mask"))
    first = await _select(lazy, query).load()
    reads = len(journal)
    second = await _select(lazy, query).load()
    assert len(journal) == 2 * reads
    xr.testing.assert_identical(first.dataset, second.dataset)
    assert CRS.from_user_input(first.crs).to_epsg() == 3413
