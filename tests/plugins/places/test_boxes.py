"""Boxes over poles and across the antimeridian: the cells inside, in one piece, and their price."""

import re

import numpy as np
import pytest
from pyproj import Transformer
from tests.clients.places import COLUMNS, ROWS
from tests.plugins.places.sources import DAYS, EXACT, PLACES, TURNS, axes, chunks_asked, contiguous

# longitudes and latitudes: over a pole, over the antimeridian, over the seam of a globe
BOXES = {
    "pole": ["-180,86,180,90", "0,86,360,90", "90,80,270,90", "-170,70,170,75", "-180,-90,180,90"],
    "south": ["-180,-90,180,-86", "100,-90,260,-80", "-180,-90,180,90"],
    "seam": ["178,62,-178,64", "178,62,182,64", "-182,62,-178,64", "181,62,182,64", "-179,62,-178,64", "-180,-90,180,90", "0,0,360,90"],
    "aleutians": ["179.5,51.8,-179.5,52.2", "179.5,51.8,180.5,52.2", "-180.5,51.8,-179.5,52.2", "-180,-90,180,90", "0,0,360,90"],
    "east": ["-5,10,5,20", "355,10,5,20", "355,10,360,20", "175,10,-175,20", "-180,80,180,90", "0,-90,360,90"],
    "middle": ["-5,10,5,20", "175,10,185,20", "175,10,-175,20", "-185,10,-175,20", "-180,80,180,90", "0,-90,360,90"],
    "centred": ["-5,10,5,20", "355,10,5,20", "175,10,-175,20", "-180,80,180,90", "-1,-90,359,90"],
}  # fmt: skip


def _outline(box):
    """Longitudes and latitudes densely around a box, west to east."""
    west, south, east, north = map(float, box.split(","))
    east += 360 * (east < west)
    along = np.linspace(0, 1, 20_001)
    lon = np.concatenate([west + along * (east - west)] * 2 + [np.full(20_001, west), np.full(20_001, east)])
    lat = [np.full(20_001, south), np.full(20_001, north), *[south + along * (north - south)] * 2]
    return lon, np.concatenate(lat)


def expected_cells(source, box):
    """The rows and columns that a box in degrees means, these along it."""
    lon, lat = _outline(box)
    if source.crs.is_geographic:
        turns = (source.x - lon.min() + 1e-9) % 360
        columns = np.argsort(turns, kind="stable")
        columns = columns[turns[columns] <= np.ptp(lon) + 2e-9]
        if np.ptp(lon) >= 360 or np.ptp(turns[columns]) > np.ptp(source.x[columns]):
            columns = np.sort(columns)
        return np.flatnonzero((source.y >= lat.min() - 1e-9) & (source.y <= lat.max() + 1e-9)), columns
    x, y = Transformer.from_crs(4326, source.crs, always_xy=True).transform(lon, lat)
    if box in {"-180,-90,180,90", "0,0,360,90"}:
        return np.arange(ROWS), np.arange(COLUMNS)
    rows = np.flatnonzero((source.y >= y.min() - 20) & (source.y <= y.max() + 20))
    return rows, np.flatnonzero((source.x >= x.min() - 20) & (source.x <= x.max() + 20))


@pytest.mark.parametrize(("name", "box"), [(name, box) for name, boxes in BOXES.items() for box in boxes])
def test_a_box_is_the_cells_inside_in_one_piece(made, netcdf, compared, name, box):
    source = made.sources[name]
    for path in ("/datasets/{}/subset", "/edr/collections/{}/cube", "/edr/collections/{}/coverage"):
        found = netcdf(path.format(name), bbox=box, datetime=DAYS[0])
        rows, columns = expected_cells(source, box)
        x, y = axes(found)
        turn = 360 if source.crs.is_geographic else np.inf
        assert (x.size, y.size) == (columns.size, rows.size)
        np.testing.assert_array_equal(y, source.y[rows])
        np.testing.assert_allclose(np.abs(x - source.x[columns]) % turn, 0, atol=1e-9)
        assert contiguous(x, source.steps[0])
        assert contiguous(y)
        np.testing.assert_array_equal(found["v"].to_numpy()[0], source.data[0][np.ix_(rows, columns)])
        compared(found["v"].to_numpy())
    given = found["v"].dims[-1], found["v"].dims[-2]
    assert given == (("lon", "lat") if source.crs.is_geographic else ("x", "y"))


def _inside(source, share=0.5):
    """The middle rows and columns, and their centres in longitude and latitude."""
    rows = np.arange(int(len(source.y) * (1 - share) / 2), int(len(source.y) * (1 + share) / 2))
    columns = np.arange(int(len(source.x) * (1 - share) / 2), int(len(source.x) * (1 + share) / 2))
    return rows, columns


def _around(source, crs, rows, columns):
    """The box in `crs` around cells, over its edge where they are; the pole where that is among them."""
    x, y = (each[np.ix_(rows, columns)] for each in source.centres(crs))
    turn = TURNS.get(crs)
    if turn and source.crs.to_epsg() in (3413, 3031):
        return -turn / 2, y.min(), turn / 2, {"EPSG:4326": 90.0, "EPSG:3857": 20_037_508.0}[crs]
    if turn and np.ptp(x) > turn / 2:
        x = np.where(x < 0, x + turn, x)
    return x.min(), y.min(), x.max(), y.max()


@pytest.mark.parametrize(
    ("name", "crs"),
    [("pole", crs) for crs in ("EPSG:4326", "EPSG:3857", "EPSG:3995", "EPSG:3413")]
    + [("seam", crs) for crs in ("EPSG:3857", "EPSG:3413", "EPSG:3995", "EPSG:32601", "EPSG:4326")]
    + [("aleutians", crs) for crs in ("EPSG:3857", "EPSG:3413", "EPSG:4326", "EPSG:32660")],
)
def test_a_box_in_any_crs_holds_all_that_is_inside(made, netcdf, compared, name, crs):
    source = made.sources[name]
    rows, columns = _inside(source)
    west, south, east, north = _around(source, crs, rows, columns)
    turn = TURNS.get(crs, 0.0)
    slack = EXACT * (1 if crs == "EPSG:4326" else 1e5)
    ways = [(west, east)]
    if turn and east > turn / 2:
        ways += [(west, east - turn), (west - turn, east - turn)]
    for first, last in ways:
        box = f"{first - slack},{south - slack},{last + slack},{min(north + slack, 90 if crs == 'EPSG:4326' else 1e9)}"
        found = netcdf(f"/datasets/{name}/subset", bbox=box, bbox_crs=crs, datetime=DAYS[2])
        x, y = axes(found)
        assert np.isin(source.x[columns], x).all()
        assert np.isin(source.y[rows], y).all()
        wide, high = np.isin(source.x, x), np.isin(source.y, y)
        np.testing.assert_array_equal(found["v"].to_numpy()[0], source.data[2][np.ix_(high, wide)])
        compared(found["v"].to_numpy())


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize(
    ("crs", "box"),
    [
        ("EPSG:3857", "-20037508.34,-20037508.34,20037508.34,20037508.34"),
        ("EPSG:3857", "0,-20037508.34,40075016.68,20037508.34"),
        ("OGC:CRS84", "-180,-90,180,90"),
        ("EPSG:4087", "-20037508.34,-10018754,20037508.34,10018754"),
    ],
)
def test_the_whole_world_is_the_whole_cube(get, name, crs, box):
    asked = {"bbox": box, "bbox_crs": crs}
    assert get(f"/datasets/{name}/estimate", **asked).json() == get(f"/datasets/{name}/estimate").json()


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857", "EPSG:3413"])
@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("pole", "-180,86,180,90"),
        ("seam", "178,62,-178,64"),
        ("aleutians", "179.5,51.8,-179.5,52.2"),
        ("east", "-5,70,5,80"),
        ("middle", "175,70,-175,80"),
    ],
)
def test_the_price_is_what_is_read(client, get, name, box, crs):
    asked = {"bbox": box, "crs": crs, "datetime": DAYS[1]}
    if (name, crs) == ("pole", "EPSG:3857"):
        asked["bbox"] = "-180,84,180,85"
    price = get(f"/datasets/{name}/estimate", **asked).json()
    # coordinates are read with the first
    get(f"/datasets/{name}/description")
    before = chunks_asked(client, name)
    get(f"/datasets/{name}/subset", f="csv", **asked)
    assert chunks_asked(client, name) - before == price["chunks"] > 0


def test_the_whole_world_in_degrees_is_as_wide_as_the_cube(get, netcdf):
    path = "/datasets/aleutians/subset"
    whole, cube = (
        netcdf(path, crs="EPSG:4326", datetime=DAYS[0], bbox=bbox) for bbox in ("-180,-90,180,90", None)
    )
    assert whole["v"].identical(cube["v"])


def test_ranges_of_axes_over_the_antimeridian(made, netcdf, compared):
    path = "/edr/collections/{}/coverage"
    for name, axes_asked in (
        ("seam", ("Lon(178:-178),Lat(62:64)", "lon(178:182),lat(62:64)")),
        ("east", ("Lon(-5:5),Lat(10:20)", "lon(355:5),lat(10:20)")),
        ("middle", ("Lon(175:-175),Lat(10:20)",)),
    ):
        source = made.sources[name]
        for subset in axes_asked:
            found = netcdf(path.format(name), subset=subset, datetime=DAYS[0])
            west, east, south, north = (float(number) for number in re.findall(r"-?\d+", subset))
            rows, columns = expected_cells(source, f"{west},{south},{east},{north}")
            x, y = axes(found)
            assert contiguous(x, source.steps[0])
            np.testing.assert_array_equal(y, source.y[rows])
            np.testing.assert_array_equal(found["v"].to_numpy()[0], source.data[0][np.ix_(rows, columns)])
            compared(found["v"].to_numpy())
