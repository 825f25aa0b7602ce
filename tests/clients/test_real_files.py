"""Files that nobody here made: every variable read through HTTP equals xarray opening the file directly."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from kerchunk.netCDF3 import NetCDF3ToZarr
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import HDFParser
from obspec_utils.registry import ObjectStoreRegistry

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
    ("opera/opera_utils/data/OPERA_L2_CSLC-S1_T087-185683-IW2_20221228T161651Z_20240504T181714Z_S1A_VV_v1.1.h5", "metadata/calibration_information"),
    ("opera/dolphin/baseline_cslcs/OPERA_L2_CSLC-S1_T042-088905-IW2_20231009T140758Z_20231010T204936Z_S1A_VV_v1.0.h5", "data"),
]  # fmt: skip


# kerchunk 0.2.10 raises on these: they hold scalars that HDF5 stores compactly
BY_VIRTUALIZARR = ("OPERA_L2_CSLC-S1_T087",)
# ... and VirtualiZarr 2.5 too on this one; kerchunk may drop its two scalars, which are empty strings
LOSING_SCALARS = ("LT05_L1GS",)


def write_references(file, group, target, scan):
    """Describe `group` of `file` by kerchunk references; returns the group to mount from them."""
    if file.name.startswith(BY_VIRTUALIZARR):
        registry = ObjectStoreRegistry({"file://": LocalStore()})
        dataset = open_virtual_dataset(
            file.as_uri(), registry=registry, parser=HDFParser(group=group or None), loadable_variables=[]
        )
        dataset.vz.to_kerchunk(str(target), format="json")
        return ""
    if file.read_bytes()[:3] == b"CDF":
        references = NetCDF3ToZarr(str(file)).translate()
    else:
        references = scan(file, error="ignore" if file.name.startswith(LOSING_SCALARS) else "raise")
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
    return first.shape == second.shape and np.array_equal(first, second, equal_nan=not set(kinds) & set("biu"))


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture
def mounted(tmp_path, serve_collections, scan_granule):
    def mount(file, group=""):
        references = tmp_path / "references.json"
        source = {"kind": "kerchunk", "href": references.as_uri(), "group": write_references(file, group, references, scan_granule)}
        base = serve_collections({"id": "cube", "source": source}, allow=[tmp_path.as_uri(), DATA.as_uri()])
        return f"{base}/datasets/cube"

    return mount


@pytest.mark.parametrize(("name", "group"), GRANULES, ids=[f"{Path(name).name[:40]}:{group}" for name, group in GRANULES])
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
    return {name for name, variable in dataset.variables.items() if variable.dims == (name,) and "NAME" in variable.attrs}


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
