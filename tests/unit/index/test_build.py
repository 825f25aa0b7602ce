from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from cubegate.errors import UpstreamObjectMissing
from cubegate.index.build import build_index
from cubegate.index.location import Stored


def accept(url):
    pass


@pytest.fixture
def references(granule, scan_hdf5, tmp_path):
    file = tmp_path / "references.json"
    file.write_text(json.dumps(scan_hdf5(granule)))
    return file


async def test_a_lost_granule_fails_the_build_or_leaves_coordinates_upstream(
    references, granule, local_source
):
    granule.unlink()
    with pytest.raises(UpstreamObjectMissing):
        await build_index(references.as_uri(), local_source, check_url=accept)
    index = await build_index(
        references.as_uri(), local_source, check_url=accept, require_coordinates=False, fill="declared"
    )
    located = index.locate(index.hierarchy.arrays["x"], [(0,)])[0]
    assert isinstance(located, Stored)
    with pytest.raises(UpstreamObjectMissing):
        await local_source.get(located.reference)


async def test_a_group_asks_its_own_arrays_of_the_granule(tmp_path, scan_hdf5, local_source):
    granule = tmp_path / "granule.h5"
    with h5py.File(granule, "w") as file:
        for group, declared in (("one", True), ("two", False)):
            array = file.create_dataset(f"{group}/v", data=np.arange(4.0), chunks=(2,))
            if declared:
                array.attrs["_FillValue"] = 0.0
    references = tmp_path / "references.json"
    references.write_text(json.dumps(scan_hdf5(granule)))
    for group, declared in (("one", 0.0), ("two", None)):
        index = await build_index(references.as_uri(), local_source, check_url=accept, group=group)
        assert index.hierarchy.arrays["v"].declared_fill == declared
        assert index.assumed_fill == ()
