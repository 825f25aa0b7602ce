import numpy as np
import pytest

LON, LAT = -118.08787, 35.22933


def _chunks(indices, size):
    return len(np.unique(np.asarray(indices) // size))


def test_the_price_of_a_series_is_its_chunks(server):
    price = server.ask("utm/estimate", lon=LON, lat=LAT, variables="displacement").json()
    # 12 dates in chunks of 1 x 16 x 16 float32
    assert (price["chunks"], price["bytes"], price["cells"]) == (12, 12 * 16 * 16 * 4, 12)
    assert price["fits"] is True
    assert "hint" not in price
    one = server.ask("polar/estimate", x=-230_300, y=-2_010_100).json()
    assert (one["chunks"], one["cells"]) == (2, 8)
    unselected = server.ask("globe/estimate", lon=0, lat=0).json()
    assert (unselected["chunks"], unselected["cells"]) == (4, 12 * 2 * 3)
    selected = server.ask("globe/estimate", lon=0, lat=0, level=500, member=1).json()
    assert (selected["chunks"], selected["cells"]) == (2, 12)


@pytest.mark.parametrize("seed", range(5))
def test_the_price_of_a_box_is_its_chunks(server, cubes, seed):
    random = np.random.default_rng(seed)
    x, y = np.sort(random.uniform(400_000, 402_400, 2)), np.sort(random.uniform(3_898_215, 3_900_015, 2))
    bbox = f"{x[0]},{y[0]},{x[1]},{y[1]}"
    price = server.ask(
        "utm/estimate", bbox=bbox, bbox_crs="native", variables="counts", datetime="2020-02/2020-03"
    ).json()
    columns = np.flatnonzero((cubes["utm"].x >= x[0]) & (cubes["utm"].x <= x[1]))
    rows = np.flatnonzero((cubes["utm"].y >= y[0]) & (cubes["utm"].y <= y[1]))
    assert price["chunks"] == 4 * _chunks(columns, 16) * _chunks(rows, 16)
    assert price["cells"] == 4 * len(columns) * len(rows)


def test_the_price_over_the_seam_counts_both_ends(server):
    price = server.ask(
        "globe/estimate", bbox="-12,-10,12,10", level=500, member=0, datetime="2001-02-01"
    ).json()
    # longitudes 350 to 355 and 0 to 10 are in two chunks, latitudes -7.5 to 7.5 in one
    assert (price["chunks"], price["cells"]) == (2, 5 * 4)


def test_unsorted_dates_are_priced_by_where_they_lie(server, cubes):
    price = server.ask("polar/estimate", x=-230_300, y=-2_010_100, datetime="2020-03-15").json()
    where = [n for n, date in enumerate(cubes["polar"].mid_date.values) if str(date)[:10] == "2020-03-15"]
    assert (price["chunks"], price["cells"]) == (_chunks(where, 4), len(where))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_a_reprojection_is_priced_by_the_larger_side(server):
    plain = server.ask("utm/estimate", variables="quality").json()
    turned = server.ask("utm/estimate", variables="quality", crs="EPSG:3413").json()
    assert turned["chunks"] == plain["chunks"]
    assert turned["cells"] > plain["cells"]


def test_what_does_not_fit_gets_the_hint_of_the_query_itself(serve):
    small = serve("{chunks: 10}")
    estimate = small.ask("utm/estimate", lon=LON, lat=LAT, variables="displacement").json()
    problem = small.ask("utm/timeseries", status=413, lon=LON, lat=LAT, variables="displacement").json()
    assert estimate["fits"] is False
    assert estimate["hint"] == problem["hint"]
    assert {unit: estimate[unit] for unit in ("chunks", "bytes", "cells")} == problem["price"]
    assert estimate["limits"] == problem["limits"]


def test_no_chunk_is_read(serve, tmp_path):
    server = serve("{}")
    # the coordinates are in the server's memory by now, or are read at the first query
    server.ask("utm/estimate", lon=LON, lat=LAT)
    for chunk in (tmp_path / "server1" / "utm.zarr" / "displacement").glob("[0-9]*"):
        chunk.unlink()
    (tmp_path / "server1" / "utm.zarr" / "displacement" / "0.0.0").write_bytes(b"not a chunk")
    assert server.ask("utm/estimate", variables="displacement").json()["chunks"] == 12 * 4 * 5
    server.ask("utm/subset", status=502, variables="displacement", datetime="2020-01-03")


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"lon": "x", "lat": "1"}, "lon"),
        ({"bbox": "1"}, "bbox"),
        ({"variables": "no"}, "variables"),
        ({"level": "1"}, "level"),
        ({"f": "bogus"}, "f"),
        ({"f": "geotiff", "lon": LON, "lat": LAT}, "f"),
        ({"resampling": "bogus"}, "resampling"),
    ],
)
def test_a_bad_query_names_its_parameter(server, asked, parameter):
    assert server.ask("utm/estimate", status=400, **asked).json()["parameter"] == parameter


def test_it_answers_head(server):
    answer = server.client.head("utm/estimate", params={"lon": LON, "lat": LAT})
    assert (answer.status_code, answer.content) == (200, b"")
