"""Files that nobody here made: every variable read through HTTP equals xarray opening the file directly."""

import base64
import io
import json
from pathlib import Path
from urllib.parse import quote

import h5py
import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr
from kerchunk.netCDF3 import NetCDF3ToZarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import HDFParser
from zarr.storage import FsspecStore

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real files is not beside the project"),
    # zarr-python and xarray speak of their own matters
    pytest.mark.filterwarnings("ignore"),
]

# (file, group of it): whole datasets that xarray opens
GRANULES = [
    ("grids/xarray_data/sst.mnmean.nc", ""),
    ("grids/virtual/kerchunk/air.nc", ""),
    ("grids/cfdm/contiguous.nc", ""),
    ("grids/cfdm/example_field_0.nc", ""),
    ("grids/cfdm/file.nc", ""),
    ("grids/titiler_xarray/dataset_2d.nc", ""),
    ("grids/titiler_xarray/dataset_3d.nc", ""),
    ("grids/titiler_xarray/dataset_4d.nc", ""),
    ("grids/rioxarray/MODIS_ARRAY.nc", ""),
    ("grids/rioxarray/PLANET_SCOPE_3D.nc", ""),
    ("grids/rioxarray/sentinel_2_L1C_geographic.nc", ""),
    ("grids/rioxarray/tmmx_20190121.nc", ""),
    ("grids/rioxarray/veris.nc", ""),
    ("grids/hoss/f16_ssmis_lat_lon.nc", ""),
    ("grids/xclim_testdata/cmip5/tas_Amon_CanESM2_rcp85_r1i1p1_200701-200712.nc", ""),
    ("grids/xclim_testdata/ERA5/daily_surface_cancities_1990-1993.nc", ""),
    ("itslive/granules/LT05_L1GS_219121_19841206_20200918_02_T2_X_LT05_L1GS_226120_19850124_20200918_02_T2_G0120V02_P000.nc", ""),
    ("itslive/hyp3_testing/autorift_106.nc", ""),
    ("opera/opera_utils/data/OPERA_L2_CSLC-S1_T087-185683-IW2_20221228T161651Z_20240504T181714Z_S1A_VV_v1.1.h5", "metadata/orbit"),
    ("opera/dolphin/baseline_cslcs/OPERA_L2_CSLC-S1_T042-088905-IW2_20231009T140758Z_20231010T204936Z_S1A_VV_v1.0.h5", "data"),
]  # fmt: skip


# kerchunk 0.2.10 raises on these: they hold scalars that HDF5 stores compactly
BY_VIRTUALIZARR = ("OPERA_L2_CSLC-S1_T087",)
# ... and VirtualiZarr 2.5 too on this one; kerchunk may drop its two scalars, which are empty strings
LOSING_SCALARS = ("LT05_L1GS",)


def write_references(file, group, target, scan, error=None):
    """Describe `group` of `file` by kerchunk references; returns the group to mount from them."""
    if file.name.startswith(BY_VIRTUALIZARR) and error is None:
        registry = ObjectStoreRegistry({"file://": LocalStore()})
        dataset = open_virtual_dataset(
            file.as_uri(), registry=registry, parser=HDFParser(group=group or None), loadable_variables=[]
        )
        dataset.vz.to_kerchunk(str(target), format="json")
        return ""
    if file.read_bytes()[:3] == b"CDF":
        references = NetCDF3ToZarr(str(file)).translate()
    else:
        error = error or ("ignore" if file.name.startswith(LOSING_SCALARS) else "raise")
        references = scan(file, error=error)
    target.write_text(json.dumps(references))
    return group


def open_directly(file, group, **options):
    engine = "scipy" if file.read_bytes()[:3] == b"CDF" else "h5netcdf"
    options |= {} if engine == "scipy" else {"phony_dims": "access"}
    return xr.open_dataset(file, engine=engine, group=group or None, **options)


def same(first, second):
    first, second = np.asarray(first), np.asarray(second)
    if first.dtype.kind in "OSU" or second.dtype.kind in "OSU":
        return [text(value) for value in first.reshape(-1)] == [text(value) for value in second.reshape(-1)]
    kinds = first.dtype.kind + second.dtype.kind
    return first.shape == second.shape and np.array_equal(
        first, second, equal_nan=not set(kinds) & set("biu")
    )


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture
def mounted(tmp_path, serve_collections, scan_granule):
    def mount(file, group="", error=None):
        references = tmp_path / "references.json"
        group = write_references(file, group, references, scan_granule, error)
        source = {"kind": "kerchunk", "href": references.as_uri(), "group": group}
        base = serve_collections({"id": "cube", "source": source}, allow=[tmp_path.as_uri(), DATA.as_uri()])
        return f"{base}/datasets/cube"

    return mount


@pytest.mark.parametrize(
    ("name", "group"), GRANULES, ids=[f"{Path(name).name[:40]}:{group}" for name, group in GRANULES]
)
def test_zarr_equals_the_file(name, group, mounted, compared):
    base = mounted(DATA / name, group)
    raw = open_directly(DATA / name, group, mask_and_scale=False, decode_times=False)
    decoded = open_directly(DATA / name, group)
    for zarr_format in (2, 3):
        for consolidated in (True, False):
            options = {"zarr_format": zarr_format, "consolidated": consolidated, "chunks": None}
            served = xr.open_zarr(f"{base}/zarr", mask_and_scale=False, decode_times=False, **options)
            assert set(served.variables) >= set(raw.variables) - skipped(raw)
            for variable in set(raw.variables) & set(served.variables):
                assert served[variable].dims == raw[variable].dims or "phony" in str(raw[variable].dims)
                assert same(served[variable], raw[variable]), variable
                compared(raw[variable])
        served = xr.open_zarr(f"{base}/zarr", zarr_format=zarr_format, chunks=None)
        for variable in set(decoded.variables) & set(served.variables):
            assert_decoded_alike(served[variable], decoded[variable])
            compared(decoded[variable])


def skipped(dataset):
    """Dimension scales without values: kerchunk writes no array for them."""
    return {
        name
        for name, variable in dataset.variables.items()
        if variable.dims == (name,) and "NAME" in variable.attrs
    }


def assert_decoded_alike(served, direct):
    if direct.dtype.kind not in "OSU":
        assert np.array_equal(missing(served), missing(direct)), served.name
    if {"scale_factor", "add_offset"} & {*direct.encoding, *served.encoding}:
        # JSON attributes have no float32: xarray unpacks in double where the file has it in single
        np.testing.assert_allclose(served, direct, rtol=1e-6)
    else:
        assert same(served, direct), served.name


def missing(array):
    return np.asarray(array.isnull())


# (file, x, y): each of their variables with both dimensions is asked for as series and subset
GRIDS = [
    ("grids/xarray_data/sst.mnmean.nc", "lon", "lat"),
    ("grids/virtual/kerchunk/air.nc", "lon", "lat"),
    ("grids/cfdm/example_field_0.nc", "lon", "lat"),
    ("grids/titiler_xarray/dataset_3d.nc", "x", "y"),
    ("grids/titiler_xarray/dataset_4d.nc", "x", "y"),
    ("grids/rioxarray/MODIS_ARRAY.nc", "x", "y"),
    ("grids/rioxarray/PLANET_SCOPE_3D.nc", "x", "y"),
    ("grids/rioxarray/sentinel_2_L1C_geographic.nc", "longitude", "latitude"),
    ("grids/rioxarray/tmmx_20190121.nc", "lon", "lat"),
    ("grids/rioxarray/veris.nc", "x", "y"),
    ("grids/xclim_testdata/cmip5/tas_Amon_CanESM2_rcp85_r1i1p1_200701-200712.nc", "lon", "lat"),
    (next(name for name, _ in GRANULES if "LT05" in name), "x", "y"),
    ("itslive/hyp3_testing/autorift_106.nc", "x", "y"),
]


def on_grid(dataset, x, y):
    return [name for name, variable in dataset.data_vars.items() if {x, y} <= set(variable.dims)]


@pytest.mark.parametrize(("name", "x", "y"), GRIDS, ids=[Path(name).name[:40] for name, _, _ in GRIDS])
def test_series_and_subsets_equal_the_file(name, x, y, mounted, compared):
    base = mounted(DATA / name)
    direct = open_directly(DATA / name, "")
    variables = on_grid(direct, x, y)
    assert variables
    for row, column in ((0, 0), (direct.sizes[y] // 3, direct.sizes[x] // 2), (-1, -1)):
        expected = direct[variables].isel({x: column, y: row})
        point = {"x": float(direct[x][column]), "y": float(direct[y][row]), "variables": ",".join(variables)}
        answer = httpx.get(f"{base}/timeseries", params=point | {"f": "json"}).raise_for_status().json()
        for variable in variables:
            values = np.array(answer["variables"][variable]["values"], dtype=float).astype(
                expected[variable].dtype
            )
            assert_values(values, expected[variable], variable)
            compared(expected[variable])
    window = {
        x: slice(direct.sizes[x] // 4, direct.sizes[x] // 4 + 30),
        y: slice(direct.sizes[y] // 5, direct.sizes[y] // 5 + 20),
    }
    expected = direct[variables].isel(window)
    edges = [expected[x].min(), expected[y].min(), expected[x].max(), expected[y].max()]
    box = {"bbox": ",".join(repr(float(edge)) for edge in edges), "bbox-crs": "native", "f": "netcdf"}
    answer = httpx.get(f"{base}/subset", params=box | {"variables": ",".join(variables)})
    assert answer.status_code == 200, answer.text
    subset = xr.load_dataset(io.BytesIO(answer.content), engine="h5netcdf")
    for variable in variables:
        np.testing.assert_array_equal(subset[x], expected[x])
        np.testing.assert_array_equal(subset[y], expected[y])
        assert_values(subset[variable], expected[variable], variable)
        compared(expected[variable])


def assert_values(answered, direct, name):
    # unpacking in double where the file unpacks in single, see assert_decoded_alike
    rtol = 1e-6 if {"scale_factor", "add_offset"} & {*direct.encoding} else 0
    np.testing.assert_allclose(
        np.asarray(answered, float).reshape(direct.shape), np.asarray(direct, float), rtol=rtol, err_msg=name
    )


CSLC = DATA / next(name for name, group in GRANULES if group == "metadata/orbit")


def test_the_complex_image_of_a_cslc(mounted, compared):
    base = mounted(CSLC, "data")
    with h5py.File(CSLC) as file:
        stored = file["data/VV"]
        corners = [
            stored.id.get_chunk_info(number).chunk_offset for number in range(stored.id.get_num_chunks())
        ]
        assert corners
        for zarr_format in (2, 3):
            served = zarr.open_group(f"{base}/zarr", mode="r", zarr_format=zarr_format)
            for name in ("VV", "azimuth_carrier_phase"):
                for row, column in (corners[0], corners[len(corners) // 2], corners[-1], (0, 0)):
                    block = np.s_[row : row + 60, column : column + 5000]
                    np.testing.assert_array_equal(served[name][block], file[f"data/{name}"][block])
                    compared(served[name][block])
        # most of this file was cut away: what is not there is HDF5's fill, by HDF5's own account
        row, column = corners[0][0] + 7, corners[0][1] + 4321
        point = {
            "x": file["data/x_coordinates"][column],
            "y": file["data/y_coordinates"][row],
            "variables": "VV",
        }
        answer = httpx.get(f"{base}/timeseries", params=point).raise_for_status().json()
        values = {name: field["values"] for name, field in answer["variables"].items()}
        assert complex(values["VV_real"], values["VV_imag"]) == stored[row, column]


def test_what_kerchunk_lost_is_refused_and_not_filled(mounted, compared):
    base = mounted(CSLC, error="ignore")
    lost = "metadata/processing_information/runconfig"
    for document in (".zarray", "zarr.json"):
        response = httpx.get(f"{base}/zarr/{lost}/{document}")
        assert response.status_code == 404
        assert "references" in response.json()["detail"]
    served = zarr.open_group(f"{base}/zarr", mode="r", zarr_format=3)
    with h5py.File(CSLC) as file:
        paths = []
        file.visititems(lambda path, item: paths.append(path) if isinstance(item, h5py.Dataset) else None)
        small = [path for path in paths if file[path].size < 2_000_000 and path != lost]
        assert len(small) > 150
        for path in small:
            assert same(served[path][...], file[path][...]), path
            compared(np.asarray(file[path][...]))


KERCHUNK_SETS = [
    "grids/virtual/kerchunk_cookbook/foundations/combined.parq",
    "grids/virtual/kerchunk_cookbook/using_references/references/ARG_combined.json",
    "grids/virtual/kerchunk_cookbook/using_references/references/HRRR_combined.json",
    "grids/virtual/kerchunk_cookbook/using_references/references/Pangeo_Forge/reference.json",
    "grids/virtual/kerchunk_cookbook/using_references/references/RADAR.json",
    "grids/virtual/kerchunk/hrrr.wrfsfcf.subset.json",
    "grids/virtual/kerchunk/hrrr.wrfsubhf.subset.json",
]


@pytest.mark.parametrize("name", KERCHUNK_SETS, ids=[Path(name).name for name in KERCHUNK_SETS])
def test_reference_sets_serve_what_they_inline_and_nothing_made_up(name, serve_collections, compared):
    """Their granules are out of reach here: inlined chunks must be right, all others an error."""
    source = {"kind": "kerchunk", "href": (DATA / name).as_uri(), "fill": "declared"}
    base = serve_collections({"id": "cube", "source": source}, allow=[DATA.as_uri()], upstreams=OUT_OF_REACH)
    url = f"{base}/datasets/cube/zarr"
    metadata = httpx.get(f"{url}/.zmetadata")
    if name in REFUSED:
        assert metadata.status_code == 502
        return
    served = metadata.raise_for_status().json()["metadata"]
    references = read_references(DATA / name)
    inlined = {key: value for key, value in references.items() if isinstance(value, bytes)}
    for key, value in list(inlined.items())[:400]:
        response = httpx.get(f"{url}/{quote(key)}")
        if f"{key.rpartition('/')[0]}/.zarray" in served:
            assert response.content == value, key
            compared(np.frombuffer(value, np.uint8))
        else:
            assert response.status_code == 404
    on_s3 = [
        key for key, value in references.items() if isinstance(value, list) and value[0].startswith("s3:")
    ]
    for key in on_s3[:2]:
        expected = 503 if f"{key.rpartition('/')[0]}/.zarray" in served else 404
        assert httpx.get(f"{url}/{quote(key)}", timeout=60).status_code == expected, key


# nobody listens on port 9 of this machine
OUT_OF_REACH = {
    f"s3://{bucket}/": {"anonymous": True, "region": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    for bucket in ("smn-ar-wrf", "noaa-hrrr-bdp-pds", "fmi-opendata-radar-geotiff")
} | {"http://www.northwestknowledge.net/": {}}
# templates, which are code and not data
REFUSED = (
    "grids/virtual/kerchunk/hrrr.wrfsfcf.subset.json",
    "grids/virtual/kerchunk/hrrr.wrfsubhf.subset.json",
)


def read_references(path):
    if path.suffix == ".parq":
        return read_parquet(path)
    document = json.loads(path.read_text())
    return {
        key: decoded(value)
        for key, value in document.get("refs", document).items()
        if "/" in key and "/.z" not in key
    }


def read_parquet(store):
    metadata = json.loads((store / ".zmetadata").read_text())
    found = {}
    for partition in store.glob("*/refs.*.parq"):
        array = metadata["metadata"][f"{partition.parent.name}/.zarray"]
        grid = [-(-size // chunk) for size, chunk in zip(array["shape"], array["chunks"], strict=True)]
        first = int(partition.name.split(".")[1]) * metadata["record_size"]
        table = pq.read_table(partition).to_pylist()
        for number, row in enumerate(table[: int(np.prod(grid)) - first], start=first):
            key = ".".join(map(str, np.unravel_index(number, grid)))
            entry = row["raw"] if row.get("raw") is not None else [row["path"], row["offset"], row["size"]]
            if entry != [None, 0, 0]:
                found[f"{partition.parent.name}/{key}"] = entry
    return found


def decoded(value):
    if not isinstance(value, str):
        return value
    return base64.b64decode(value[7:]) if value.startswith("base64:") else value.encode()


STORES = [
    "grids/cfdm/example_field_0.zarr2",
    "grids/cfdm/example_field_0.zarr3",
    "grids/zarr/zarrita_js/v2/data.zarr",
    "grids/zarr/zarrita_js/v3/data.zarr",
    "grids/zarr/zarrita_js/v3/data.zarr/consolidated",
    "grids/titiler_xarray/dataset_3d.zarr",
    "grids/titiler_xarray/pyramid.zarr",
    "grids/titiler_xarray/zarr_5d.zarr",
]


@pytest.mark.parametrize("name", STORES, ids=[name.replace("/", "-") for name in STORES])
def test_zarr_stores_equal_themselves(name, serve_collections, compared):
    source = {"kind": "zarr", "href": (DATA / name).as_uri()}
    base = serve_collections({"id": "cube", "source": source}, allow=[DATA.as_uri()])
    direct = dict(arrays_of(DATA / name))
    assert direct
    found = 0
    for zarr_format in (2, 3):
        for tree in ("zarr", "zarr-plain"):
            url = f"{base}/datasets/cube/{tree}"
            for path, array in direct.items():
                document = ".zarray" if zarr_format == 2 else "zarr.json"
                response = httpx.get(f"{url}/{quote(path)}/{document}")
                if response.status_code == 404:
                    assert response.json()["detail"]
                    assert tree == "zarr" or array.dtype.kind in "OT", f"{path} has a plain form"
                    continue
                store = FsspecStore.from_url(f"{url}/{quote(path)}", read_only=True)
                served = zarr.open_array(store, mode="r", zarr_format=zarr_format)
                assert same(served[...], array[...]), path
                compared(np.asarray(array[...]))
                found += 1
    assert found >= len(direct)


def arrays_of(directory):
    for document in sorted([*directory.rglob(".zarray"), *directory.rglob("zarr.json")]):
        try:
            array = zarr.open_array(document.parent, mode="r")
        except (ValueError, FileNotFoundError, zarr.errors.NodeTypeValidationError):
            # a group, or what zarr-python cannot read either (json2 objects, a broken document)
            continue
        yield document.parent.relative_to(directory).as_posix(), array
