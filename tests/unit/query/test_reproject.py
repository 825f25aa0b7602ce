import numpy as np
import pytest
import rasterio.warp
import xarray as xr
from pyproj import CRS, Transformer
from rasterio.transform import Affine

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.query.crs import parse_crs
from cubegate.query.cube import CubeQuery, select_cube
from cubegate.query.variables import GridSettings, choose_variables

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
GEO = parse_crs("EPSG:4326")


async def _ask(dataset, crs, resampling="nearest", bounds=None, names=None):
    grid, variables = choose_variables(dataset, names, GridSettings())
    query = CubeQuery(bounds, None, names, target_crs=crs, resampling=resampling)
    return await select_cube(dataset, grid, variables, query).load()


@pytest.fixture
def rough(utm):
    random = np.random.default_rng(4)
    utm["displacement"].values[:] = random.standard_normal(utm.displacement.shape)
    utm["displacement"].values[:, :6, :6] = np.nan
    return utm


async def test_nearest_takes_the_value_of_the_cell_at_the_centre(rough):
    found = await _ask(rough, GEO)
    assert (found.x, found.y, found.crs) == ("lon", "lat", "EPSG:4326")
    lon, lat = np.meshgrid(found.dataset.lon, found.dataset.lat)
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(lon, lat)
    column, row = (x - 400_000) / 30, (3_900_015 - y) / 30
    inside = (column >= 0) & (column < 80) & (row >= 0) & (row < 60)
    expected = np.full((6, *lon.shape), np.nan)
    expected[:, inside] = rough.displacement.values[:, row[inside].astype(int), column[inside].astype(int)]
    np.testing.assert_array_equal(found.dataset.displacement, expected)
    assert 0.5 < inside.mean() < 1


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average", "mode", "max"])
@pytest.mark.parametrize("ascending", [False, True])
async def test_other_resamplings_are_those_of_gdal(rough, resampling, ascending):
    dataset = rough.sortby("y") if ascending else rough
    found = await _ask(dataset, parse_crs("EPSG:3857"), resampling)
    result = found.dataset
    step_x, step_y = float(result.x[1] - result.x[0]), float(result.y[1] - result.y[0])
    assert step_y < 0
    for time in range(6):
        expected, _ = rasterio.warp.reproject(
            rough.displacement.values[time],
            np.full(result.displacement.shape[1:], np.nan),
            src_transform=Affine(30, 0, 400_000, 0, -30, 3_900_015),
            src_crs="EPSG:32611",
            src_nodata=np.nan,
            dst_transform=Affine(
                step_x, 0, float(result.x[0]) - step_x / 2, 0, step_y, float(result.y[0]) - step_y / 2
            ),
            dst_crs="EPSG:3857",
            dst_nodata=np.nan,
            resampling=rasterio.warp.Resampling[resampling],
        )
        np.testing.assert_allclose(result.displacement.values[time], expected, rtol=1e-6, atol=1e-7)
    assert np.isfinite(result.displacement.values).mean() > 0.5


async def test_the_answer_is_cf_in_the_new_crs(rough):
    rough["old"] = ("time", np.arange(6))
    found = await _ask(rough, parse_crs("EPSG:3413"), names=("displacement", "old"))
    assert found.dataset.displacement.dims == ("time", "y", "x")
    assert found.dataset.displacement.attrs["grid_mapping"] == "spatial_ref"
    assert CRS.from_cf(found.dataset.spatial_ref.attrs).to_epsg() == 3413
    assert found.dataset.x.attrs["standard_name"] == "projection_x_coordinate"
    assert found.dataset.displacement.attrs["units"] == "m"
    assert found.dataset.old.dims == ("time",)
    geographic = await _ask(rough, GEO)
    assert geographic.dataset.lon.attrs["units"] in ("degrees_east", "degree_east")
    assert geographic.dataset.lat.attrs["standard_name"] == "latitude"


async def test_longitudes_beyond_180_are_found_from_projected_cells(globe):
    found = (await _ask(globe, parse_crs("EPSG:3413"), bounds=(200, 60, 358, 88))).dataset
    lon, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(*np.meshgrid(found.x, found.y))
    inside = ~np.isnan(found.displacement.values[0])
    expected = globe.displacement.sel(
        lon=xr.DataArray(lon[inside] % 360, dims="p"),
        lat=xr.DataArray(lat[inside], dims="p"),
        method="nearest",
    )
    assert inside.sum() > 1000
    np.testing.assert_array_equal(found.displacement.values[:, inside], expected)


@pytest.mark.parametrize("resampling", ["nearest", "average"])
async def test_cells_centred_on_the_poles_keep_their_places(make_cube, times, resampling):
    names, units = ("lon", "lat"), ({"units": "degrees_east"}, {"units": "degrees_north"})
    globe = make_cube(
        np.arange(-180, 180, 4.0), np.arange(90, -91, -4.0), times, names=names, attributes=units
    )
    globe["displacement"] = globe.displacement * 0 + globe.lat
    found = (await _ask(globe, parse_crs("EPSG:3413"), resampling, bounds=(-180, 50, 180, 90))).dataset
    _, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(*np.meshgrid(found.x, found.y))
    values = found.displacement.values[0]
    inside = np.isfinite(values)
    assert inside.sum() > 500
    assert np.abs(values - lat)[inside].max() < 3.9
    assert abs((values - lat)[inside].mean()) < 0.1


async def test_integers_and_times_get_no_invented_values(utm):
    random = np.random.default_rng(5)
    utm["quality"] = (("y", "x"), random.integers(1, 255, (60, 80)).astype("u1"))
    utm["big"] = (("y", "x"), random.integers(0, 2**40, (60, 80)))
    utm["when"] = (
        ("y", "x"),
        np.datetime64("2020-01-01", "ns") + random.integers(0, 10**9, (60, 80)).astype("m8[s]"),
    )
    found = (await _ask(utm, GEO, names=("quality", "big", "when"))).dataset
    outside = np.isnan(found.quality.values)
    assert outside.any()
    assert (found.quality.dtype, found.big.dtype) == (np.float32, np.float64)
    for name in ("quality", "big", "when"):
        values = found[name].values[~outside]
        assert np.isin(values, utm[name].values.astype(values.dtype)).all()
    assert np.isnat(found.when.values[outside]).all()
    # no cell is outside where the CRS stays: then integers stay too
    same = (await _ask(utm, parse_crs("EPSG:32611"), names=("quality",))).dataset
    assert same.quality.dtype == np.uint8
    np.testing.assert_array_equal(same.quality, utm.quality)


async def test_values_that_would_lose_digits_or_have_no_meaning_are_refused(utm):
    utm["id"] = (("y", "x"), np.full((60, 80), 2**60))
    utm["when"] = (("y", "x"), np.full((60, 80), np.datetime64("2020-01-01", "ns")))
    utm["label"] = (("y", "x"), np.full((60, 80), "a"))
    with pytest.raises(NotAcceptable, match="'id'"):
        await _ask(utm, GEO, names=("id",))
    with pytest.raises(InvalidParameter, match="'when'"):
        await _ask(utm, GEO, "bilinear", names=("when",))
    with pytest.raises(InvalidParameter, match="'label'"):
        await _ask(utm, GEO, names=("label",))


async def test_what_cannot_be_reprojected_is_explained(utm, irregular):
    with pytest.raises(InvalidParameter, match="irregular"):
        await _ask(irregular, parse_crs("EPSG:3857"))
    with pytest.raises(InvalidParameter, match="no resampling") as caught:
        await _ask(utm, GEO, "best")
    assert "bilinear" in caught.value.accepted
    plain = utm.drop_vars("spatial_ref")
    del plain["displacement"].attrs["grid_mapping"]
    with pytest.raises(InvalidParameter, match="no known coordinate reference system"):
        await _ask(plain, GEO)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
async def test_a_crs_that_has_no_place_for_the_box_is_refused(utm, resampling):
    with pytest.raises(InvalidParameter, match="no place") as caught:
        await _ask(utm, parse_crs("+proj=geos +h=35785831 +lon_0=60"), resampling)
    assert caught.value.parameter == "crs"


def test_a_crs_of_another_celestial_body_is_refused_before_reading(globe, utm):
    for dataset in (globe, utm):
        grid, names = choose_variables(dataset, None, GridSettings())
        with pytest.raises(InvalidParameter, match="no place") as caught:
            select_cube(dataset, grid, names, CubeQuery(target_crs=parse_crs("IAU_2015:30100")))
        assert caught.value.parameter == "crs"


async def test_a_crs_that_cf_cannot_describe_is_refused(utm):
    with pytest.raises(InvalidParameter, match="CF grid mapping"):
        await _ask(utm, parse_crs("+proj=ob_tran +o_proj=longlat +o_lat_p=30"))


async def test_one_row_is_reprojected_with_the_height_of_the_grid(rough):
    found = await _ask(rough, parse_crs("EPSG:32611"), bounds=(400_000, 3_899_990, 402_000, 3_900_010))
    assert found.dataset.displacement.shape == (6, 1, 67)
    np.testing.assert_array_equal(found.dataset.displacement[:, 0], rough.displacement[:, 0, :67])


async def test_cells_count_what_is_larger(utm):
    grid, variables = choose_variables(utm, None, GridSettings())
    selection = select_cube(utm, grid, variables, CubeQuery(target_crs=parse_crs("EPSG:3413")))
    loaded = await selection.load()
    assert selection.cells >= max(utm.displacement.size, loaded.dataset.displacement.size)
    assert selection.nbytes >= utm.displacement.nbytes + loaded.dataset.displacement.nbytes
    assert xr.Dataset.identical(selection.dataset.copy(deep=True), selection.dataset)


@pytest.mark.parametrize("first", [0.5, -179.5])
@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average"])
@pytest.mark.parametrize(
    ("crs", "bounds"),
    [
        ("EPSG:4326", (-10.3, 10, 10.3, 20)),
        ("EPSG:4326", (170.3, 10, -170.3, 20)),
        ("EPSG:4269", (-169.5, -50, 178.3, 50)),
        ("EPSG:4269", (350, 10, 10, 20)),
        ("EPSG:3857", (170.3, 10, 190.3, 20)),
        ("EPSG:3857", (-180, -80, 180, 80)),
        ("EPSG:32601", (170, 10, 190, 20)),
        ("EPSG:3413", (-180, 60, 180, 80)),
    ],
)
async def test_other_resamplings_go_on_where_longitudes_begin_again(  # noqa: PLR0917 - parametrized
    make_cube, times, first, resampling, crs, bounds
):
    names, units = ("lon", "lat"), ({"units": "degrees_east"}, {"units": "degrees_north"})
    longitudes = np.arange(first, first + 360)
    globe = make_cube(longitudes, np.arange(89.5, -90, -1.0), times[:1], names=names, attributes=units)
    globe["displacement"] = globe.displacement * 0 + np.sin(np.radians(20 * globe.lon))
    found = (await _ask(globe, parse_crs(crs), resampling, bounds)).dataset.displacement
    x, y = (found[name] for name in reversed(found.dims[-2:]))
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(*np.meshgrid(x, y))
    away = np.abs(lat) < 80
    # what averages and straight lines take of a wave of 18 cells; half of a cell aside it would be 0.17
    tolerance = {"EPSG:3413": 0.35 if resampling == "average" else 0.08}.get(crs, 0.03)
    np.testing.assert_allclose(
        found.values[0][away], np.sin(np.radians(20 * lon))[away], rtol=0, atol=tolerance
    )


async def test_a_resampling_reads_what_is_around_its_box(globe):
    grid, variables = choose_variables(globe, None, GridSettings())
    query = CubeQuery((10, 10, 20, 20), GEO, target_crs=parse_crs("EPSG:3857"), resampling="cubic")
    read = select_cube(globe, grid, variables, query).dataset
    # twelve cells around five
    assert max(read.sizes["lon"], read.sizes["lat"]) <= 5 + 2 * 13
