"""What `cubegate inspect --chunks` says of sizes and costs, held to the references and to what is priced."""

import io
import json

import numpy as np
import pytest
import zarr
from rich.console import Console

from cubegate.catalog.chunk_layout import describe_layout, stored_sizes
from cubegate.cli import main

KERCHUNK = "source: {kind: kerchunk, href: ../stack/stack.json}"


async def described(cube, width=240):
    console = Console(file=io.StringIO(), width=width)
    for part in await describe_layout(cube):
        console.print(part)
    return console.file.getvalue()


def cells(text, array):
    line = next(line for line in text.splitlines() if line.startswith(f"│ {array} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


async def test_sizes_are_those_of_the_references(opened, stack):
    refs = json.loads(stack.references.read_text())["refs"]
    lengths = [
        ref[2] for key, ref in refs.items() if key.startswith("displacement/") and isinstance(ref, list)
    ]
    cube = await opened(cube=KERCHUNK).get("cube")
    array = cube.store.array("displacement")
    found = stored_sizes(cube, array)
    assert found == (min(lengths), int(np.median(lengths)), max(lengths), sum(lengths), len(lengths))
    name, chunk, decoded, stored, ratio, point, one_map, column = cells(await described(cube), "displacement")
    assert (name, chunk, decoded) == ("displacement", "1 x 8 x 8", "256 bytes")
    assert stored.startswith(f"{found.median} bytes ({min(lengths)} bytes to ")
    assert float(ratio) == pytest.approx(256 * len(lengths) / sum(lengths), abs=0.01)
    assert point.startswith("3 chunks, ")
    assert one_map.startswith("9 chunks, ")
    assert column == point


async def test_windows_that_align_are_bounded_by_edges_of_chunks(opened, stack):
    text = " ".join((await described(await opened(cube=KERCHUNK).get("cube"), 80)).split())
    assert "chunks of 1 x 8 x 8 have their edges at x = 499985 + n * 240, y = 4000015 - n * 240" in text


async def test_a_zarr_store_tells_no_stored_sizes(opened, tmp_path):
    group = zarr.open_group(tmp_path / "v.zarr", mode="w", zarr_format=2)
    for name, size, step in (("y", 20, -10.0), ("x", 30, 10.0)):
        axis = group.create_array(name, shape=(size,), dtype="f8", chunks=(size,))
        axis[:] = (np.arange(size) + 1) * step
        axis.attrs.update(_ARRAY_DIMENSIONS=[name], standard_name=f"projection_{name}_coordinate", units="m")
    group.create_array("v", shape=(4, 20, 30), dtype="f4", chunks=(2, 10, 10)).attrs["_ARRAY_DIMENSIONS"] = [
        "time", "y", "x",
    ]  # fmt: skip
    zarr.consolidate_metadata(tmp_path / "v.zarr")
    cube = await opened(cube="source: {kind: zarr, href: ../v.zarr}").get("cube")
    assert cells(await described(cube), "v") == [
        "v", "2 x 10 x 10", "800 bytes", "unknown", "unknown",
        "2 chunks, 1.6 kB", "6 chunks, 4.8 kB", "2 chunks, 1.6 kB",
    ]  # fmt: skip


async def test_what_has_no_grid_is_said(opened, tmp_path):
    group = zarr.open_group(tmp_path / "n.zarr", mode="w", zarr_format=2)
    group.create_array("a", shape=(3,), dtype="i4", chunks=(2,)).attrs["_ARRAY_DIMENSIONS"] = ["n"]
    zarr.consolidate_metadata(tmp_path / "n.zarr")
    cube = await opened(cube="source: {kind: zarr, href: ../n.zarr}").get("cube")
    assert "no variable has x and y axes" in await described(cube)


def test_the_command(stack, tmp_path, write_configuration, capsys):
    file = write_configuration(tmp_path, cube=KERCHUNK)
    assert main(["inspect", "cube", "--chunks", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "a column of chunks" in said
    assert "1 x 8 x 8" in said
