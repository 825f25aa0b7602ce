"""Tells kinds of refusal apart over S3, and renews temporary keys once."""

import asyncio
from datetime import UTC, datetime

import pytest
from tests.earthdata_double.double import running_double

from cubegate.chunks.address import parse_address
from cubegate.chunks.object_store import S3Objects
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import S3Keys
from cubegate.errors import UpstreamDenied

BODY = bytes(range(100))


class Fixed:
    """Gives keys that are never renewed."""

    schemes = frozenset({"s3"})

    async def for_url(self, url):
        return S3Keys("key-value", "secret-value")

    async def renew(self, url, rejected):
        raise UpstreamDenied("There are no others.")


def s3_objects(url, endpoint, credentials):
    return S3Objects(parse_address(url), endpoint_url=endpoint, credentials=credentials)


@pytest.mark.parametrize(
    ("status", "code", "signed", "state"),
    [(403, "AccessDenied", True, "denied"), (400, "ExpiredToken", True, "expired"), (403, "ExpiredToken", True, "expired"),
     (403, "InvalidAccessKeyId", True, "bad-token"), (403, "SignatureDoesNotMatch", True, "bad-token"),
     (301, "PermanentRedirect", True, "out-of-region"), (400, "AuthorizationHeaderMalformed", True, "out-of-region"),
     (403, "AccessDenied", False, "denied"), (401, "", False, "no-credentials")],
)  # fmt: skip
async def test_each_kind_of_refusal_has_its_name(start_server, response, *, status, code, signed, state):
    body = f"<Error><Code>{code}</Code><Message>secret</Message></Error>".encode()
    server = await start_server(lambda _: response(status, [], body))
    credentials = Fixed() if signed else None
    source = s3_objects("s3://bucket/", server.url, credentials)
    for read in (source.get(ChunkReference("s3://bucket/x", 3, 10)), source.stat("s3://bucket/x")):
        with pytest.raises(UpstreamDenied) as caught:
            await read
        assert caught.value.state == state
        assert caught.value.mend
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


class Temporary:
    """Gives temporary keys of the double, and counts how often it is asked for others."""

    schemes = frozenset({"s3"})

    def __init__(self, double):
        self.double = double
        self.renewals = self.asked = 0
        self.keys = self.new()

    def new(self):
        key, secret, session, expires = self.double.new_keys()
        return S3Keys(key, secret, session, datetime.fromtimestamp(expires, UTC))

    async def for_url(self, url):
        self.asked += 1
        return self.keys

    async def renew(self, url, rejected):
        if rejected == self.keys:
            self.renewals += 1
            self.keys = self.new()
        return self.keys


@pytest.fixture
def temporary():
    with running_double({"x.bin": BODY}) as double:
        yield Temporary(double)


@pytest.fixture
def with_temporary_keys(temporary):
    return s3_objects("s3://granules/", temporary.double.s3_url, temporary)


async def test_keys_that_end_early_are_renewed_once_and_all_reads_go_on(temporary, with_temporary_keys):
    reference = ChunkReference("s3://granules/x.bin", 3, 10)
    for _ in range(5):
        temporary.double.expire_keys()
        read = [with_temporary_keys.get(reference) for _ in range(40)]
        assert await asyncio.gather(*read) == [BODY[3:13]] * 40
    assert temporary.renewals == 5
    # not one question a read
    assert temporary.asked < 10


async def test_keys_are_asked_for_anew_before_they_expire(temporary, with_temporary_keys, monkeypatch):
    reference = ChunkReference("s3://granules/x.bin", 3, 10)
    await with_temporary_keys.get(reference)
    assert temporary.asked == 1
    monkeypatch.setattr("cubegate.chunks.renewal._ASK_AGAIN", 0.0)
    with_temporary_keys._signing = None
    temporary.keys = temporary.new()
    for _ in range(2):
        await with_temporary_keys.get(reference)
    assert temporary.asked == 3
    sent = [seen.headers["authorization"] for seen in temporary.double.requests]
    assert temporary.keys.access_key_id in sent[-1]
    assert temporary.keys.access_key_id not in sent[0]


async def test_keys_refused_in_vain_are_not_renewed_for_every_read(temporary, start_server, response):
    server = await start_server(lambda _: response(400, [], b"<Error><Code>ExpiredToken</Code></Error>"))
    source = s3_objects("s3://bucket/", server.url, temporary)
    for _ in range(5):
        with pytest.raises(UpstreamDenied) as caught:
            await source.get(ChunkReference("s3://bucket/x", 3, 10))
        assert caught.value.state == "expired"
    assert temporary.renewals == 1


async def test_keys_that_are_denied_may_be_outside_their_region(temporary, with_temporary_keys):
    temporary.double.out_of_region = True
    with pytest.raises(UpstreamDenied) as caught:
        await with_temporary_keys.get(ChunkReference("s3://granules/x.bin", 3, 10))
    assert caught.value.state == "denied"
    assert "us-west-2" in caught.value.mend
    assert temporary.renewals == 0
    assert all(secret not in f"{caught.value!r} {with_temporary_keys!r} {with_temporary_keys._signing!r}"
               for secret in temporary.double.secrets)  # fmt: skip
