from __future__ import annotations

import os

import icechunk
import numpy as np
import pytest
import zarr
from obstore.store import S3Store
from tests.s3_server import checked_access, connect, new_keys, running_s3
from zarr.storage import ObjectStore

from cubegate.chunks.address import parse_address
from cubegate.chunks.icechunk_upstreams import IcechunkUpstream
from cubegate.chunks.upstream import open_upstreams
from cubegate.credentials import open_credentials
from cubegate.errors import UpstreamDenied, UpstreamError, UpstreamObjectMissing
from cubegate.settings import CredentialSettings, UpstreamSettings
from cubegate.store.sources.icechunk import IcechunkAccess, open_icechunk_store
from cubegate.store.sources.zarr import open_zarr_store

VALUES = np.random.default_rng(5).random((7, 9))


class S3:
    """A server with two buckets and, for each, one user who may read and write nothing else."""

    def __init__(self, endpoint_url):
        self.endpoint_url = endpoint_url
        iam, s3 = connect("iam", endpoint_url), connect("s3", endpoint_url)
        self.keys = {}
        for bucket in ("cubes", "granules"):
            s3.create_bucket(Bucket=bucket)
            self.keys[bucket] = new_keys(iam, bucket)

    def store(self, bucket, prefix=None):
        identifier, secret = self.keys[bucket]
        return S3Store(
            bucket,
            prefix=prefix,
            endpoint=self.endpoint_url,
            region="us-east-1",
            access_key_id=identifier,
            secret_access_key=secret,
            client_options={"allow_http": True},
        )

    def access(self, bucket):
        settings = CredentialSettings(
            kind="s3", access_key_id_env="IDENTIFIER", secret_access_key_env="SECRET"
        )
        identifier, secret = self.keys[bucket]
        credentials = open_credentials({bucket: settings}, {"IDENTIFIER": identifier, "SECRET": secret})
        upstream = IcechunkUpstream(parse_address(f"s3://{bucket}/"), credentials[bucket])
        return IcechunkAccess(endpoint_url=self.endpoint_url, upstream=upstream)

    def anonymous(self, bucket):
        upstream = IcechunkUpstream(parse_address(f"s3://{bucket}/"))
        return IcechunkAccess(endpoint_url=self.endpoint_url, upstream=upstream)

    def storage(self, bucket, prefix):
        identifier, secret = self.keys[bucket]
        return icechunk.s3_storage(
            bucket=bucket,
            prefix=prefix,
            region="us-east-1",
            endpoint_url=self.endpoint_url,
            allow_http=True,
            force_path_style=True,
            access_key_id=identifier,
            secret_access_key=secret,
        )


@pytest.fixture(scope="module")
def s3():
    with running_s3() as endpoint:
        objects = S3(endpoint)
        with checked_access():
            yield objects


@pytest.fixture
async def upstreams(s3):
    identifier, secret = s3.keys["cubes"]
    settings = CredentialSettings(kind="s3", access_key_id_env="IDENTIFIER", secret_access_key_env="SECRET")
    credentials = open_credentials({"cubes": settings}, {"IDENTIFIER": identifier, "SECRET": secret})
    opened = open_upstreams(
        {"s3://cubes/": UpstreamSettings(credentials="cubes", endpoint_url=s3.endpoint_url)}, credentials
    )
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
async def test_a_zarr_store_on_s3(s3, upstreams, read_array, zarr_format, consolidated):
    prefix = f"v{zarr_format}-{consolidated}/store.zarr"
    target = ObjectStore(s3.store("cubes", prefix))
    array = zarr.create_array(
        target, name="a_group/v w", shape=(7, 9), chunks=(3, 4), dtype="f8", zarr_format=zarr_format
    )
    array[:6] = VALUES[:6]
    # a neighbour whose name begins alike belongs to another store
    zarr.create_array(ObjectStore(s3.store("cubes", prefix + "2")), name="w", shape=(1,), dtype="i1")
    if consolidated and zarr_format == 2:
        zarr.consolidate_metadata(target, zarr_format=2)
    elif consolidated:
        with pytest.warns(UserWarning, match="Consolidated"):
            zarr.consolidate_metadata(target, zarr_format=3)

    store = await open_zarr_store(f"s3://cubes/{prefix}", upstreams)

    assert store.hierarchy.arrays.keys() == {"a_group/v w"}
    assert store.hierarchy.groups.keys() == {"", "a_group"}
    np.testing.assert_array_equal(await read_array(store, "a_group/v w"), array[...], strict=True)
    assert await store.get(store.array("a_group/v w"), (2, 0)) is None
    strict = await open_zarr_store(f"s3://cubes/{prefix}", upstreams, missing="error")
    with pytest.raises(UpstreamObjectMissing):
        await strict.get(strict.array("a_group/v w"), (2, 0))


@pytest.fixture
def repository(s3):
    """An Icechunk repository in one bucket: an array of its own and one over the other bucket."""
    data = VALUES.tobytes()
    s3.store("granules").put("some/granule.bin", b"head" + data)
    config = icechunk.RepositoryConfig.default()
    # a repository may say anything about where its granules are
    elsewhere = icechunk.s3_store(region="nowhere", endpoint_url="http://127.0.0.1:9", allow_http=True)
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer("s3://granules/some/", elsewhere))
    prefix = f"icechunk/{os.urandom(4).hex()}"
    created = icechunk.Repository.create(s3.storage("cubes", prefix), config)
    session = created.writable_session("main")
    root = zarr.group(session.store)
    root.create_array("native", shape=(7, 9), chunks=(3, 4), dtype="f8")[...] = VALUES
    root.create_array("virtual", shape=(7, 9), chunks=(7, 9), dtype="<f8", compressors=None)
    session.store.set_virtual_ref(
        "virtual/c/0/0", "s3://granules/some/granule.bin", offset=4, length=len(data)
    )
    session.commit("write")
    return f"s3://cubes/{prefix}"


def bucket_of(url):
    return url.split("/")[2]


async def test_an_icechunk_repository_and_its_granules_with_keys_of_their_own(s3, repository, read_array):
    store = await open_icechunk_store(
        repository, check_url=lambda _url: None, access_for=lambda url: s3.access(bucket_of(url))
    )
    for path in ("native", "virtual"):
        np.testing.assert_array_equal(await read_array(store, path), VALUES, strict=True)


async def test_keys_of_the_wrong_bucket_are_an_error_and_never_fill(s3, repository):
    def opened(access_for):
        return open_icechunk_store(repository, check_url=lambda _url: None, access_for=access_for)

    with pytest.raises(UpstreamDenied) as caught:
        await opened(lambda _url: s3.access("granules"))
    assert caught.value.state == "denied"
    with pytest.raises(UpstreamError):
        await opened(lambda url: s3.anonymous(bucket_of(url)))
    store = await opened(lambda _url: s3.access("cubes"))
    with pytest.raises(UpstreamDenied) as caught:
        await store.get(store.array("virtual"), (0, 0))
    assert s3.keys["cubes"][0] not in repr(caught.value)
    s3.store("granules").delete("some/granule.bin")
    store = await opened(lambda url: s3.access(bucket_of(url)))
    with pytest.raises(UpstreamError) as caught:
        await store.get(store.array("virtual"), (0, 0))
    assert not isinstance(caught.value, UpstreamObjectMissing)
