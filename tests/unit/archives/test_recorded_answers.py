"""What was recorded of NASA's catalog, and a granule of OPERA as it is, are read as they are."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from cubegate.archives.building import Part, Plan, make_index
from cubegate.archives.cmr import _granule
from cubegate.chunks.upstream import open_upstreams
from cubegate.index.location import Inlined, Stored
from cubegate.index.progress import silent
from cubegate.settings import UpstreamSettings
from cubegate.store.decoder import decode

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
ANSWERS = sorted((SHARED / "earthdata/earthaccess/unit/fixtures").glob("*_umm.json"))
GRANULE = next(iter(sorted((SHARED / "opera/opera_utils/data").glob("*.h5"))), None)


@pytest.mark.skipif(not ANSWERS, reason="no recorded answers beside the project")
def test_recorded_answers_are_lists_of_granules():
    count = 0
    for path in ANSWERS:
        for item in json.loads(path.read_text("utf-8"))["items"]:
            granule = _granule(item)
            urls = {entry["URL"] for entry in item["umm"]["RelatedUrls"]}
            assert granule.name == item["umm"]["GranuleUR"]
            assert granule.urls
            assert set(granule.urls) <= urls
            count += 1
    assert count >= len(ANSWERS)


@pytest.mark.skipif(GRANULE is None, reason="no OPERA granule beside the project")
async def test_a_real_granule_that_is_scanned_has_the_values_of_the_file(tmp_path, compared):
    """One granule, as if it were of two dates."""
    dates = [np.datetime64(number, "D").astype("M8[ns]") for number in range(2)]
    parts = [Part(f"{date}", GRANULE.as_uri(), date) for date in dates]
    settings = {f"{folder.as_uri()}/": UpstreamSettings() for folder in (tmp_path, GRANULE.parent)}
    source = open_upstreams(settings, {})
    plan = Plan("cube", "", tmp_path / "cubes")
    try:
        index = await make_index(plan, parts, source, check_url=source.check, progress=silent)
        checked = 0
        with h5py.File(GRANULE) as file:
            for path, array in index.hierarchy.arrays.items():
                if len(array.shape) < 3 or path not in file or array.dtype.kind not in "fiuc":
                    continue
                places = list(np.ndindex(array.chunk_grid))
                for chunk in places[:: max(len(places) // 3, 1)]:
                    (found,) = index.locate(array, [chunk])
                    if not isinstance(found, Stored | Inlined):
                        continue
                    data = found.data if isinstance(found, Inlined) else await source.get(found.reference)
                    rows, columns = (
                        slice(n * size, (n + 1) * size)
                        for n, size in zip(chunk[1:], array.chunk_shape[1:], strict=True)
                    )
                    part = file[path][rows, columns]
                    got = decode(array, data)[0:1, 0 : part.shape[0], 0 : part.shape[1]]
                    assert np.array_equal(got[0], part, equal_nan=part.dtype.kind in "fc")
                    compared(part)
                    checked += 1
        assert checked
    finally:
        await source.aclose()
