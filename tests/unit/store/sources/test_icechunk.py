from __future__ import annotations

import asyncio
import concurrent.futures
import http.server
import itertools
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import icechunk
import netCDF4
import numpy as np
import pytest
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import HDFParser

from cubegate.chunks.address import parse_address
from cubegate.chunks.icechunk import IcechunkSource
from cubegate.chunks.icechunk_upstreams import IcechunkUpstream
from cubegate.chunks.source import ChunkReference
from cubegate.errors import (
    ConfigurationError,
    InvalidMetadata,
    InvalidReference,
    UpstreamError,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)
from cubegate.store.sources.icechunk import IcechunkAccess, open_icechunk_store

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
RANDOM = np.random.default_rng(3)


def allow_all(_url):
    pass


def no_access(url):
    raise AssertionError(f"{url} needs no access")


async def mount(folder, check_url=allow_all, access_for=no_access, **options):
    return await open_icechunk_store(folder.as_uri(), check_url=check_url, access_for=access_for, **options)


def create(folder, containers=()):
    config = icechunk.RepositoryConfig.default()
    for container in containers:
        config.set_virtual_chunk_container(container)
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)), config)


def nbytes_below(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write_granule(path):
    with netCDF4.Dataset(path, "w") as granule:
        granule.createDimension("y", 20)
        granule.createDimension("x", 30)
        deflated = granule.createVariable(
            "deflated", "f4", ("y", "x"), zlib=True, shuffle=True, chunksizes=(8, 16)
        )
        deflated[:] = RANDOM.random((20, 30))
        plain = granule.createVariable("plain", "i2", ("y", "x"), chunksizes=(8, 16), fill_value=-9)
        plain[:8] = np.arange(240).reshape(8, 30)


@pytest.fixture
def virtual(tmp_path):
    """A repository over one granule: its folder, the granule and the manifests by array."""
    granules = tmp_path / "granules"
    granules.mkdir()
    granule = granules / "the granule.nc"
    write_granule(granule)
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    dataset = open_virtual_dataset(
        f"file://{granule}", registry=registry, parser=HDFParser(), loadable_variables=[]
    )
    store = icechunk.local_filesystem_store(str(granules))
    repository = create(
        tmp_path / "repository", [icechunk.VirtualChunkContainer(f"{granules.as_uri()}/", store)]
    )
    session = repository.writable_session("main")
    dataset.vz.to_icechunk(session.store)
    session.commit("refer to the granule")
    manifests = {name: dataset[name].data.manifest.dict() for name in ("deflated", "plain")}
    return tmp_path / "repository", granule, manifests


async def test_virtual_chunks_are_the_granules_own_bytes_and_none_is_copied(virtual, read_array):
    repository, granule, manifests = virtual
    size, contents = nbytes_below(repository), granule.read_bytes()
    store = await mount(repository)
    compared = 0
    for path, manifest in manifests.items():
        array = store.array(path)
        for chunk in itertools.product(*map(range, array.chunk_grid)):
            entry = manifest.get(".".join(map(str, chunk)))
            data = await store.get(array, chunk)
            if entry is None:
                assert data is None
            else:
                assert data == contents[entry["offset"] : entry["offset"] + entry["length"]]
                compared += 1
    assert compared == 6 + 2
    with netCDF4.Dataset(granule) as dataset:
        dataset.set_auto_mask(False)
        for path in manifests:
            np.testing.assert_array_equal(await read_array(store, path), dataset[path][...], strict=True)
    assert nbytes_below(repository) == size < granule.stat().st_size
    assert not list((repository / "chunks").glob("*"))

    entry = manifests["plain"]["0.1"]
    changed = bytearray(contents)
    changed[entry["offset"] + 3] ^= 0xFF
    modified = granule.stat().st_mtime
    granule.write_bytes(changed)
    # its references hold the second of its last change
    os.utime(granule, (modified, modified))
    data = await store.get(store.array("plain"), (0, 1))
    assert data == bytes(changed[entry["offset"] : entry["offset"] + entry["length"]])
    assert data != contents[entry["offset"] : entry["offset"] + entry["length"]]


async def test_a_lost_or_cut_granule_is_an_error_and_never_fill(virtual):
    repository, granule, manifests = virtual
    store = await mount(repository)
    entry = manifests["plain"]["0.1"]
    granule.write_bytes(granule.read_bytes()[: entry["offset"] + 5])
    with pytest.raises(UpstreamMismatch):
        await store.get(store.array("plain"), (0, 1))
    granule.unlink()
    for path, manifest in manifests.items():
        for key in manifest:
            with pytest.raises(UpstreamError) as caught:
                await store.get(store.array(path), tuple(map(int, key.split("."))))
            assert not isinstance(caught.value, UpstreamObjectMissing)
            assert "granules" not in str(caught.value)
    assert await store.get(store.array("plain"), (2, 1)) is None


async def test_a_granule_replaced_after_it_was_referred_to(tmp_path):
    granule = tmp_path / "granule.bin"
    granule.write_bytes(bytes(range(100)))
    container = icechunk.VirtualChunkContainer(
        f"{tmp_path.as_uri()}/", icechunk.local_filesystem_store(str(tmp_path))
    )
    repository = create(tmp_path / "repository", [container])
    session = repository.writable_session("main")
    zarr.group(session.store).create_array("v", shape=(10,), chunks=(10,), dtype="u1", compressors=None)
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    session.store.set_virtual_ref("v/c/0", granule.as_uri(), offset=5, length=10, checksum=moment)
    session.commit("refer")
    store = await mount(tmp_path / "repository")
    with pytest.raises(UpstreamMismatch, match="changed"):
        await store.get(store.array("v"), (0,))
    os.utime(granule, (moment.timestamp(), moment.timestamp()))
    assert await store.get(store.array("v"), (0,)) == bytes(range(5, 15))


async def test_containers_that_are_not_allowed_are_refused(virtual):
    repository, granule, manifests = virtual
    assert manifests

    def check_url(url):
        if not url.startswith(repository.as_uri()):
            raise UpstreamRefused("not configured")

    store = await mount(repository, check_url)
    with pytest.raises(UpstreamRefused, match="refused containers: file://"):
        await store.get(store.array("deflated"), (0, 0))
    assert await store.get(store.array("plain"), (2, 1)) is None
    with pytest.raises(UpstreamRefused, match="not configured"):
        await mount(granule.parent, check_url)


class _Recorder(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture
def recorder():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Recorder)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_the_repository_cannot_choose_where_granules_are_read(tmp_path, recorder):
    address = f"http://127.0.0.1:{recorder.server_port}"
    elsewhere = icechunk.s3_store(region="x", endpoint_url=address, allow_http=True, force_path_style=True)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/secret.bin").write_bytes(bytes(20))
    escaping = f"{tmp_path.as_uri()}/granules/..%2fsecrets/"
    repository = create(
        tmp_path / "repository",
        [
            icechunk.VirtualChunkContainer("s3://bucket/", elsewhere),
            icechunk.VirtualChunkContainer("http://127.0.0.1/", icechunk.http_store({"allow_http": "true"})),
            icechunk.VirtualChunkContainer(escaping, icechunk.local_filesystem_store("/")),
        ],
    )
    session = repository.writable_session("main")
    zarr.group(session.store).create_array("v", shape=(40,), chunks=(10,), dtype="u1", compressors=None)
    for number, url in enumerate(("s3://bucket/key", "http://127.0.0.1/key", f"{escaping}secret.bin")):
        refer(session, number, url)
    session.commit("refer")

    unsigned = IcechunkUpstream(parse_address("s3://bucket/"))
    closed = IcechunkAccess(endpoint_url="http://127.0.0.1:9", upstream=unsigned)
    store = await mount(tmp_path / "repository", access_for=lambda _url: closed)

    array = store.array("v")
    with pytest.raises(UpstreamUnavailable):
        await store.get(array, (0,))
    for number in (1, 2):
        with pytest.raises(UpstreamRefused):
            await store.get(array, (number,))
    assert await store.get(array, (3,)) is None
    assert recorder.requests == []


def refer(session, number, url):
    """Refer to ten bytes at `url` as a chunk of `v`, wherever that is."""
    session.store.set_virtual_ref(f"v/c/{number}", url, offset=0, length=10, validate_container=False)


def a_file_beside_granules(folder):
    """A container over one folder; beside it lies a file that nobody may read."""
    for name in ("granules", "secrets"):
        (folder / name).mkdir()
        (folder / name / "file.bin").write_bytes(name.encode().ljust(20))
    return f"{folder.as_uri()}/granules/", icechunk.local_filesystem_store(str(folder / "granules"))


@pytest.mark.parametrize(
    "path",
    [
        "../secrets/file.bin", "/../secrets/file.bin", "..%2fsecrets/file.bin", "%2e%2e/secrets/file.bin",
        "..%5csecrets/file.bin", "%2e%2e%2fsecrets%2ffile.bin",
    ],
)  # fmt: skip
async def test_no_reference_leads_out_of_its_container(tmp_path, path):
    prefix, store = a_file_beside_granules(tmp_path)
    repository = create(tmp_path / "repository", [icechunk.VirtualChunkContainer(prefix, store)])
    session = repository.writable_session("main")
    zarr.group(session.store).create_array("v", shape=(20,), chunks=(10,), dtype="u1", compressors=None)
    refer(session, 0, f"{prefix}file.bin")
    refer(session, 1, f"{prefix}{path}")
    session.commit("refer")
    store = await mount(tmp_path / "repository")
    assert await store.get(store.array("v"), (0,)) == b"granules  "
    with pytest.raises((UpstreamRefused, UpstreamUnavailable)):
        await store.get(store.array("v"), (1,))


@pytest.mark.skipif(int(icechunk.__version__[0]) < 2, reason="containers have names since Icechunk 2")
async def test_containers_are_found_by_the_names_that_the_repository_gives_them(tmp_path):
    prefix, store = a_file_beside_granules(tmp_path)
    closed = f"{tmp_path.as_uri()}/secrets/"
    containers = [
        icechunk.VirtualChunkContainer(prefix, store, name="open"),
        icechunk.VirtualChunkContainer(closed, icechunk.local_filesystem_store(str(tmp_path)), name="closed"),
    ]
    session = create(tmp_path / "repository", containers).writable_session("main")
    zarr.group(session.store).create_array("v", shape=(40,), chunks=(10,), dtype="u1", compressors=None)
    outside = ["vcc://closed/file.bin", "vcc://open/../secrets/file.bin", "vcc://open/..%2fsecrets/file.bin"]
    for number, url in enumerate(["vcc://open/file.bin", *outside]):
        refer(session, number, url)
    session.commit("refer")

    def check_url(url):
        if url == closed:
            raise UpstreamRefused("not configured")

    store = await mount(tmp_path / "repository", check_url)
    assert await store.get(store.array("v"), (0,)) == b"granules  "
    for number in (1, 2, 3):
        with pytest.raises((UpstreamRefused, UpstreamUnavailable)):
            await store.get(store.array("v"), (number,))


def write_native(repository):
    session = repository.writable_session("main")
    root = zarr.group(session.store, attributes={"title": "native"})
    inner = root.create_group("deep/er", attributes={"level": 2})
    array = inner.create_array("a name", shape=(50, 60), chunks=(20, 25), dtype="f8", fill_value=np.nan)
    array[:40] = RANDOM.random((40, 60))
    root.create_array("scalar", shape=(), dtype="i4")[...] = 42
    sharded = root.create_array(
        "sharded", shape=(16, 16), shards=(8, 8), chunks=(2, 4), dtype="<i2", fill_value=-1
    )
    sharded[:8] = RANDOM.integers(0, 99, (8, 16))
    big = root.create_array(
        "uncompressed", shape=(1000,), chunks=(300,), dtype="i8", compressors=None, fill_value=7
    )
    big[:600] = np.arange(600)
    return session.commit("write")


async def test_native_chunks_equal_what_zarr_python_reads(tmp_path, read_array):
    repository = create(tmp_path / "repository")
    snapshot = write_native(repository)
    store = await mount(tmp_path / "repository")
    assert store.version == snapshot
    assert store.immutable
    assert store.hierarchy.groups.keys() == {"", "deep", "deep/er"}
    assert store.hierarchy.groups["deep/er"].attributes == {"level": 2}
    assert store.hierarchy.skipped == {}
    expected = zarr.open_group(repository.readonly_session("main").store, mode="r")
    assert store.hierarchy.arrays.keys() == {"deep/er/a name", "scalar", "sharded", "uncompressed"}
    for path in store.hierarchy.arrays:
        np.testing.assert_array_equal(await read_array(store, path), expected[path][...], strict=True)
    big = store.array("uncompressed")
    assert await store.get(big, (1,)) == np.arange(300, 600).astype("<i8").tobytes()
    assert await store.get(big, (3,)) is None


async def test_a_group_can_be_the_root(tmp_path, read_array):
    repository = create(tmp_path / "repository")
    snapshot = write_native(repository)
    store = await mount(tmp_path / "repository", group="/deep/er/")
    assert store.hierarchy.arrays.keys() == {"a name"}
    assert store.hierarchy.groups[""].attributes == {"level": 2}
    assert store.version != snapshot
    expected = zarr.open_group(repository.readonly_session("main").store, mode="r")["deep/er/a name"]
    np.testing.assert_array_equal(await read_array(store, "a name"), expected[...], strict=True)
    for group in ("nowhere", "scalar"):
        with pytest.raises(InvalidReference, match=f"no group '{group}'"):
            await mount(tmp_path / "repository", group=group)
    with pytest.raises(InvalidMetadata):
        await mount(tmp_path / "repository", group="deep/../deep")


async def test_branch_tag_and_snapshot(tmp_path, read_array):
    repository = create(tmp_path / "repository")
    first = write_native(repository)
    repository.create_tag("v1", first)
    session = repository.writable_session("main")
    zarr.open_group(session.store)["scalar"][...] = 99
    second = session.commit("change")
    repository.create_branch("side", first)
    folder = tmp_path / "repository"
    for options, snapshot, value in [
        ({}, second, 99),
        ({"branch": "main"}, second, 99),
        ({"branch": "side"}, first, 42),
        ({"tag": "v1"}, first, 42),
        ({"snapshot": first}, first, 42),
    ]:
        store = await mount(folder, **options)
        assert store.version == snapshot
        assert (await read_array(store, "scalar"))[()] == value
    with pytest.raises(InvalidReference, match=r"no branch 'nope'.*main, side"):
        await mount(folder, branch="nope")
    with pytest.raises(InvalidReference, match=r"no tag 'nope'.*v1"):
        await mount(folder, tag="nope")
    with pytest.raises(UpstreamUnavailable, match="snapshot"):
        await mount(folder, snapshot="nope")
    with pytest.raises(ConfigurationError, match="more than one"):
        await mount(folder, tag="v1", branch="main")


@pytest.mark.parametrize("part", ["chunks", "manifests"])
async def test_a_lost_part_of_the_repository_is_an_error_and_never_fill(tmp_path, part):
    write_native(create(tmp_path / "repository"))
    before = await mount(tmp_path / "repository")
    unallocated = [chunk for chunk in ((0,), (1,), (2,), (3,)) if await _is_fill(before, chunk)]
    assert unallocated == [(2,), (3,)]
    for file in (tmp_path / "repository" / part).iterdir():
        file.unlink()
    after = await mount(tmp_path / "repository")
    for chunk in ((0,), (1,)):
        with pytest.raises(UpstreamUnavailable):
            await after.get(after.array("uncompressed"), chunk)


async def _is_fill(store, chunk):
    return await store.get(store.array("uncompressed"), chunk) is None


@pytest.mark.parametrize("url", ["https://host/repository", "gs://bucket/repository"])
async def test_addresses_that_icechunk_cannot_read(url):
    with pytest.raises(InvalidReference, match=r"file://.*s3://"):
        await open_icechunk_store(url, check_url=allow_all, access_for=no_access)


async def test_an_address_without_a_repository_stays_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(InvalidReference, match="no Icechunk repository") as caught:
            await mount(folder)
    # what Icechunk 2 made looks the same to Icechunk 1
    assert ("Python 3.12" in str(caught.value)) is (int(icechunk.__version__[0]) < 2)
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "empty").iterdir()) == []


async def test_s3_without_any_access_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="anonymous: true"):
        await open_icechunk_store(
            "s3://bucket/r", check_url=allow_all, access_for=lambda _url: IcechunkAccess()
        )


async def test_without_icechunk_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "icechunk", None)
    with pytest.raises(ConfigurationError, match=r"cubegate\[icechunk\]"):
        await mount(tmp_path)


async def test_the_source_works_from_other_loops_and_threads(tmp_path):
    write_native(create(tmp_path / "repository"))
    store = await mount(tmp_path / "repository")
    array = store.array("deep/er/a name")
    chunks = list(itertools.product(range(2), range(3)))
    expected = [await store.get(array, chunk) for chunk in chunks]
    assert None not in expected

    def read_in_own_loop():
        async def read():
            return await asyncio.gather(*(store.get(array, chunk) for chunk in chunks))

        return [asyncio.run(read()) for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(read_in_own_loop) for _ in range(4)]
        here = [await asyncio.gather(*(store.get(array, chunk) for chunk in chunks)) for _ in range(5)]
        there = [read for future in futures for read in await asyncio.wrap_future(future)]
    assert [*here, *there] == [expected] * (5 + 12)


async def test_ranges_of_a_key(tmp_path):
    repository = create(tmp_path / "repository")
    write_native(repository)
    source = IcechunkSource(repository.readonly_session("main").store)
    url = "icechunk:///uncompressed/c/0"
    whole = np.arange(300).astype("<i8").tobytes()
    assert await source.get(ChunkReference(url)) == whole
    assert await source.get(ChunkReference(url, 16, 24)) == whole[16:40]
    assert await source.get(ChunkReference(url, 2000)) == whole[2000:]
    with pytest.raises(UpstreamError):
        await source.get(ChunkReference(url, 2390, 24))
    with pytest.raises(UpstreamObjectMissing):
        await source.get(ChunkReference("icechunk:///uncompressed/c/3"))
    # the one to Icechunk 2, the other to those before it
    with pytest.raises((UpstreamObjectMissing, UpstreamUnavailable)):
        await source.get(ChunkReference("icechunk:///nowhere/c/0"))
    with pytest.raises(UpstreamRefused):
        await source.get(ChunkReference(Path(tmp_path / "repository").as_uri()))
