"""zarrita reads the demo's cubes and others as Zarr v2 and v3, in node and in a page of another origin."""

import h5py
import numpy as np
import pytest
from tests.clients.programs import NEEDS_ZARRITA
from tests.clients.zarrita.driver import Job
from tests.clients.zarrita.expected import OF_ZARR, attributes, part, same

pytestmark = NEEDS_ZARRITA
TREES = ("zarr", "zarr-plain")
VERSIONS = ("v2", "v3")
WAYS = [(tree, version) for tree in TREES for version in VERSIONS]
# neither is a multiple of the chunks' sizes; the seventh date has a chunk that was never written
WINDOWS = [
    [[5, 8], [20, 300], [31, 590]],
    [6, 700, None],
    [None, 511, 640],
    [[0, 24, 7], [700, 740], [980, 1000]],
]


@pytest.fixture(scope="module")
def stack(demo_cubes):
    """The variables of the demo's granules, read by h5py."""
    with h5py.File(demo_cubes.granules[0]) as file:
        gridded = [name for name in file if file[name].ndim == 2]
        about = {name: attributes(file[name]) for name in file}
        fills = {name: file[name].fillvalue for name in gridded}
        axes = {"x": file["x"][:], "y": file["y"][:], "spatial_ref": file["spatial_ref"][()]}
    values = {name: [] for name in [*gridded, "time", "reference_time"]}
    for granule in demo_cubes.granules:
        with h5py.File(granule) as file:
            for name, found in values.items():
                found.append(file[name][()])
    return {name: np.stack(found) for name, found in values.items()} | axes, about, fills


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_windows_of_a_stack_of_granules(read, demo_url, stack, compared, way):
    tree, version = way
    values, about, fills = stack
    small = [name for name in values if name not in fills]
    reads = [{"path": name, "selection": WINDOWS[0]} for name in fills]
    reads += [{"path": "displacement", "selection": window} for window in WINDOWS[1:]]
    address = f"{demo_url}/datasets/opera-f11116/{tree}"
    (answer,) = read(Job(address, version, reads=[*small, *reads]))
    for name, found in zip(small, answer.reads, strict=False):
        same(found, np.asarray(values[name]), compared)
    for asked, found in zip(reads, answer.reads[len(small) :], strict=True):
        name = asked["path"]
        same(found, values[name][part(asked["selection"])], compared)
        assert (found.chunks, found.dimensions) == ((1, 256, 256), ["time", "y", "x"])
        assert found.fill == (fills[name] if fills[name] == fills[name] else "NaN")
    for name, found in zip([*small, *(asked["path"] for asked in reads)], answer.reads, strict=True):
        kept = {key: value for key, value in found.attributes.items() if key not in OF_ZARR}
        assert kept == {key: value for key, value in about[name].items() if key not in OF_ZARR}
    listed = {each["path"].strip("/"): each["kind"] for each in answer.contents}
    assert listed == {"": "group", **dict.fromkeys(values, "array")}
    assert answer.attributes["title"] == "Synthetic granule in the layout of OPERA_L3_DISP-S1"


def test_whole_arrays_of_a_stack_of_granules(read, reader, demo_url, stack, compared):
    values, _, fills = stack
    jobs = {
        "zarr": [*fills] if reader == "node" else ["connected_component_labels"],
        "zarr-plain": ["recommended_mask"],
    }
    address = f"{demo_url}/datasets/opera-f11116"
    digests = {tree: [{"path": name, "digest": True} for name in names] for tree, names in jobs.items()}
    answers = read(*(Job(f"{address}/{tree}", "v3", reads=reads) for tree, reads in digests.items()))
    for names, answer in zip(jobs.values(), answers, strict=True):
        assert list(answer.arrays) == names
        for name, found in answer.arrays.items():
            same(found, values[name], compared)


# zarrita 0.7.5 knows no type of v3 for text of fixed length
UNTYPED = ("mapping", "mission_img1")


@pytest.fixture(scope="module")
def native(demo_url, demo_cubes):
    """Where the demo's Zarr store is served, the store, and its arrays by name as zarr alone reads them."""
    store = demo_cubes.ice()
    arrays = {name: np.asarray(array[()]) for name, array in store.arrays()}
    return f"{demo_url}/datasets/its-live", store, arrays


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_arrays_of_a_native_store_with_text(read, reader, native, compared, way):
    tree, version = way
    address, store, expected = native
    whole = reader == "node" and way == ("zarr", "v3")
    asked = {"digest": True} if whole else {"selection": [[290, 310], [20, 95], [31, 62]]}
    reads = [{"path": name, **(asked if values.ndim == 3 else {})} for name, values in expected.items()]
    (answer,) = read(Job(f"{address}/{tree}", version, reads=reads))
    assert {each["path"].strip("/") for each in answer.contents} == {"", *expected}
    for asked, (name, found) in zip(reads, answer.arrays.items(), strict=True):
        if version == "v3" and name in UNTYPED:
            assert found.error["name"] == "TypeError"
            continue
        same(found, expected[name][part(asked.get("selection", ()))], compared)
        about = {key: value for key, value in store[name].attrs.items() if key not in OF_ZARR}
        assert {key: value for key, value in found.attributes.items() if key not in OF_ZARR} == about
        assert found.dimensions == store[name].attrs["_ARRAY_DIMENSIONS"]


OPENINGS = [
    (version, consolidated) for version in ("any", *VERSIONS) for consolidated in ("none", "may", "must")
]


@pytest.mark.parametrize("opening", OPENINGS, ids="-".join)
def test_every_way_of_opening(read, demo_url, stack, compared, opening):
    version, consolidated = opening
    values, about, _ = stack
    window = {"path": "displacement", "selection": WINDOWS[3]}
    ends = ("zarr", "zarr/", "zarr-plain")
    address = f"{demo_url}/datasets/opera-f11116"
    for answer in read(
        *(Job(f"{address}/{end}", version, consolidated, reads=["x", window]) for end in ends)
    ):
        assert (answer.contents is None) == (consolidated == "none")
        same(answer.arrays["x"], values["x"], compared)
        same(answer.arrays["displacement"], values["displacement"][part(WINDOWS[3])], compared)
        assert answer.arrays["displacement"].attributes["units"] == about["displacement"]["units"]
        # zarrita looks for v2 first
        found = "v2" if "_ARRAY_DIMENSIONS" in answer.arrays["x"].attributes else "v3"
        assert found == ("v2" if version == "any" else version)
