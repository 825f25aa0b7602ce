"""Cubes over poles and across the antimeridian in other CRS, against rasterio's warp and pyproj."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
import rasterio
from tests.plugins.places.sources import (
    DAYS,
    EXACT,
    GLOBES,
    PLACES,
    TARGETS,
    TURNS,
    axes,
    check_cells,
    contiguous,
)

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
NO_PLACE = {("pole", "EPSG:3031"), ("south", "EPSG:3413"), ("south", "EPSG:3995")}
# what of the Earth a projection is for
WITHIN = {
    "EPSG:4326": (-180, -90, 180, 90),
    "EPSG:3857": (-180, -85.06, 180, 85.06),
    "EPSG:3413": (-180, 60, 180, 90),
    "EPSG:3995": (-180, 60, 180, 90),
    "EPSG:3031": (-180, -90, 180, -60),
    "EPSG:32601": (-180, 0, -174, 84),
}


@pytest.mark.parametrize(("name", "crs"), list(itertools.product([*PLACES, *GLOBES], TARGETS)))
def test_a_cube_in_another_crs(made, ask, compared, name, crs):
    if (name, crs) in NO_PLACE:
        problem = ask.get(f"/datasets/{name}/subset", 400, crs=crs).json()
        assert (problem["parameter"], "no place" in problem["detail"]) == ("crs", True)
        return
    source = made.sources[name]
    found = ask.netcdf(f"/datasets/{name}/subset", crs=crs, datetime=DAYS[1])
    shown = np.stack(check_cells(source, crs, found, compared))
    x, y = axes(found)
    assert contiguous(x)
    assert contiguous(y)
    # all that has a place is in it, neither much coarser nor much finer than it was
    lon, lat = source.centres("EPSG:4326")
    west, south, east, north = WITHIN[crs]
    usable = np.ones(lon.shape, bool)
    if name in GLOBES or crs == "EPSG:3857":
        usable = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    there_x, there_y = (each[usable] for each in source.centres(crs))
    across, down = (x[1] - x[0]) / 2, (y[0] - y[1]) / 2
    turn = TURNS.get(crs)
    if turn:
        there_x = x[0] - across + (there_x - x[0] + across + EXACT) % turn - EXACT
    assert np.all((there_x >= x[0] - across - EXACT) & (there_x <= x[-1] + across + EXACT))
    assert np.all((there_y >= y[-1] - down - EXACT) & (there_y <= y[0] + down + EXACT))
    if (name, crs) != ("seam", "EPSG:3031"):
        kinds = np.unique(shown[:, shown[0] >= 0], axis=1).shape[1]
        assert x.size * y.size < 8 * usable.sum()
        assert kinds > 0.3 * usable.sum()
    if name in made.places:
        bounds = x[0] - across, y[-1] - down, x[-1] + across, y[0] + down
        warped = made.places[name].warped(1, crs, bounds, x.size, y.size)
        _, near = source.at(crs, *np.meshgrid(x, y))
        np.testing.assert_array_equal(found["v"].to_numpy()[0][~near], warped[~near])
        compared(warped[~near])


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857", "EPSG:3413"])
@pytest.mark.parametrize("name", ["pole", "seam", "aleutians", "east"])
def test_every_format_says_the_same_places(made, ask, compared, name, crs):
    source = made.sources[name]
    box = {"pole": "-180,86,180,90", "seam": "178,62,-178,64", "aleutians": "179.5,51.8,-179.5,52.2", "east": "-5,70,5,80"}  # fmt: skip
    asked = {"bbox": box[name], "crs": crs, "datetime": DAYS[0]}
    if (name, crs) == ("pole", "EPSG:3857"):
        asked["bbox"] = "-180,84,180,85"
    path = f"/datasets/{name}/subset"
    found = ask.netcdf(path, **asked)
    check_cells(source, crs or source.crs, found, compared)
    x, y = axes(found)
    values = found["v"].to_numpy()[0]
    with rasterio.MemoryFile(ask.get(path, f="geotiff", **asked).content) as memory, memory.open() as image:
        np.testing.assert_array_equal(image.read(1), values[:: 1 if y[0] > y[-1] else -1])
        west, north = image.transform @ (0.5, 0.5)
        east, south = image.transform @ (image.width - 0.5, image.height - 0.5)
        np.testing.assert_allclose([west, east, north, south], [x[0], x[-1], y.max(), y.min()], atol=1e-6)
        assert image.crs == rasterio.crs.CRS.from_user_input(crs or source.crs.to_wkt())
    cover = ask.get(path, f="covjson", **asked).json()
    shown = [cover["domain"]["axes"][axis] for axis in "xy"]
    for axis, mine in zip(shown, (x, y), strict=True):
        theirs = axis.get("values") or np.linspace(axis["start"], axis["stop"], axis["num"])
        np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-6)
    cells = np.array([np.nan if each is None else each for each in cover["ranges"]["v"]["values"]], "f4")
    np.testing.assert_array_equal(cells, values.reshape(-1))
    names = found["v"].dims[-2:]
    tables = (
        pd.read_csv(io.StringIO(ask.get(path, f="csv", **asked).text), comment="#"),
        pd.read_parquet(io.BytesIO(ask.get(path, f="parquet", **asked).content)),
    )
    for table in tables:
        places = table[list(names)].to_numpy().reshape(len(y), len(x), 2)
        np.testing.assert_allclose(places[:, 0, 0], y, atol=1e-6)
        np.testing.assert_allclose(places[0, :, 1], x, atol=1e-6)
        np.testing.assert_array_equal(table["v"].to_numpy("f4"), values.reshape(-1))
    compared(values)
    assert ask.get(path, f="png", **asked).content[:4] == b"\x89PNG"
