"""Overviews of a cube that grew are copied for the dates that it surely had before, and made for the others."""

import numpy as np
import pytest
import zarr
from tests.unit.archives.archive import FRAME

CUBE = f"opera-f{FRAME}"


def halved(values):
    """The means of four; all values are there, and the sizes are even."""
    *lead, height, width = values.shape
    return values.astype("f8").reshape(*lead, height // 2, 2, width // 2, 2).mean(axis=(-3, -1))


def written(folder, report, name="displacement"):
    store = zarr.open_group(folder / f"{CUBE}.overviews" / f"{report['version']}.zarr", mode="r")
    root = store.attrs["cubegate_overviews"]["root"]
    return np.asarray(store[f"{root}/overview_2/{name}"][:])


def test_new_dates_alone_are_read(publish, run, tmp_path, compared):
    values = [publish(0), publish(1)]
    run("build", "opera-disp-s1", "--frame", str(FRAME), "-o", str(tmp_path / "cubes"))
    first = run("overviews", CUBE)
    assert first["copied_of"] is None
    values += [publish(2)]
    assert run("update", CUBE)["outcome"] == "appended"
    before = written(tmp_path / "cubes", first)
    second = run("overviews", CUBE)
    assert second["copied_of"] == first["version"]
    assert set(second["variables"]) == {"displacement", "displacement_continuous"}
    # 9 chunks a date: one date of what is stored, and all of what is derived
    assert (first["price"]["chunks"], second["price"]["chunks"]) == (2 * 9 + 2 * 9, 9 + 3 * 9)
    found = written(tmp_path / "cubes", second)
    np.testing.assert_array_equal(found[:2], before)
    np.testing.assert_allclose(found, halved(np.stack(values)), rtol=1e-6)
    compared(found)


@pytest.mark.parametrize("change", ["late", "produced again"])
def test_dates_that_may_have_changed_are_made_anew(publish, run, tmp_path, compared, change):
    values = {0: publish(0), 2: publish(2)}
    run("build", "opera-disp-s1", "--frame", str(FRAME), "-o", str(tmp_path / "cubes"))
    first = run("overviews", CUBE)
    if change == "late":
        values[1] = publish(1)
    else:
        values[2] = publish(2, production="20260101T000000")
    assert run("update", CUBE, "--replace")["outcome"] == "replaced"
    second = run("overviews", CUBE)
    assert second["copied_of"] is None
    assert second["price"]["chunks"] * 2 == first["price"]["chunks"] * len(values)
    found = written(tmp_path / "cubes", second)
    np.testing.assert_allclose(found, halved(np.stack([values[n] for n in sorted(values)])), rtol=1e-6)
    compared(found)
