"""Granules of one grid, as an archive would hold them, and their indexes."""

import json

import h5py
import numpy as np
import pytest
from tests.unit.archives.archive import granule_name, running_archive

from cubegate.chunks.upstream import open_upstreams
from cubegate.cli import main
from cubegate.index.build import build_index
from cubegate.settings import UpstreamSettings

# of granules, by number
SECONDARY = ["20200104T140734", "20200116T140733", "20200128T140733", "20200209T140733"]

HEIGHT, WIDTH = 20, 24


def _write_granule(
    path, seed, *, height=HEIGHT, west=500_000.0, skip_rows=0, dtype="f4", level=4, group=True
):
    """Write a granule of two gridded arrays, one of them in a group; returns the values of the first.

    No chunk is written of the first `skip_rows` rows.
    """
    random = np.random.default_rng(seed)
    values = random.normal(size=(height, WIDTH)).astype(dtype)
    values[:skip_rows] = np.nan
    with h5py.File(path, "w") as file:
        axes = {"y": 4e6 - 30.0 * np.arange(height), "x": west + 30.0 * np.arange(WIDTH)}
        for name, axis in axes.items():
            file[name] = axis
            file[name].attrs["standard_name"] = f"projection_{name}_coordinate"
            file[name].attrs["units"] = "m"
            file[name].make_scale(name)
        file["spatial_ref"] = np.int32(0)
        file["spatial_ref"].attrs["spatial_ref"] = "EPSG:32611"
        file["spatial_ref"].attrs["grid_mapping_name"] = "transverse_mercator"
        file["baseline"] = np.float32(seed * 1.5)
        file.attrs["mission_name"], file.attrs["production"] = "OPERA", f"run {seed}"
        options = {"chunks": (8, 8), "shuffle": True, "compression": "gzip", "compression_opts": level}
        layer = file.create_dataset("displacement", values.shape, dtype, fillvalue=np.nan, **options)
        layer.attrs.create("_FillValue", np.nan, dtype=dtype)
        layer[skip_rows:] = values[skip_rows:]
        layer.attrs["units"], layer.attrs["grid_mapping"] = "m", "spatial_ref"
        arrays = [layer]
        if group:
            inner = file.create_dataset("corrections/delay", data=values * 2, **options)
            for name, axis in axes.items():
                file[f"corrections/{name}"] = axis
                file[f"corrections/{name}"].make_scale(name)
            arrays.append(inner)
        for array in arrays:
            parent = array.parent
            array.dims[0].attach_scale(parent["y"])
            array.dims[1].attach_scale(parent["x"])
    return values


@pytest.fixture
def write_granule():
    return _write_granule


@pytest.fixture
async def upstreams(tmp_path):
    opened = open_upstreams({f"{tmp_path.as_uri()}/": UpstreamSettings()}, {})
    yield opened
    await opened.aclose()


@pytest.fixture
def index_of(upstreams, scan_granule, tmp_path):
    """Return the index of one granule."""

    async def index_of(path):
        references = path.with_suffix(".json")
        references.write_text(json.dumps(scan_granule(path, inline_threshold=0)))
        return await build_index(references.as_uri(), upstreams, check_url=upstreams.check)

    return index_of


@pytest.fixture
def archive():
    """A CMR and the granules that it lists, none yet."""
    with running_archive() as running:
        yield running


@pytest.fixture
def configuration(archive, tmp_path):
    """A configuration that may read the archive and what lies in `tmp_path`, and mounts its folder `cubes`."""
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        f'archives: {{cmr: "{archive.url}"}}\n'
        f'upstreams: {{"{archive.url}/data/": {{}}, "{tmp_path.as_uri()}/": {{}}}}\n'
        "collections: [cubes/*.yaml]\n"
    )
    return file


@pytest.fixture
def publish(archive, tmp_path, write_granule, scan_granule):
    """Publish a granule of one date; returns its values."""

    def publish(number, **options):
        name = granule_name(SECONDARY[number], production=options.pop("production", "20250408T164512"))
        path = tmp_path / f"{name}.nc"
        values = write_granule(path, 10 * len(archive.granules) + number, **options)
        archive.add(name, path, scan_granule(path, inline_threshold=0))
        return values

    return publish


@pytest.fixture
def run(configuration, capsys):
    """Run a command that must succeed; returns its report."""

    def run(*arguments):
        code = main([*arguments, "--json", "--config", str(configuration)])
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)

    return run
