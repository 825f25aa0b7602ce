import numpy as np
import pytest
import rasterio.warp
import xarray as xr
from pyproj import Transformer
from rasterio.transform import Affine

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.conditions import parse_conditions
from cubegate.query.crs import parse_crs
from cubegate.query.cube import CubeQuery
from cubegate.query.filtering import select
from cubegate.query.position import Points, PositionQuery
from cubegate.query.variables import GridSettings, choose_variables

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
SHAPE = (6, 60, 80)


@pytest.fixture
def opera(utm):
    """A cube with masks of every kind: with time and without, integers with fill, floats with NaN, levels."""
    rng = np.random.default_rng(5)
    utm["displacement"].values[:] = rng.standard_normal(SHAPE)
    coherence = rng.random(SHAPE).astype("f4")
    coherence[rng.random(SHAPE) < 0.1] = np.nan
    recommended = rng.integers(0, 2, SHAPE).astype("f4")
    recommended[rng.random(SHAPE) < 0.1] = np.nan
    utm["coherence"] = (("time", "y", "x"), coherence)
    utm["recommended"] = (("time", "y", "x"), recommended)
    utm["water"] = (("y", "x"), rng.integers(0, 3, SHAPE[1:]).astype("u1"))
    utm["swapped"] = (("x", "y"), utm.water.values.T.copy())
    utm["count"] = (("time", "y", "x"), rng.integers(-300, 300, SHAPE).astype("i2"))
    utm["wide"] = (("time", "y", "x"), rng.integers(-(2**40), 2**40, SHAPE))
    utm["acquired"] = (
        ("time", "y", "x"),
        np.datetime64("2020-01-01", "ns") + rng.integers(0, 99, SHAPE).astype("m8[D]"),
    )
    utm["layers"] = (("time", "level", "y", "x"), rng.random((6, 2, 60, 80)))
    utm["level"] = ("level", [500.0, 850.0])
    utm["perpendicular"] = ("time", rng.random(6))
    utm["corrupt"] = (("y", "x"), np.full(SHAPE[1:], "a"))
    return utm


def _select(dataset, query):
    grid, variables = choose_variables(dataset, query.variables, GridSettings())
    return select(dataset, grid, variables, query)


def _mask(*texts):
    return parse_conditions(texts, "mask")


async def _cube(dataset, mask, *variables, **more):
    loaded = await _select(dataset, CubeQuery(variables=variables, mask=_mask(mask), **more)).load()
    return loaded.dataset


def _good(opera, mask):
    """What the masks of these tests keep, by numpy."""
    with np.errstate(invalid="ignore"):
        coherent = opera.coherence.values >= np.float32(0.6)
    recommended = np.nan_to_num(opera.recommended.values) != 0
    dry = np.broadcast_to(opera.water.values != 1, SHAPE)
    late = opera.acquired.values >= np.datetime64("2020-02-01")
    return {
        "coherence>=0.6": coherent,
        "recommended": recommended,
        "water!=1": dry,
        "swapped!=1": dry,
        "coherence>=0.6,recommended": coherent & recommended,
        "recommended,water!=1": recommended & dry,
        "acquired>=2020-02": late,
    }[mask]


MASKS = [
    "coherence>=0.6",
    "recommended",
    "water!=1",
    "swapped!=1",
    "coherence>=0.6,recommended",
    "recommended,water!=1",
    "acquired>=2020-02",
]


@pytest.mark.parametrize("mask", MASKS)
async def test_a_cube_is_missing_where_the_mask_does_not_hold(opera, mask):
    found = await _cube(opera, mask, "displacement", "count", "wide", "acquired", "perpendicular")
    good = _good(opera, mask)
    assert 0 < good.mean() < 1
    for name in ("displacement", "count", "wide"):
        np.testing.assert_array_equal(found[name], np.where(good, opera[name].values.astype("f8"), np.nan))
    np.testing.assert_array_equal(
        found.acquired, np.where(good, opera.acquired.values, np.datetime64("NaT", "ns"))
    )
    np.testing.assert_array_equal(found.perpendicular, opera.perpendicular)
    kinds = {str(name): each.dtype for name, each in found.data_vars.items()}
    assert kinds == {
        "displacement": "f8",
        "count": "f4",
        "wide": "f8",
        "acquired": "M8[ns]",
        "perpendicular": "f8",
    }


@pytest.mark.parametrize("mask", MASKS)
async def test_so_are_series_and_points(opera, mask):
    good = _good(opera, mask)
    rows, columns = np.array([3, 41, 3]), np.array([70, 5, 71])
    x, y = tuple(400_015 + 30.0 * columns), tuple(3_900_000 - 30.0 * rows)
    query = PositionQuery(Points(x, y, None, many=True), ("displacement", "count"), mask=_mask(mask))
    points = (await _select(opera, query).load()).dataset
    assert set(points.data_vars) == {"displacement", "count"}
    for name in points.data_vars:
        expected = np.where(good, opera[name].values, np.nan)[:, rows, columns].T
        np.testing.assert_array_equal(points[name], expected)
    query = PositionQuery(Points(x[:1], y[:1], None), ("displacement",), mask=_mask(*mask.split(",")))
    series = (await _select(opera, query).load()).dataset
    np.testing.assert_array_equal(series.displacement, np.where(good, opera.displacement, np.nan)[:, 3, 70])
    assert set(series.variables) == {
        "displacement",
        "time",
        "x",
        "y",
        "longitude",
        "latitude",
        "distance",
    }


async def test_a_mask_goes_with_unsorted_dates(opera):
    mixed = opera.isel(time=[3, 0, 5, 0, 1])
    found = await _cube(mixed, "recommended", "displacement")
    order = [1, 3, 4, 0, 2]
    good = np.nan_to_num(mixed.recommended.values) != 0
    np.testing.assert_array_equal(found.displacement, np.where(good, mixed.displacement, np.nan)[order])


async def test_a_mask_with_a_filter_of_dates(opera):
    found = await _cube(
        opera, "recommended", "displacement", where=parse_conditions(["perpendicular>0.5"], "where")
    )
    kept = opera.perpendicular.values > 0.5
    assert 0 < kept.sum() < 6
    expected = np.where(_good(opera, "recommended"), opera.displacement, np.nan)[kept]
    np.testing.assert_array_equal(found.displacement, expected)


async def test_a_mask_that_is_asked_for_is_part_of_the_answer_and_masked_too(opera):
    found = await _cube(opera, "water=2,recommended", "displacement", "recommended")
    good = (opera.water.values == 2) & (np.nan_to_num(opera.recommended.values) != 0)
    np.testing.assert_array_equal(found.recommended, np.where(good, 1, np.nan))
    assert "water" not in found.variables


async def test_no_attribute_refers_to_a_mask_that_is_not_in_the_answer(opera):
    opera.displacement.attrs["ancillary_variables"] = "recommended"
    assert "ancillary_variables" not in (await _cube(opera, "recommended", "displacement")).displacement.attrs
    both = await _cube(opera, "recommended", "displacement", "recommended")
    assert both.displacement.attrs["ancillary_variables"] == "recommended"


async def test_the_dataset_itself_is_not_changed(opera):
    before = opera.copy(deep=True)
    await _cube(opera, "recommended,water!=1", "displacement", "acquired", "count")
    xr.testing.assert_identical(opera, before)


@pytest.mark.parametrize("level", ["500", "850"])
async def test_a_mask_over_another_dimension_is_selected_like_the_variables(opera, level):
    found = await _cube(opera, "layers<0.5", "layers", selectors={"level": level})
    values = opera.layers.sel(level=float(level)).values
    np.testing.assert_array_equal(found.layers, np.where(values < 0.5, values, np.nan))
    found = await _cube(opera, "recommended", "layers")
    good = _good(opera, "recommended")[:, None]
    np.testing.assert_array_equal(found.layers, np.where(good, opera.layers, np.nan))


@pytest.mark.parametrize(
    ("mask", "variables", "said"),
    [
        ("perpendicular>1", ("displacement",), "no variable 'perpendicular' on the grid"),
        ("nothing", ("displacement",), "no variable 'nothing' on the grid"),
        ("x", ("displacement",), "no variable 'x' on the grid"),
        ("coherence>high", ("displacement",), "no number"),
        ("recommended", ("perpendicular",), "nothing can be masked"),
        ("recommended", ("water", "displacement"), "varies along time, x, y, and water does not"),
        ("layers<0.5", ("displacement",), "level"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_before_anything_is_read(opera, mask, variables, said):
    with pytest.raises(InvalidParameter) as caught:
        _select(opera, CubeQuery(variables=variables, mask=_mask(mask)))
    assert caught.value.parameter == "mask"
    assert said in caught.value.detail
    if "on the grid" in said and "masked" not in said:
        assert "conditions on displacement, coherence, recommended, water" in caught.value.accepted
    if "water" in said:
        assert caught.value.accepted == "this mask with variables=displacement"


async def test_what_no_number_can_make_missing_is_refused_by_name(opera):
    with pytest.raises(NotAcceptable, match="'corrupt' holds <U1 values"):
        _select(opera, CubeQuery(variables=("corrupt",), mask=_mask("water")))
    opera.wide.values[2, 3, 4] = 2**53 + 1
    opera.recommended.values[2, 3, 4] = 1
    with pytest.raises(NotAcceptable, match="'wide' has integers that lose digits"):
        await _cube(opera, "recommended", "wide")
    opera.recommended.values[2, 3, 4] = 0
    found = await _cube(opera, "recommended", "wide")
    np.testing.assert_array_equal(found.wide, np.where(_good(opera, "recommended"), opera.wide, np.nan))


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average", "max"])
async def test_no_masked_value_leaks_into_a_reprojection(opera, resampling):
    good = _good(opera, "water!=1")
    spoilt = opera.copy(deep=True)
    spoilt.displacement.values[~good] = 1e30
    spoilt["count"].values[~good] = 30_000
    asked = {"target_crs": parse_crs("EPSG:3857"), "resampling": resampling}
    query = CubeQuery(variables=("displacement", "count"), mask=_mask("water!=1"), **asked)
    selection = _select(spoilt, query)
    found = (await selection.load()).dataset
    clean = opera.copy(deep=True)
    clean["displacement"] = clean.displacement.where(good)
    clean["count"] = clean["count"].astype("f4").where(good)
    for name, least in (("displacement", 6.0), ("count", 400.0)):
        assert float(abs(found[name]).max()) < least
        if resampling == "nearest":
            continue
        for time in range(6):
            expected, _ = rasterio.warp.reproject(
                clean[name].values[time],
                np.full(found[name].shape[1:], np.nan, clean[name].dtype),
                src_transform=Affine(30, 0, 400_000, 0, -30, 3_900_015),
                src_crs="EPSG:32611",
                src_nodata=np.nan,
                dst_transform=Affine.from_gdal(*selection.target.transform),
                dst_crs="EPSG:3857",
                dst_nodata=np.nan,
                resampling=rasterio.warp.Resampling[resampling],
            )
            np.testing.assert_array_equal(found[name].values[time], expected)
    if resampling == "nearest":
        x, y = Transformer.from_crs(3857, 32611, always_xy=True).transform(*np.meshgrid(found.x, found.y))
        column, row = np.floor((x - 400_000) / 30), np.floor((3_900_015 - y) / 30)
        inside = (column >= 0) & (column < 80) & (row >= 0) & (row < 60)
        expected = np.full(found["count"].shape, np.nan, "f4")
        expected[:, inside] = clean["count"].values[:, row[inside].astype(int), column[inside].astype(int)]
        np.testing.assert_array_equal(found["count"], expected)


def test_memory_and_cells_are_counted(opera):
    query = CubeQuery(variables=("count",))
    plain = _select(opera, query)
    masked = _select(opera, CubeQuery(variables=("count",), mask=_mask("coherence>0.5")))
    assert masked.cells == plain.cells == np.prod(SHAPE)
    # the mask itself, then each count as a float beside it
    assert masked.nbytes - plain.nbytes >= opera.coherence.nbytes + 2 * plain.cells + 4 * plain.cells
