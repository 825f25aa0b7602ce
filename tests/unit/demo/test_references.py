import json

import netCDF4
import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
from kerchunk.utils import refs_as_store

GRIDDED = {
    "displacement", "short_wavelength_displacement", "temporal_coherence", "recommended_mask",
    "connected_component_labels",
}  # fmt: skip


def read_parquet(store):
    """Read the references back; fsspec's own reader takes an absent one for a path where pandas is 3."""
    document = json.loads((store / ".zmetadata").read_text())
    references = {key: json.dumps(value) for key, value in document["metadata"].items()}
    for partition in store.glob("*/refs.*.parq"):
        name = partition.parent.name
        array = document["metadata"][f"{name}/.zarray"]
        grid = [-(-size // chunk) for size, chunk in zip(array["shape"], array["chunks"], strict=True)]
        first = int(partition.name.split(".")[1]) * document["record_size"]
        for number, row in enumerate(pq.read_table(partition).to_pylist(), first):
            if row["path"] is not None or row["raw"] is not None:
                key = ".".join(map(str, np.unravel_index(number, grid))) if grid else "0"
                references[f"{name}/{key}"] = row["raw"] or [row["path"], row["offset"], row["size"]]
    return references


@pytest.fixture(scope="session", params=["json", "parquet"])
def opened(request, demo):
    """What opens the references, through fsspec."""
    if request.param == "json":
        references = json.loads((demo / "opera-f11116.json").read_text())
    else:
        references = read_parquet(demo / "opera-f11116.parq")

    def open_references(**options):
        store = refs_as_store(references, remote_protocol="file")
        return xr.open_zarr(store, zarr_format=2, consolidated=False, chunks=None, **options)

    return open_references


def test_every_value_is_the_granules(opened, granules):
    cube = opened(decode_cf=False)
    compared = 0
    assert set(cube.variables) == {*GRIDDED, "x", "y", "time", "reference_time", "spatial_ref"}
    for number, path in enumerate(granules):
        with netCDF4.Dataset(path) as file:
            file.set_auto_maskandscale(False)
            for name in GRIDDED | {"time", "reference_time"}:
                values = cube[name][number].values
                assert values.dtype == file[name].dtype
                np.testing.assert_array_equal(values, file[name][...])
                compared += values.size
            for name in ("x", "y", "spatial_ref"):
                np.testing.assert_array_equal(cube[name].values, file[name][...])
                compared += cube[name].size
    assert compared == 24 * (5 * 740 * 1000 + 2 + 740 + 1000 + 1)


def test_cf_decoding_gives_both_times_as_coordinates_on_time(opened, granules):
    cube = opened()
    assert cube.displacement.dims == ("time", "y", "x")
    assert cube.displacement.sizes == {"time": 24, "y": 740, "x": 1000}
    for number, name in ((6, "reference_time"), (7, "time")):
        assert cube.coords[name].dims == ("time",)
        expected = [np.datetime64(_instant(path.name.split("_")[number])) for path in granules]
        np.testing.assert_array_equal(cube[name].values, np.array(expected, dtype="datetime64[ns]"))
    assert cube.spatial_ref.dims == ()


def _instant(compact):
    return f"{compact[:4]}-{compact[4:6]}-{compact[6:11]}:{compact[11:13]}:{compact[13:15]}"


def test_references_are_absolute_file_urls_and_leave_out_the_unallocated_chunks(demo):
    references = json.loads((demo / "opera-f11116.json").read_text())["refs"]
    chunks = {key: value for key, value in references.items() if ".z" not in key}
    for name in GRIDDED:
        kept = {key for key in chunks if key.startswith(f"{name}/")}
        everything = {f"{name}/{t}.{y}.{x}" for t in range(24) for y in range(3) for x in range(4)}
        assert everything - kept == {f"{name}/6.0.2"}
    remote = {key: value[0] for key, value in chunks.items() if isinstance(value, list)}
    assert {"x/0", "y/0", "displacement/0.1.1"} < set(remote)
    assert any(key.startswith("connected_component_labels/") for key in set(chunks) - set(remote))
    assert all(url.startswith(f"file://{demo}/granules/OPERA_L3_DISP-S1_") for url in remote.values())


def test_the_parquet_store_has_several_partitions_an_array(demo):
    names = sorted(path.name for path in (demo / "opera-f11116.parq" / "displacement").iterdir())
    assert names == ["refs.0.parq", "refs.1.parq", "refs.2.parq"]
