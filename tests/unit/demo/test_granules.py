import re
from datetime import datetime
from itertools import pairwise

import h5py
import netCDF4
import numpy as np
import pyproj
import rasterio

from cubegate.demo.granules import landscape, pairs, write_granule
from cubegate.demo.lines import LAT, LON

SHAPE, CHUNKS = (740, 1000), (256, 256)
FILLS = {
    "displacement": ("float32", np.nan),
    "short_wavelength_displacement": ("float32", np.nan),
    "temporal_coherence": ("float32", np.nan),
    "recommended_mask": ("uint8", 255),
    "connected_component_labels": ("uint16", 65535),
}
NAME = re.compile(r"OPERA_L3_DISP-S1_IW_F11116_VV_(\d{8}T\d{6}Z)_(\d{8}T\d{6}Z)_v1\.0_\d{8}T\d{6}Z\.nc")


def dates_of(path):
    return [datetime.strptime(date, "%Y%m%dT%H%M%S%z") for date in NAME.fullmatch(path.name).groups()]


def test_names_give_a_stack_with_one_missing_pass_and_a_reference_that_moves(granules):
    assert len(granules) == 24
    references, secondaries = zip(*map(dates_of, granules), strict=True)
    steps = [round((b - a).total_seconds() / 86400) for a, b in pairwise(secondaries)]
    assert sorted(steps) == [12] * 22 + [24]
    assert len(set(references)) == 2
    assert max(references) in secondaries


def test_times_are_those_of_the_name(granules):
    for path in granules:
        with netCDF4.Dataset(path) as file:
            read = [
                netCDF4.num2date(file[name][...], file[name].units, only_use_cftime_datetimes=False)
                for name in ("reference_time", "time")
            ]
        assert read == [date.replace(tzinfo=None) for date in dates_of(path)]


def test_every_array_is_chunked_filtered_and_filled_as_promised(granules):
    for path in granules:
        with h5py.File(path) as file:
            for name, (dtype, fill) in FILLS.items():
                array = file[name]
                assert (array.shape, array.chunks, array.dtype) == (SHAPE, CHUNKS, dtype)
                assert (array.shuffle, array.compression, array.compression_opts) == (True, "gzip", 4)
                np.testing.assert_array_equal(array.fillvalue, fill)
                np.testing.assert_array_equal(array.attrs["_FillValue"], [fill])
                assert array.attrs["_FillValue"].dtype == dtype
            assert file.id.get_create_plist().get_file_space_strategy()[0] == h5py.h5f.FSPACE_STRATEGY_PAGE


def test_one_date_has_a_chunk_that_was_never_written(granules):
    missing = []
    for number, path in enumerate(granules):
        with h5py.File(path) as file:
            for name, (_, fill) in FILLS.items():
                array = file[name].id
                written = {array.get_chunk_info(i).chunk_offset for i in range(array.get_num_chunks())}
                grid = {(row, column) for row in range(0, 740, 256) for column in range(0, 1000, 256)}
                for row, column in grid - written:
                    missing.append((number, name, row, column))
                    values = file[name][row : row + 256, column : column + 256]
                    np.testing.assert_array_equal(values, np.full_like(values, fill))
    assert missing == [(6, name, 0, 512) for name in FILLS]


def test_the_swath_is_slanted_and_the_mask_has_true_zeros(granules):
    with h5py.File(granules[0]) as file:
        values = {name: file[name][:] for name in FILLS}
    outside = np.isnan(values["displacement"])
    assert 0.1 < outside.mean() < 0.5
    assert [outside[0, 0], outside[-1, -1], outside[370, 500]] == [True, True, False]
    assert np.argmin(outside[100]) < np.argmin(outside[600])
    np.testing.assert_array_equal(values["recommended_mask"] == 255, outside)
    np.testing.assert_array_equal(values["connected_component_labels"] == 65535, outside)
    assert set(np.unique(values["recommended_mask"])) == {0, 1, 255}
    assert set(np.unique(values["connected_component_labels"])) == {0, 1, 2, 65535}
    inside = values["temporal_coherence"][~outside]
    assert 0 <= inside.min() < inside.max() <= 1


def test_the_printed_point_has_data_at_every_date_and_sinks(granules):
    x, y = pyproj.Transformer.from_crs(4326, 32611, always_xy=True).transform(LON, LAT)
    series = []
    for path in granules:
        with h5py.File(path) as file:
            row, column = np.abs(file["y"][:] - y).argmin(), np.abs(file["x"][:] - x).argmin()
            assert max(abs(file["y"][row] - y), abs(file["x"][column] - x)) <= 15
            series.append(file["displacement"][row, column])
    assert np.isfinite(series).all()
    assert series[14] < -0.05


def test_gdal_reads_the_grid_and_its_crs(granules):
    with rasterio.open(f"netcdf:{granules[0]}:displacement") as raster, h5py.File(granules[0]) as file:
        assert raster.crs.to_epsg() == 32611
        assert raster.transform.to_gdal() == (375000, 30, 0, 3785010, 0, -30)
        np.testing.assert_array_equal(raster.read(1), file["displacement"][:])
        assert set(np.diff(file["y"][:])) == {-30}
        assert set(np.diff(file["x"][:])) == {30}


def test_granules_are_the_same_bytes_each_time(granules, tmp_path):
    # HDF5 notes the time of writing in the first bytes of a paged file
    for number in (0, 6, 23):
        write_granule(tmp_path / "again.nc", pairs()[number], landscape())
        assert (tmp_path / "again.nc").read_bytes()[128:] == granules[number].read_bytes()[128:]
