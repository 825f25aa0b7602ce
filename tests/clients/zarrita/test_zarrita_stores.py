"""zarrita reads granules and stores of every type and codec, in node and in a page, and throws where a granule is lost."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import zarr
from tests.clients.programs import NEEDS_ZARRITA
from tests.clients.zarrita.cubes import CODECS_2, CODECS_3, COLUMNS, GRANULES, LAYERS, ROWS, make_cubes
from tests.clients.zarrita.driver import Job
from tests.clients.zarrita.expected import OF_ZARR, attributes, same

pytestmark = NEEDS_ZARRITA
WAYS = [(tree, version) for tree in ("zarr", "zarr-plain") for version in ("v2", "v3")]
# codecs that zarrita 0.7.5 does not know, as it says itself
UNKNOWN = {("zarr", "v2", "bz2"), ("zarr", "v3", "bz2"), ("zarr", "v2", "checksum")}


@pytest.fixture(scope="module")
def cubes(tmp_path_factory, serve_configuration):
    """The `directory` of the cubes, and the `address` where they are served."""
    directory = tmp_path_factory.mktemp("zarrita-cubes")
    base = serve_configuration(make_cubes(directory), {})
    return SimpleNamespace(directory=directory, address=f"{base}/datasets")


def fill_of(variable, version):
    """What zarrita calls the fill of an HDF5 variable: of v2 the declared one, of v3 the stored one."""
    declared = "_FillValue" in variable.attrs
    if version == "v2" and not declared:
        return None
    fill = variable.fillvalue
    if fill.dtype.kind == "f":
        return "NaN" if np.isnan(fill) else fill
    # JSON's numbers are doubles to JavaScript
    return str(int(float(fill))) if fill.dtype.itemsize == 8 else fill


def test_types_and_chunks_of_granules(read, cubes, compared):
    answers = read(*(Job(f"{cubes.address}/granules/{tree}", version) for tree, version in WAYS))
    files = [h5py.File(cubes.directory / "granules" / name) for name in GRANULES]
    for (_, version), answer in zip(WAYS, answers, strict=True):
        assert answer.arrays.keys() == {*LAYERS, "time", "y", "x"}
        for axis in ("x", "y"):
            same(answer.arrays[axis], files[0][axis][:], compared)
        same(answer.arrays["time"], np.concatenate([file["time"][:] for file in files]), compared)
        for name, (_, chunks, _, _) in LAYERS.items():
            found = answer.arrays[name]
            same(found, np.concatenate([file[name][:] for file in files]), compared)
            assert found.chunks == (1, *chunks)
            assert found.fill == fill_of(files[0][name], version)
            kept = {key: value for key, value in found.attributes.items() if key not in OF_ZARR}
            assert kept == {k: v for k, v in attributes(files[0][name]).items() if k not in OF_ZARR}
    for file in files:
        file.close()


def test_packed_values_are_unpacked_by_their_attributes(read, cubes, compared):
    (answer,) = read(Job(f"{cubes.address}/granules/zarr", reads=["scaled"]))
    found = answer.arrays["scaled"]
    about = found.attributes
    values = found.values * about["scale_factor"] + about["add_offset"]
    for number, name in enumerate(GRANULES):
        with h5py.File(cubes.directory / "granules" / name) as file:
            raw = file["scaled"][0]
        np.testing.assert_array_equal(values[number], raw * 0.25 + 10)
        np.testing.assert_array_equal(found.values[number] == found.fill, raw == -32768)
        compared(raw)


@pytest.mark.parametrize(("name", "codecs"), [("codecs-2", CODECS_2), ("codecs-3", CODECS_3)])
def test_codecs(read_with_errors, cubes, compared, name, codecs):
    jobs = (Job(f"{cubes.address}/{name}/{tree}", version) for tree, version in WAYS)
    answers, errors = read_with_errors(*jobs)
    # zarrita leaves what it throws of these to the page too
    assert all(error.startswith("UnknownCodecError") for error in errors)
    store = zarr.open_group(cubes.directory / f"{name}.zarr", mode="r")
    for (tree, version), answer in zip(WAYS, answers, strict=True):
        assert answer.arrays.keys() == codecs.keys()
        for codec, found in answer.arrays.items():
            if (tree, version, codec) in UNKNOWN:
                assert found.error["name"] == "UnknownCodecError"
            else:
                same(found, store[codec][:], compared)


@pytest.mark.parametrize("suffix", [False, True])
def test_shards(read, cubes, compared, suffix):
    ways = [way for way in WAYS if way != ("zarr", "v2")]
    names = ("byte", "long", "real")
    windows = [None, [[3, 21], [9, 50]], [17, None], [[0, 8], [0, 10]]]
    reads = [{"path": name, "selection": window} for name in names for window in windows]
    answers = read(
        *(
            Job(f"{cubes.address}/sharded/{tree}", version, suffix=suffix, reads=reads)
            for tree, version in ways
        )
    )
    store = zarr.open_group(cubes.directory / "sharded.zarr", mode="r")
    for (tree, _), answer in zip(ways, answers, strict=True):
        for asked, found in zip(reads, answer.reads, strict=True):
            parts = asked["selection"] or [None, None]
            index = tuple(
                slice(*p) if isinstance(p, list) else slice(None) if p is None else p for p in parts
            )
            same(found, store[asked["path"]][index], compared)
            assert found.chunks == ((8, 10) if tree == "zarr" else (16, 20))


def test_a_sharded_array_is_not_there_in_v2(read, cubes):
    (answer,) = read(Job(f"{cubes.address}/sharded/zarr", "v2"))
    assert answer.arrays == {}


# keys of chunks and shards that were never written, and keys that no grid has
KEYS = {
    "granules": (["holes/0.1.1", "holes/c/0/1/1"], ["holes/c/0/2/0", "holes/0.0.3", "holes/c/2/0/0", "holes/.zgroup"]),
    "codecs-2": (["zlib/3.0", "zlib/c/3/0", "slashes/3.0"], ["zlib/4.0", "slashes/4.0", "nothing/.zarray"]),
    "codecs-3": (["gzip/c/3/2"], ["gzip/c/3/3", "nothing/zarr.json"]),
    "sharded": (["byte/c/0/2"], ["byte/c/3/0", "byte/c/0/3"]),
}  # fmt: skip


def test_what_was_never_written_is_there_and_what_is_outside_is_not(read, cubes):
    for name, (inside, outside) in KEYS.items():
        for tree in ("zarr", "zarr-plain"):
            (answer,) = read(Job(f"{cubes.address}/{name}/{tree}", "v3", keys=[*inside, *outside], reads=[]))
            assert all(answer.lengths[key] for key in inside), answer.lengths
            assert [answer.lengths[key] for key in outside] == [None] * len(outside)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_a_lost_granule_is_thrown_and_never_zeros(read_with_errors, cubes, compared, way):
    tree, version = way
    reads = [{"path": name, "chunk": [date, 0, 0]} for name in LAYERS for date in (0, 1)]
    reads += [{"path": name} for name in LAYERS] + [{"path": "large", "selection": [0, None, None]}]
    (answer,), errors = read_with_errors(Job(f"{cubes.address}/lost/{tree}", version, reads=reads))
    with h5py.File(cubes.directory / "lost" / GRANULES[0]) as file:
        for asked, found in zip(reads, answer.reads, strict=True):
            if asked.get("chunk", asked.get("selection", [1]))[0] == 1:
                assert "502" in found.error["message"], (asked, found.error)
                continue
            expected = file[asked["path"]][0]
            values = found.values.reshape(-1, *found.values.shape[-2:])[0]
            rows, columns = min(ROWS, values.shape[0]), min(COLUMNS, values.shape[1])
            np.testing.assert_array_equal(values[:rows, :columns], expected[:rows, :columns])
            compared(values)
    # a page is told the status too, not that the answer is not for it
    assert all("502" in error for error in errors)
