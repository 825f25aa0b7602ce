"""Area queries: which cells lie in a polygon, on projected and geographic grids."""

import io

import h5py
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from pyproj import Transformer

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def in_degrees(code, *places):
    x, y = Transformer.from_crs(code, 4326, always_xy=True).transform(*np.transpose(places))
    return [(float(lon), float(lat)) for lon, lat in zip(x, y, strict=True)]


ON_POLAR = in_degrees(3413, (-232_300, -2_030_700), (-213_200, -2_036_100), (-218_400, -2_018_900))


def in_polygon(cube, code, ring, names=("x", "y")):
    """Which centres lie in a ring given in degrees, its edges drawn by 10,000 points on the grid."""
    closed = shapely.LineString(ring)
    dense = [closed.interpolate(share, normalized=True).coords[0] for share in np.linspace(0, 1, 10_000)]
    corners = Transformer.from_crs(4326, code, always_xy=True).transform(*np.transpose([*dense, *ring]))
    order = np.argsort(
        [
            *np.linspace(0, 1, 10_000),
            *(closed.project(shapely.Point(c), normalized=True) for c in ring[:-1]),
            1.0,
        ],
        kind="stable",
    )
    polygon = shapely.Polygon(np.transpose(corners)[order])
    x, y = np.meshgrid(cube[names[0]], cube[names[1]])
    return shapely.contains_xy(polygon, x, y)


RINGS = {
    "utm": (32611, [(-118.096, 35.2245), (-118.0885, 35.226), (-118.091, 35.234), (-118.096, 35.2245)], "displacement"),
    "polar": (3413, [*ON_POLAR, ON_POLAR[0]], "v"),
}  # fmt: skip


@pytest.mark.parametrize("name", RINGS)
def test_an_area_is_the_cells_whose_centre_lies_inside(edr, decoded, name, is_covjson):
    code, ring, variable = RINGS[name]
    cube = decoded[name]
    inside = in_polygon(cube, code, ring)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert 50 < inside.sum() < 0.8 * rows.size * columns.size
    asked = {"coords": shapely.Polygon(ring).wkt, "parameter_name": variable}
    found = edr(f"/collections/{name}/area", **asked).json()
    is_covjson(found)
    coverages = [found] if found["type"] == "Coverage" else found["coverages"]
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    expected = np.where(inside[box], cube[variable].to_numpy()[:, box[0], box[1]], np.nan)
    time = cube[variable].dims[0]
    for coverage in coverages:
        axes, values = coverage["domain"]["axes"], coverage["ranges"][variable]
        assert axes["x"]["values"] == cube.x.to_numpy()[box[1]].tolist()
        assert axes["y"]["values"] == cube.y.to_numpy()[box[0]].tolist()
        array = np.array([np.nan if cell is None else cell for cell in values["values"]], "f8").reshape(
            values["shape"]
        )
        for text, layer in zip(axes["t"]["values"], array, strict=True):
            same = np.flatnonzero(cube[time].to_numpy() == np.datetime64(text.rstrip("Z")))
            assert any(
                np.array_equal(layer.astype(cube[variable].dtype), expected[number], equal_nan=True)
                for number in same
            )


def test_areas_as_files(edr, decoded, tmp_path):
    code, ring, variable = RINGS["utm"]
    cube, asked = decoded["utm"], {"coords": shapely.Polygon(ring).wkt, "datetime": "2020-03-15"}
    inside = in_polygon(cube, code, ring)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    with rasterio.open(
        io.BytesIO(edr("/collections/utm/area", **asked, parameter_name=variable, f="geotiff").content)
    ) as tiff:
        expected = np.where(inside, cube.displacement.sel(time="2020-03-15"), np.nan)[box]
        np.testing.assert_array_equal(tiff.read(1), expected)
        assert tiff.xy(0, 0) == (cube.x[columns[0]], cube.y[rows[0]])
    file = tmp_path / "area.nc"
    file.write_bytes(edr("/collections/utm/area", **asked, f="netcdf").content)
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        # bytes have no value that means missing
        np.testing.assert_array_equal(dataset.quality, np.where(inside, cube.quality, np.nan)[box])
        assert dataset.quality.dtype == "f4"
        assert h5py.File(file)["displacement"].shape == (1, rows.size, columns.size)
    cells = pd.read_csv(
        io.StringIO(
            edr("/collections/utm/area", coords=asked["coords"], parameter_name="quality", f="csv").text
        ),
        comment="#",
    )
    assert cells.quality.notna().sum() == inside.sum()


def test_holes_and_several_polygons(edr, decoded):
    cube = decoded["utm"]
    outer = shapely.box(400_300, 3_899_000, 401_000, 3_899_700)
    hole, other = (
        shapely.box(400_500, 3_899_200, 400_700, 3_899_400),
        shapely.box(401_500, 3_899_100, 401_600, 3_899_200),
    )
    shape = shapely.MultiPolygon([outer.difference(hole), other])
    cells = pd.read_csv(
        io.StringIO(
            edr(
                "/collections/utm/area", coords=shape.wkt, crs="EPSG:32611", parameter_name="quality", f="csv"
            ).text
        ),
        comment="#",
    )
    x, y = np.meshgrid(cube.x, cube.y)
    inside = shapely.intersects_xy(shape, x, y)
    kept = cells[cells.quality.notna()]
    assert sorted(zip(kept.y, kept.x, strict=True)) == sorted(zip(y[inside], x[inside], strict=True))
    assert sorted(kept.quality) == sorted(cube.quality.to_numpy()[inside])


def test_an_area_over_the_seam_of_longitudes(edr, decoded):
    cube = decoded["globe"].t.sel(level=500).isel(member=1, time=0)
    text = edr(
        "/collections/globe/area",
        coords="POLYGON((-13 -13,13 -13,0 18,-13 -13))",
        z="500",
        member="1",
        f="csv",
    ).text
    cells = pd.read_csv(io.StringIO(text), comment="#")
    cells = cells[cells.time == cells.time.iloc[0]].dropna()
    lon, lat = np.meshgrid((cube.lon + 180) % 360 - 180, cube.lat)
    inside = shapely.intersects_xy(shapely.Polygon([(-13, -13), (13, -13), (0, 18)]), lon, lat)
    assert inside.sum() > 10
    found = {
        (round((x + 180) % 360 - 180, 6), y): value
        for x, y, value in zip(cells.lon, cells.lat, cells.t, strict=True)
    }
    expected = dict(
        zip(zip(lon[inside].round(6), lat[inside], strict=True), cube.to_numpy()[inside], strict=True)
    )
    assert {place: np.float32(value) for place, value in found.items()} == expected


@pytest.mark.parametrize("kind", ["area", "cube"])
def test_a_parameter_that_is_not_on_the_grid_stays_as_it_is(edr, decoded, kind):
    box = "-118.096,35.2245,-118.0885,35.234"
    where = {"bbox": box} if kind == "cube" else {"coords": shapely.Polygon(RINGS["utm"][1]).wkt}
    asked = {**where, "parameter_name": "reference_time"}
    found = edr(f"/collections/utm/{kind}", **asked).json()
    assert (set(found["domain"]["axes"]), "domainType" in found["domain"]) == ({"t"}, False)
    rows = pd.read_csv(io.StringIO(edr(f"/collections/utm/{kind}", **asked, f="csv").text), comment="#")
    times = [np.datetime64(text.rstrip("Z")) for text in rows.reference_time]
    np.testing.assert_array_equal(np.array(times, "M8[ns]"), decoded["utm"].reference_time)
