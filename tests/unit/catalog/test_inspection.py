"""What `cubegate inspect` says of a cube, at any width."""

import io
import json
import logging

import netCDF4
import numpy as np
import pytest
import zarr
from pyproj import Transformer
from rich.console import Console

from cubegate.catalog.inspection import describe_cube

KERCHUNK = "title: A stack\ndescription: Made up.\nsource: {kind: kerchunk, href: ../stack/stack.json}"


async def described(catalog, name, width):
    console = Console(file=io.StringIO(), width=width)
    for part in await describe_cube(await catalog.get(name)):
        console.print(part)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 240])
async def test_the_grid_and_the_times(opened, stack, width):
    text = await described(opened(cube=KERCHUNK), "cube", width)
    folded = " ".join(text.split())
    assert "cube: A stack Made up. version" in folded
    assert "6 arrays, 1 group, 3 granules" in folded
    assert "CRS EPSG:32611 (WGS 84 / UTM zone 11N)" in folded
    assert "grid of 24 x 20 cells of 30 x 30 m" in folded
    assert "extent x 499985 to 500705, y 3999415 to 4000015 (EPSG:32611)" in folded
    west, south, east, north = Transformer.from_crs(32611, 4326, always_xy=True).transform_bounds(
        499985, 3999415, 500705, 4000015
    )
    assert f"extent x {west:.6f}"[:15] in folded
    assert f"to {east:.6f}"[:9] in folded
    assert f"y {south:.6f}"[:8] in folded
    assert f"to {north:.6f}"[:9] in folded
    assert "3 times from 2020-01-01T00:00:00Z to 2020-01-25T00:00:00Z (time)" in folded
    assert all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [60, 80, 240])
async def test_every_fact_of_an_array_is_there_at_any_width(opened, stack, width):
    text = await described(opened(cube=KERCHUNK), "cube", width)
    folded = " ".join(text.split())
    for fact in ("displacement", "float32", "3 x 20 x 24", "time, y, x", "1 x 8 x 8", "27 of 27", "shuffle + zlib"):  # fmt: skip
        assert fact in folded
    assert ("│" in text) == (width == 240)


async def test_groups_attributes_and_what_is_no_dataset(opened, tmp_path):
    root = zarr.open_group(tmp_path / "groups.zarr", mode="w", zarr_format=2)
    root.attrs["Conventions"] = "CF-1.8"
    root.attrs["history"] = "long " * 100
    inner = root.create_group("inner")
    inner.attrs["title"] = "[bold]inside"
    for name, size in (("a", 3), ("b", 4)):
        array = inner.create_array(name, shape=(size,), dtype="i4", chunks=(2,))
        array.attrs["_ARRAY_DIMENSIONS"] = ["n"]
    zarr.consolidate_metadata(tmp_path / "groups.zarr")
    catalog = opened(cube="source: {kind: zarr, href: ../groups.zarr}")
    text = await described(catalog, "cube", 240)
    lines = text.splitlines()
    assert "2 arrays, 2 groups" in lines
    assert "Conventions: CF-1.8" in lines
    assert any(line.startswith("history: long long") and line.endswith("…") for line in lines)
    assert "group inner" in lines
    assert "title: [bold]inside" in lines
    assert any(line.startswith("Dimension 'n' has size 3") for line in lines)
    assert any("2 in all" in line for line in lines if line.startswith("│ b "))


async def test_nothing_of_a_cube_moves_the_cursor(opened, tmp_path):
    root = zarr.open_group(tmp_path / "odd.zarr", mode="w", zarr_format=2)
    root.attrs["history"] = "a\x1b[2Jb\x9bc"
    root.create_array("v", shape=(3,), dtype="i4", chunks=(2,)).attrs.update(
        _ARRAY_DIMENSIONS=["n"], units="m\x1b]0;x\x07"
    )
    zarr.consolidate_metadata(tmp_path / "odd.zarr")
    text = await described(
        opened(cube='title: "T\\e[31m"\nsource: {kind: zarr, href: ../odd.zarr}'), "cube", 240
    )
    assert not set(text) & {"\x1b", "\x9b", "\x07"}
    assert r"history: a\x1b[2Jb\x9bc" in text
    assert r"T\x1b[31m" in text


async def test_an_unknown_crs_says_why(opened, stack, tmp_path):
    references = json.loads(stack.references.read_text())
    kept = {k: v for k, v in references["refs"].items() if not k.startswith("spatial_ref")}
    stack.references.write_text(json.dumps({**references, "refs": kept}))
    text = await described(opened(cube=KERCHUNK), "cube", 240)
    assert any(line.startswith("CRS unknown: ") for line in text.splitlines())


async def test_notes_reach_the_description_and_the_log_once(opened, stack, tmp_path, caplog):
    with netCDF4.Dataset(tmp_path / "stack" / "other.nc", "w") as file:
        file.createDimension("n", 4)
        file.createVariable("v", "i4", ("n",))[:] = np.arange(4)
    document = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<i4", "fill_value": 0,
                "order": "C", "filters": None, "compressor": None}  # fmt: skip
    references = {
        ".zgroup": {"zarr_format": 2},
        "v/.zarray": document,
        "v/.zattrs": {"_ARRAY_DIMENSIONS": ["n"]},
        "v/0": ["other.nc", 0, 16],
        "never/.zarray": document,
        "never/.zattrs": {"_ARRAY_DIMENSIONS": ["n"], "_FillValue": 1},
    }
    (tmp_path / "stack" / "notes.json").write_text(json.dumps(references))
    (tmp_path / "stack" / "other.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    catalog = opened(cube="source: {kind: kerchunk, href: ../stack/notes.json}")
    cube = await catalog.get("cube")
    await catalog.get("cube")
    assert [note.split(":")[0] for note in cube.notes] == ["array 'never'", "array 'v'"]
    text = await described(catalog, "cube", 240)
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    for note in cube.notes:
        assert text.count(f"note: {note}") == 1
        assert logged.count(f"dataset cube: {note}") == 1
    assert len(logged) == 3
    assert "cannot be asked about its fill" in logged[0]
