"""What every output format promises, whoever wrote it."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from cubegate.errors import InvalidParameter, NotAcceptable
from cubegate.formats.output import Result, choose_format, output_formats

FORMATS = output_formats()
SHAPES = ("series", "points", "cube")
MEDIA_TYPES = {
    "csv": "text/csv", "json": "application/json", "covjson": "application/prs.coverage+json",
    "netcdf": "application/x-netcdf", "geotiff": "image/tiff", "parquet": "application/vnd.apache.parquet",
    "png": "image/png", "geojson": "application/geo+json",
}  # fmt: skip
BEGINNINGS = {
    "csv": b"# title: Demo\n", "json": b'{"title": "Demo"', "covjson": b'{"type": "Coverage', "netcdf": b"\x89HDF\r\n\x1a\n",
    "geotiff": b"II*\x00", "parquet": b"PAR1", "png": b"\x89PNG\r\n\x1a\n", "geojson": b'{"type": "FeatureCollection"',
}  # fmt: skip
CASES = [
    (name, shape) for name, found in sorted(FORMATS.items()) for shape in SHAPES if shape in found.shapes
]


def make(shape: str, **options: object) -> Result:
    """A small result of every shape, with a time, missing cells and a projected grid."""
    times = np.array(["2020-01-13", "2020-01-25"], "M8[ns]")
    values = np.arange(24, dtype="f4").reshape(2, 3, 4) / 10
    values[0, 0, 0] = np.nan
    dataset = xr.Dataset(
        {"v": (("time", "y", "x"), values, {"units": "m"})},
        {"time": times, "y": 1000.0 - 10 * np.arange(3), "x": 500.0 + 10 * np.arange(4)},
    )
    if shape != "cube":
        dataset = dataset.assign_coords(
            longitude=(("y", "x"), np.full((3, 4), -118.0)), latitude=(("y", "x"), np.full((3, 4), 34.0))
        )
        chosen = (
            {"y": 1, "x": 2}
            if shape == "series"
            else {"y": xr.DataArray([0, 2], dims="point"), "x": xr.DataArray([0, 3], dims="point")}
        )
        dataset = dataset.isel(chosen).transpose("point", ..., missing_dims="ignore")
        dataset = dataset.assign_coords(distance=3.0 if shape == "series" else ("point", [3.0, 4.0]))
    provenance = {"title": "Demo", "dataset": "demo", "version": "v1", "source": "zarr"}
    return Result(shape, dataset, "x", "y", "time", "EPSG:32611", provenance, options)


def test_all_formats_are_found_by_entry_point():
    assert set(MEDIA_TYPES) <= set(FORMATS)
    for name, found in FORMATS.items():
        assert found.name == name


@pytest.mark.parametrize("name", sorted(MEDIA_TYPES))
def test_media_type_extension_and_shapes(name):
    found = FORMATS[name]
    assert found.media_type.split(";")[0] == MEDIA_TYPES[name]
    assert found.extension.isalnum()
    assert found.shapes
    assert found.shapes <= set(SHAPES)


def test_the_shapes_of_the_service():
    able = {shape: {name for name, found in FORMATS.items() if shape in found.shapes} for shape in SHAPES}
    assert able["series"] >= {"csv", "json", "geojson", "covjson", "netcdf", "parquet", "png"}
    assert able["points"] >= {"csv", "json", "geojson", "covjson", "netcdf", "parquet", "png"}
    assert able["cube"] >= {"csv", "covjson", "netcdf", "geotiff", "parquet", "png"}


def test_choosing_says_what_there_is():
    assert choose_format(FORMATS, "csv", "series") is FORMATS["csv"]
    with pytest.raises(InvalidParameter, match="covjson"):
        choose_format(FORMATS, "xlsx", "series")
    with pytest.raises(InvalidParameter, match="netcdf"):
        choose_format(FORMATS, "geotiff", "series")


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_pieces_are_bytes_and_begin_as_the_format_does(name, shape):
    pieces = FORMATS[name].write(make(shape))
    assert isinstance(pieces, Iterator)
    parts = list(pieces)
    assert all(isinstance(piece, bytes) and piece for piece in parts)
    assert b"".join(parts).startswith(BEGINNINGS[name])


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_same_result_same_bytes(name, shape):
    assert b"".join(FORMATS[name].write(make(shape))) == b"".join(FORMATS[name].write(make(shape)))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_the_result_is_left_as_it_was(name, shape):
    result = make(shape)
    before = result.dataset.copy(deep=True)
    encodings = {key: dict(variable.encoding) for key, variable in result.dataset.variables.items()}
    b"".join(FORMATS[name].write(result))
    xr.testing.assert_identical(result.dataset, before)
    assert {key: dict(variable.encoding) for key, variable in result.dataset.variables.items()} == encodings


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_no_form_is_said_before_the_first_piece(name, shape):
    result = make(shape)
    structures = result.dataset.assign(
        v=(result.dataset["v"].dims, np.zeros(result.dataset["v"].shape, "i4,f4"))
    )
    with pytest.raises(NotAcceptable, match="v"):
        FORMATS[name].write(replace(result, dataset=structures))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_unknown_options_are_no_concern_of_a_format(name, shape):
    assert b"".join(FORMATS[name].write(make(shape, compress=5, resampling="nearest")))


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_an_abandoned_document_leaves_no_file(name, shape, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pieces = FORMATS[name].write(make(shape))
    next(pieces)
    pieces.close()
    assert not list(tmp_path.iterdir())


def test_heavy_libraries_wait_for_the_first_use():
    program = (
        "import sys; from cubegate.formats.output import output_formats; output_formats(); "
        "print(sorted({'matplotlib', 'rasterio', 'h5netcdf', 'h5py'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "module"), [("netcdf", "h5netcdf"), ("geotiff", "rasterio"), ("png", "matplotlib")]
)
def test_a_missing_library_is_named_by_its_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotAcceptable, match=r"cubegate\[formats\]"):
        FORMATS[name].write(make("cube"))
