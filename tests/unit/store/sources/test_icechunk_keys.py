"""Icechunk repositories and virtual chunks on keys that end, while the repository stays open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.server
import json
import logging
import pickle
import threading
import time
from datetime import UTC, datetime
from uuid import uuid4

import h5py
import icechunk
import netCDF4
import numpy as np
import pytest
import zarr
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sts.models import sts_backends
from tests.earthdata_double.double import running_double
from tests.s3_server import checked_access, connect, own_bucket, running_s3

from cubegate.catalog.icechunk_access import icechunk_access
from cubegate.chunks.address import parse_address
from cubegate.chunks.icechunk_upstreams import IcechunkUpstream, KeysAtEachRequest
from cubegate.chunks.upstream_states import UpstreamStates
from cubegate.credentials import S3Keys, open_credentials
from cubegate.errors import UpstreamDenied, UpstreamError, UpstreamUnavailable
from cubegate.settings import CredentialSettings, UpstreamSettings
from cubegate.store.sources.icechunk import open_icechunk_store

BUCKETS = ("cubes", "granules", "more-granules")
TOKEN = {"TOKEN": "token-value"}
LIFETIME = 3600.0
# what the test's own S3 client and server log
OWN_LOGGERS = ("boto3", "botocore", "moto", "werkzeug", "urllib3", "s3transfer")
VALUES = np.random.default_rng(11).random((20, 30))


class Keys:
    """An S3 endpoint that checks signatures and policies, and who gives temporary keys for one bucket each.

    Only the last ones that were given for a bucket are good.
    """

    def __init__(self, endpoint):
        self.endpoint, self.asked, self.secrets, self.refusing = endpoint, [], {"token-value"}, set()
        self._roles, iam = {}, connect("iam", endpoint)
        for bucket in BUCKETS:
            # moto keeps its accounts for as long as the process runs
            name = str(uuid4())
            role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=own_bucket(bucket))
            self._roles[bucket] = role["Arn"]
        iam.close()
        self._sts = sts_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def new(self, bucket):
        """Delete the keys of a bucket, and return other ones."""
        self.delete(bucket)
        role = self._sts.assume_role("us-east-1", "name", self._roles[bucket], "", 3600, "")
        self.secrets |= {role.access_key_id, role.secret_access_key, role.session_token}
        return role

    def delete(self, *buckets):
        """Make the keys of `buckets` bad, before their time."""
        bad = {self._roles[bucket] for bucket in buckets}
        self._sts.assumed_roles[:] = [role for role in self._sts.assumed_roles if role.role_arn not in bad]

    def answer(self, path, clock):
        """Return status and body for a request for keys, shaped as an archive's `/s3credentials` is."""
        bucket = path.split("/")[1]
        self.asked.append(bucket)
        if bucket in self.refusing:
            return 403, b'{"message": "upstream-text-value"}'
        role = self.new(bucket)
        expiration = datetime.fromtimestamp(clock.now + LIFETIME, UTC).isoformat(sep=" ")
        document = {
            "accessKeyId": role.access_key_id,
            "secretAccessKey": role.secret_access_key,
            "sessionToken": role.session_token,
            "expiration": expiration,
        }
        return 200, json.dumps(document).encode()


class Clock:
    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@contextlib.contextmanager
def serving(answer):
    """Serve `answer`, from a path to status, media type, body and headers; gives the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            status, media_type, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def granule(tmp_path_factory):
    """A NetCDF file whose variable `v` is not compressed: its path and (chunk, offset, length) of each chunk."""
    path = tmp_path_factory.mktemp("granules") / "granule.nc"
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.createDimension("y", 20)
        dataset.createDimension("x", 30)
        dataset.createVariable("v", "f8", ("y", "x"), chunksizes=(10, 10))[:] = VALUES
    with h5py.File(path) as file:
        stored = file["v"].id
        infos = [stored.get_chunk_info(number) for number in range(stored.get_num_chunks())]
    chunks = [
        (tuple(start // 10 for start in info.chunk_offset), info.byte_offset, info.size) for info in infos
    ]
    return path, chunks


def write_repository(storage, granule, containers):
    """A repository with one array of its own, `native`, and one a container, over the granule in it."""
    _, chunks = granule
    config = icechunk.RepositoryConfig.default()
    for prefix in containers.values():
        # a repository may say anything about where its granules are
        elsewhere = icechunk.s3_store(region="nowhere", endpoint_url="http://127.0.0.1:9", allow_http=True)
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, elsewhere))
    session = icechunk.Repository.create(storage, config).writable_session("main")
    root = zarr.group(session.store)
    root.create_array("native", shape=(20, 30), chunks=(10, 10), dtype="f8")[...] = VALUES
    for name, prefix in containers.items():
        root.create_array(name, shape=(20, 30), chunks=(10, 10), dtype="<f8", compressors=None)
        for chunk, offset, length in chunks:
            key = f"{name}/c/{chunk[0]}/{chunk[1]}"
            session.store.set_virtual_ref(key, f"{prefix}granule.nc", offset=offset, length=length)
    session.commit("write")


@pytest.fixture(scope="module")
def keys(granule):
    with running_s3() as endpoint:
        s3 = connect("s3", endpoint)
        for bucket in BUCKETS:
            s3.create_bucket(Bucket=bucket)
        for bucket in BUCKETS[1:]:
            s3.put_object(Bucket=bucket, Key="granule.nc", Body=granule[0].read_bytes())
        s3.close()
        storage = icechunk.s3_storage(
            bucket="cubes",
            prefix="repository",
            region="us-east-1",
            endpoint_url=endpoint,
            allow_http=True,
            force_path_style=True,
            access_key_id="setup",
            secret_access_key="setup",
        )
        write_repository(storage, granule, {"first": "s3://granules/", "second": "s3://more-granules/"})
        keys = Keys(endpoint)
        with checked_access():
            yield keys


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def states():
    return UpstreamStates()


@pytest.fixture
def mount(keys, clock, states):
    """Mount the repository on S3, with keys of its own for each bucket."""
    keys.asked.clear()
    keys.refusing.clear()
    with serving(lambda path: _as_json(keys.answer(path, clock))) as address:
        credentials = open_credentials(
            {
                bucket: CredentialSettings(
                    kind="earthdata-s3", endpoint=f"{address}/{bucket}/s3credentials", token_env="TOKEN"
                )
                for bucket in BUCKETS
            },
            TOKEN,
            clock=clock,
        )
        upstreams = {
            f"s3://{bucket}/": UpstreamSettings(
                credentials=bucket, endpoint_url=keys.endpoint, region="us-east-1"
            )
            for bucket in BUCKETS
        }
        access_for = icechunk_access(upstreams, credentials, states)
        yield lambda: open_icechunk_store(
            "s3://cubes/repository", check_url=lambda _url: None, access_for=access_for
        )


def _as_json(answer):
    status, body = answer
    return status, "application/json", body


@pytest.fixture
def seen(caplog, capfd):
    """Everything that was logged, at DEBUG, and written by whatever language."""
    caplog.set_level(logging.DEBUG)

    def seen():
        lines = [
            f"{record.getMessage()} {record.exc_text or ''} {record.args!r}"
            for record in caplog.records
            if record.name.split(".")[0] not in OWN_LOGGERS
        ]
        return "\n".join([*lines, *capfd.readouterr()])

    return seen


ARRAYS = ("native", "first", "second")


async def equal_the_granule(store, read_array, granule, *paths):
    with netCDF4.Dataset(granule[0]) as dataset:
        expected = dataset["v"][...].filled()
    for path in paths:
        np.testing.assert_array_equal(await read_array(store, path), expected, strict=True)


async def test_keys_that_end_early_are_replaced_once_and_nothing_is_opened_again(
    keys, mount, read_array, granule, *, states, seen
):
    store = await mount()
    await equal_the_granule(store, read_array, granule, *ARRAYS)
    assert sorted(keys.asked) == sorted(BUCKETS)
    keys.delete(*BUCKETS)
    await equal_the_granule(store, read_array, granule, *ARRAYS)
    assert sorted(keys.asked) == sorted(BUCKETS * 2)
    assert states.refusing == ()
    shown = seen()
    assert [secret for secret in keys.secrets if secret in shown] == []


async def test_keys_that_are_renewed_in_time_are_taken_before_anything_is_refused(
    keys, mount, read_array, granule, *, clock, monkeypatch
):
    async def renew(*_):
        raise AssertionError("refused")

    monkeypatch.setattr(IcechunkUpstream, "renew", renew)
    monkeypatch.setattr("cubegate.chunks.renewal._ASK_AGAIN", 0.0)
    store = await mount()
    for expiry in range(1, 4):
        await equal_the_granule(store, read_array, granule, *ARRAYS)
        assert sorted(keys.asked) == sorted(BUCKETS * expiry)
        clock.now += LIFETIME + 1


@pytest.mark.parametrize("bucket", BUCKETS)
async def test_a_set_of_keys_is_renewed_alone(keys, mount, read_array, granule, bucket):
    store = await mount()
    await equal_the_granule(store, read_array, granule, *ARRAYS)
    keys.delete(bucket)
    await equal_the_granule(store, read_array, granule, *ARRAYS)
    assert sorted(keys.asked) == sorted([*BUCKETS, bucket])


async def test_the_keys_of_a_repository_stay_where_only_a_granule_is_refused(
    keys, mount, read_array, granule
):
    store = await mount()
    await equal_the_granule(store, read_array, granule, "first")
    keys.delete("more-granules")
    # the manifest of this array is read together with its first chunk
    await equal_the_granule(store, read_array, granule, "second")
    assert sorted(keys.asked) == sorted([*BUCKETS, "more-granules"])


async def test_a_repository_opens_with_keys_that_ended_early(keys, mount, read_array, granule):
    await mount()
    keys.delete("cubes")
    store = await mount()
    await equal_the_granule(store, read_array, granule, *ARRAYS)
    assert keys.asked.count("cubes") == 2


async def test_reads_from_several_loops_at_once_renew_once(keys, mount, granule):
    store = await mount()
    contents = granule[0].read_bytes()
    keys.delete(*BUCKETS)

    async def read():
        reads = [
            store.get(store.array(name), chunk) for chunk, _, _ in granule[1] for name in ("first", "second")
        ]
        return await asyncio.gather(*reads)

    found = await asyncio.gather(read(), *(asyncio.to_thread(asyncio.run, read()) for _ in range(3)))
    expected = [contents[offset : offset + length] for _, offset, length in granule[1] for _ in range(2)]
    assert found == [expected] * 4
    assert {bucket: keys.asked.count(bucket) for bucket in BUCKETS[1:]} == dict.fromkeys(BUCKETS[1:], 2)


async def test_who_gives_no_keys_stops_the_reads_that_need_them_alone(
    keys, mount, read_array, granule, *, states, monkeypatch, seen
):
    monkeypatch.setattr("cubegate.credentials.renewing._PAUSE_DENIED", 0.0)
    keys.refusing.add("granules")
    store = await mount()
    await equal_the_granule(store, read_array, granule, "native", "second")
    with pytest.raises(UpstreamDenied, match="s3credentials refuses") as caught:
        await store.get(store.array("first"), (0, 0))
    assert "upstream-text" not in str(caught.value)
    assert [one.upstream for one in states.refusing] == ["s3://granules/"]
    keys.refusing.clear()
    await equal_the_granule(store, read_array, granule, *ARRAYS)
    assert states.refusing == ()
    shown = seen()
    assert "upstream-text" not in shown
    assert [secret for secret in keys.secrets if secret in shown] == []


def s3_error(code):
    return (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>upstream-text-value</Message></Error>"
    ).encode()


@pytest.fixture
async def refusing(tmp_path, granule, states):
    """Read from a local repository whose granules are where everything is answered the same."""

    async def read(status, code, *, anonymous=False):
        folder = tmp_path / "repository"
        if not folder.exists():
            storage = icechunk.local_filesystem_storage(str(folder))
            write_repository(storage, granule, {"first": "s3://granules/"})
        with serving(lambda _path: (status, "application/xml", s3_error(code))) as address:
            section = CredentialSettings(kind="s3", access_key_id_env="KEY", secret_access_key_env="SECRET")
            credentials = open_credentials({"ours": section}, {"KEY": "key-value", "SECRET": "secret-value"})
            access_for = icechunk_access(
                {
                    "s3://granules/": UpstreamSettings(
                        credentials=None if anonymous else "ours", anonymous=anonymous, endpoint_url=address
                    )
                },
                credentials,
                states,
            )
            store = await open_icechunk_store(
                folder.as_uri(), check_url=lambda _url: None, access_for=access_for
            )
            with pytest.raises(UpstreamError) as caught:
                await store.get(store.array("first"), (0, 0))
        assert "-value" not in str(caught.value)
        return caught.value

    return read


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (400, "ExpiredToken", "expired"),
        (403, "InvalidAccessKeyId", "bad-token"),
        (403, "SignatureDoesNotMatch", "bad-token"),
        (403, "AccessDenied", "denied"),
        (301, "PermanentRedirect", "out-of-region"),
        (400, "AuthorizationHeaderMalformed", "out-of-region"),
    ],
)
async def test_a_refusal_has_a_state_and_nothing_of_what_the_upstream_says(
    refusing, states, seen, *, status, code, state
):
    error = await refusing(status, code)
    assert isinstance(error, UpstreamDenied)
    assert error.state == state
    assert "s3://granules/" in str(error)
    assert [(one.upstream, one.state) for one in states.refusing] == [("s3://granules/", state)]
    assert "-value" not in seen()


async def test_a_refusal_of_unsigned_requests_asks_for_credentials(refusing):
    error = await refusing(403, "AccessDenied", anonymous=True)
    assert error.state == "denied"
    assert error.mend == "Name credentials for it under upstreams."
    error = await refusing(403, "InvalidAccessKeyId", anonymous=True)
    assert error.state == "no-credentials"


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (404, "NoSuchBucket"), (403, "Unheard")])
async def test_what_is_no_refusal_of_keys_is_unavailable(refusing, states, status, code):
    assert type(await refusing(status, code)) is UpstreamUnavailable
    assert states.refusing == ()


@pytest.fixture
def expiring(tmp_path, granule, states):
    """A local repository over the Earthdata double, which says ExpiredToken: the double, and how to mount it."""
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repository"))
    write_repository(storage, granule, {"first": "s3://granules/"})
    with running_double({"granule.nc": granule[0].read_bytes()}) as double:
        section = CredentialSettings(
            kind="earthdata-s3", endpoint=double.s3credentials_url, token_env="TOKEN", login=double.login_url
        )
        credentials = open_credentials({"asf": section}, {"TOKEN": double.token})
        upstreams = {"s3://granules/": UpstreamSettings(credentials="asf", endpoint_url=double.s3_url)}
        access_for = icechunk_access(upstreams, credentials, states)
        url = (tmp_path / "repository").as_uri()
        yield (
            double,
            lambda: open_icechunk_store(url, check_url=lambda _url: None, access_for=access_for),
        )


async def test_an_expired_token_is_replaced_once_for_all_reads(
    expiring, read_array, granule, *, monkeypatch, seen
):
    double, mount = expiring
    # time passes between two early ends
    monkeypatch.setattr("cubegate.credentials.renewing._PAUSE_FORCED", 0.0)
    store = await mount()
    await equal_the_granule(store, read_array, granule, "first")
    chunks = [chunk for chunk, _, _ in granule[1]]
    contents = granule[0].read_bytes()
    expected = [contents[offset : offset + length] for _, offset, length in granule[1]]
    for expiry in range(1, 11):
        assert double.count("s3credentials") == expiry
        double.expire_keys()
        found = await asyncio.gather(*(store.get(store.array("first"), chunk) for chunk in chunks))
        assert found == expected
    assert 10 <= double.statuses("s3")[400] <= 10 * len(chunks)
    shown = seen()
    assert [secret for secret in double.secrets if secret in shown] == []


async def test_keys_that_are_refused_again_are_not_asked_for_at_each_read(
    expiring, monkeypatch, states, seen
):
    double, mount = expiring
    store = await mount()
    monkeypatch.setattr("cubegate.credentials.renewing._PAUSE_FORCED", 0.0)
    monkeypatch.setattr(type(double), "good_key", lambda *_: False)
    for _ in range(5):
        with pytest.raises(UpstreamDenied) as caught:
            await store.get(store.array("first"), (0, 0))
        assert caught.value.state == "expired"
        assert "-value" not in str(caught.value)
    assert double.count("s3credentials") == 2
    assert [(one.upstream, one.state, one.count) for one in states.refusing] == [
        ("s3://granules/", "expired", 5)
    ]
    assert [secret for secret in double.secrets if secret in seen()] == []


async def test_no_secret_is_pickled_or_shown(expiring, tmp_path):
    double, mount = expiring
    store = await mount()
    assert await store.get(store.array("first"), (0, 0))
    opened = [
        held for held in gc.get_objects() if isinstance(held, icechunk.IcechunkStore | IcechunkUpstream)
    ]
    stores = [held for held in opened if isinstance(held, icechunk.IcechunkStore)]
    upstreams = [held for held in opened if isinstance(held, IcechunkUpstream)]
    pickles = b"".join(map(pickle.dumps, stores))
    assert b"KeysAtEachRequest" in pickles
    files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    shown = f"{opened!r}{[one.options() for one in upstreams]}{store!r}"
    for secret in double.secrets:
        assert secret.encode() not in pickles + files
        assert secret not in shown
    for upstream in upstreams:
        with pytest.raises(TypeError, match="secrets"):
            pickle.dumps(upstream)


async def test_a_copy_elsewhere_has_no_keys():
    upstream = IcechunkUpstream(
        parse_address("s3://granules/"),
        next(
            iter(
                open_credentials(
                    {
                        "ours": CredentialSettings(
                            kind="s3", access_key_id_env="KEY", secret_access_key_env="SECRET"
                        )
                    },
                    {"KEY": "key-value", "SECRET": "secret-value"},
                ).values()
            )
        ),
    )
    await upstream.refresh()
    ask = pickle.loads(pickle.dumps(upstream.options()["get_credentials"]))  # noqa: S301 - our own
    assert ask().access_key_id == "key-value"
    del upstream
    gc.collect()
    with pytest.raises(LookupError):
        ask()
    with pytest.raises(LookupError):
        KeysAtEachRequest("nobody")()


class GivesAtLast:
    """A provider whose first answer is late and a failure, and whose others are keys."""

    schemes = frozenset({"s3"})

    def __init__(self):
        self.asked, self.late = 0, asyncio.Event()

    async def for_url(self, _url):
        self.asked += 1
        if self.asked == 1:
            await self.late.wait()
            raise UpstreamUnavailable("Nobody answers.")
        return S3Keys("key-value", "secret-value")


async def test_a_late_failure_is_not_kept_for_as_long_as_keys_are():
    provider = GivesAtLast()
    upstream = IcechunkUpstream(parse_address("s3://granules/"), provider)
    failing = asyncio.ensure_future(upstream.refresh())
    await asyncio.sleep(0)
    await upstream.refresh()
    assert upstream.keys is not None
    assert not upstream.is_due()
    provider.late.set()
    await failing
    assert upstream.is_due()
    await upstream.refresh()
    assert upstream.keys is not None
