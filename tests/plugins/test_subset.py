import io

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from pyproj import CRS, Transformer

BOX = "400300,3899000,401000,3899500"
# rasterio 1.4 with affine 3
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
FORMATS = ["netcdf", "geotiff", "csv", "covjson", "parquet", "png"]


@pytest.fixture
def netcdf(server, tmp_path):
    def ask(path, **asked):
        file = tmp_path / "subset.nc"
        file.write_bytes(server.ask(path, **asked).content)
        with xr.open_dataset(file, engine="h5netcdf") as dataset:
            return dataset.load()

    return ask


def test_a_native_box_is_xarrays_own_selection(netcdf, decoded):
    found = netcdf("utm/subset", bbox=BOX, bbox_crs="native", datetime="2020-02/2020-04")
    expected = decoded["utm"].sel(
        x=slice(400_300, 401_000), y=slice(3_899_500, 3_899_000), time=slice("2020-02", "2020-04")
    )
    for name in ("displacement", "counts", "quality", "time", "x", "y"):
        np.testing.assert_array_equal(found[name], expected[name])
    assert set(found.data_vars) - {"spatial_ref"} == {"displacement", "counts", "quality"}
    assert CRS.from_cf(found["spatial_ref"].attrs).to_epsg() == 32611


def test_without_a_box_it_is_the_whole_cube(netcdf, decoded):
    found = netcdf("utm/subset", compress=4)
    for name in ("displacement", "counts", "quality"):
        np.testing.assert_array_equal(found[name], decoded["utm"][name])


@pytest.mark.parametrize("crs", [None, "OGC:CRS84", "EPSG:4326", "EPSG:3857", "EPSG:3413"])
def test_boxes_in_any_crs_hold_every_cell_inside(netcdf, decoded, crs):
    box = np.array([-118.095, 35.2245, -118.08, 35.235])
    code = int(crs.split(":")[1]) if crs and "EPSG" in crs else 4326
    if code != 4326:
        edge = np.linspace(0, 1, 101)
        lon = np.concatenate(
            [box[0] + edge * 0.015, np.full(101, box[2]), box[0] + edge * 0.015, np.full(101, box[0])]
        )
        lat = np.concatenate(
            [np.full(101, box[1]), box[1] + edge * 0.0105, np.full(101, box[3]), box[1] + edge * 0.0105]
        )
        x, y = Transformer.from_crs(4326, code, always_xy=True).transform(lon, lat)
        box = np.array([x.min(), y.min(), x.max(), y.max()])
    more = {} if crs is None else {"bbox_crs": crs}
    found = netcdf("utm/subset", bbox=",".join(map(repr, box.tolist())), variables="quality", **more)
    cube = decoded["utm"]
    x, y = Transformer.from_crs(32611, code, always_xy=True).transform(*np.meshgrid(cube.x, cube.y))
    inside = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside.sum() > 300
    assert set(cube.x.to_numpy()[columns]) <= set(found.x.to_numpy())
    assert set(cube.y.to_numpy()[rows]) <= set(found.y.to_numpy())
    np.testing.assert_array_equal(found.quality, cube.quality.sel(x=found.x, y=found.y))
    if crs != "EPSG:3413":
        assert found.x.size <= columns.size + 2
        assert found.y.size <= rows.size + 2


def test_dates_are_sorted_and_duplicates_kept(netcdf, decoded):
    found = netcdf("polar/subset", bbox="-240000,-2010000,-235000,-2004000", bbox_crs="EPSG:3413")
    expected = decoded["polar"].sel(x=slice(-240_000, -235_000), y=slice(-2_004_000, -2_010_000))
    order = np.argsort(expected.mid_date.to_numpy(), kind="stable")
    np.testing.assert_array_equal(found.v, expected.v.to_numpy()[order])
    np.testing.assert_array_equal(found.mid_date, expected.mid_date.to_numpy()[order])


def test_a_box_over_the_seam_of_longitudes(netcdf, decoded):
    found = netcdf("globe/subset", bbox="-12,-10,12,10", level=500, member=0)
    cube = decoded["globe"].t.sel(level=500).isel(member=0)
    expected = (
        cube.assign_coords(lon=(cube.lon + 180) % 360 - 180)
        .sortby("lon")
        .sel(lon=slice(-12, 12), lat=slice(10, -10))
    )
    assert found.lon.to_numpy().tolist() == [-10, -5, 0, 5, 10]
    np.testing.assert_array_equal(found.t, expected)
    assert found.time.dt.calendar == "noleap"


def test_geotiff_has_the_values_at_their_places(server, decoded):
    content = server.ask(
        "utm/subset", bbox=BOX, bbox_crs="native", variables="displacement", f="geotiff"
    ).content
    with rasterio.open(io.BytesIO(content)) as file:
        values = file.read()
        assert file.crs.to_epsg() == 32611
        x, y = file.xy(0, 0)
    expected = decoded["utm"].displacement.sel(x=slice(400_300, 401_000), y=slice(3_899_500, 3_899_000))
    np.testing.assert_array_equal(values, expected)
    assert (x, y) == (expected.x[0], expected.y[0])


def test_csv_has_one_row_a_cell(server, decoded):
    text = server.ask(
        "utm/subset",
        bbox="400300,3899000,400400,3899100",
        bbox_crs="native",
        variables="displacement",
        f="csv",
    ).text
    table = pd.read_csv(io.StringIO(text), comment="#", parse_dates=["time"])
    expected = decoded["utm"].displacement.sel(x=slice(400_300, 400_400), y=slice(3_899_100, 3_899_000))
    assert len(table) == expected.size
    for row in table.itertuples():
        value = expected.sel(time=row.time.tz_localize(None), x=row.x, y=row.y)
        assert np.float32(row.displacement) == value


def test_reprojection_takes_the_nearest_cell(netcdf, decoded):
    found = netcdf("utm/subset", variables="displacement", crs="EPSG:4326", datetime="2020-01-03")
    lon, lat = np.meshgrid(found.lon, found.lat)
    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(lon, lat)
    inside = (np.abs(x - 401_200) < 1_200) & (np.abs(y - 3_899_115) < 900)
    places = {"x": xr.DataArray(x, dims=("y", "x")), "y": xr.DataArray(y, dims=("y", "x"))}
    expected = decoded["utm"].displacement[0].drop_vars(["x", "y"]).isel(
        x=np.clip(np.floor((places["x"] - 400_000) / 30), 0, 79).astype(int),
        y=np.clip(np.floor((3_900_015 - places["y"]) / 30), 0, 59).astype(int),
    )  # fmt: skip
    np.testing.assert_array_equal(found.displacement[0], np.where(inside, expected, np.nan))
    assert CRS.from_cf(found.spatial_ref.attrs).to_epsg() == 4326


@pytest.mark.parametrize("f", FORMATS)
def test_every_format_answers_get_head_and_ranges(server, f):
    asked = {"bbox": BOX, "bbox-crs": "native", "variables": "displacement", "datetime": "2020-01-03", "f": f}
    answer = server.client.get("utm/subset", params=asked)
    assert answer.status_code == 200, answer.text
    head = server.client.head("utm/subset", params=asked)
    assert (head.status_code, head.headers["content-type"]) == (200, answer.headers["content-type"])
    if f != "csv":
        part = server.client.get("utm/subset", params=asked, headers={"Range": "bytes=2-9"})
        assert (part.status_code, part.content) == (206, answer.content[2:10])


@pytest.mark.parametrize(
    ("asked", "parameter", "match"),
    [
        ({"bbox": "1,2,3"}, "bbox", "four numbers"),
        ({"bbox": "1,2,3,4,5,6"}, "bbox", "heights"),
        ({"bbox": "170,-10,-170,10"}, "bbox", "outside"),
        ({"bbox": "1,2,3,4"}, "bbox", "outside"),
        ({"bbox": "-118,36,-117,35"}, "bbox", "empty"),
        ({"bbox": "-118,35,-117,95"}, "bbox", "degrees"),
        ({"bbox": BOX, "bbox_crs": "EPSG:0"}, "bbox-crs", "PROJ"),
        ({"crs": "EPSG:4978"}, "crs", "neither"),
        ({"crs": "EPSG:4326", "resampling": "best"}, "resampling", "best"),
        ({"compress": "10"}, "compress", "level"),
        ({"f": "json"}, "f", "json"),
        ({"variables": "displacement,speed"}, "variables", "speed"),
        ({"datetime": "2020-13"}, "datetime", "range"),
        ({"datetime": "1999/2000"}, "datetime", "No time"),
        ({"lon": "1", "lat": "2"}, "lon", "no parameter"),
    ],
)
def test_a_bad_query_names_its_parameter(server, asked, parameter, match):
    problem = server.ask("utm/subset", status=400, **asked).json()
    assert problem["parameter"] == parameter
    assert match in problem["detail"]


TOO_LARGE = [
    ("utm", {}),
    ("utm", {"bbox": "-118.2,35,-118,36"}),
    ("utm", {"bbox": "-180,-90,180,90"}),
    ("utm", {"bbox": BOX, "bbox-crs": "EPSG:32611"}),
    ("polar", {}),
    ("globe", {"bbox": "-90,-45,90,45"}),
    ("globe", {"variables": "t", "level": "500"}),
    ("utm", {"crs": "EPSG:3413", "datetime": "2020-01-03"}),
]


@pytest.mark.parametrize("limits", ["{chunks: 30}", "{cells: 3000}", "{bytes: 60KiB}", "{chunks: 2}"])
def test_a_box_beyond_the_budget_says_what_would_fit(serve, limits):
    client = serve(limits).client
    tried = 0
    for cube, asked in TOO_LARGE:
        answer = client.get(f"{cube}/subset", params=asked)
        if answer.status_code == 200:
            continue
        assert answer.status_code == 413, answer.text
        hint = answer.json()["hint"]
        words = hint.removeprefix("It would fit with ").rstrip(".").replace(" and ", "&").split("&")
        tried += 1
        again = client.get(f"{cube}/subset", params={**asked, **dict(word.split("=", 1) for word in words)})
        assert again.status_code == 200, (asked, hint, again.text)
    assert tried >= 6


def test_a_cube_without_crs_answers_native_boxes_only(server, tmp_path):
    text = server.ask("plain/subset", bbox="5,5,25,15", bbox_crs="native", f="csv").text
    assert pd.read_csv(io.StringIO(text), comment="#").a.tolist() == [5, 6]
    problem = server.ask("plain/subset", status=400, bbox="5,5,25,15", f="csv").json()
    assert "crs:" in problem["detail"]


def test_it_is_documented(server):
    paths = server.client.get(str(server.client.base_url).replace("/datasets/", "/openapi.json")).json()[
        "paths"
    ]
    names = {each["name"] for each in paths["/datasets/{dataset_id}/subset"]["get"]["parameters"]}
    assert names == {
        "dataset_id", "bbox", "bbox-crs", "crs", "resampling", "variables", "datetime", "where", "mask", "f", "compress", "group",
    }  # fmt: skip
