"""The subject of the benchmark of builds is what it is said to be, and what it holds to be wrong is wrong."""

import gzip
import json

import numpy as np

from cubegate.archives.building import Part, Plan, build_cube
from cubegate.chunks.upstream import open_upstreams
from cubegate.index.progress import silent
from cubegate.settings import UpstreamSettings

from . import archives
from .archive_granules import SIDECAR, VARIABLES, Shape, chunk_range, granule_name, make_archive


def test_the_sidecars_are_as_large_as_those_of_the_archive():
    rows, columns = Shape(209, 7721, 9462).grid
    assert len(VARIABLES) * rows * columns == 13_764


def test_a_sidecar_names_every_chunk_of_its_granule(tmp_path):
    shape = Shape(2, 600, 700)
    names = make_archive(tmp_path, shape, "http://host")
    assert names == [granule_name(number) for number in range(2)]
    references = json.loads(gzip.decompress((tmp_path / "data" / f"{names[1]}{SIDECAR}").read_bytes()))[
        "refs"
    ]
    size = (tmp_path / "data" / f"{names[1]}.nc").stat().st_size
    for variable, name in enumerate(VARIABLES):
        for place in range(9):
            url, offset, length = references[f"{name}/{place // 3}.{place % 3}"]
            assert url == f"http://host/data/{names[1]}.nc"
            assert (offset, length) == chunk_range(variable, 1, place, 9)
            assert offset + length <= size


async def test_a_cube_of_fewer_granules_is_seen(tmp_path):
    url, shape = tmp_path.as_uri(), Shape(2, 600, 700)
    names = make_archive(tmp_path, shape, url)
    source = open_upstreams({f"{url}/": UpstreamSettings()}, {})
    parts = [
        Part(name, f"{url}/data/{name}{SIDECAR}", np.datetime64(number, "s"))
        for number, name in enumerate(names)
    ]
    plan = Plan("cube", "", tmp_path / "cubes")
    await build_cube(plan, parts, source, check_url=source.check, progress=silent)
    await source.aclose()
    assert archives._wrong_references(plan.index, shape, url) == []
    assert f"{next(iter(VARIABLES))}: 18 chunks" in archives._wrong_references(
        plan.index, Shape(3, 600, 700), url
    )
    assert len(archives._wrong_references(plan.index, shape, "http://other")) == 300 * len(VARIABLES)
