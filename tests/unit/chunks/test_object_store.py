"""Reads S3 with and without credentials, and judges what a faulty endpoint answers."""

import pytest
from tests.s3_server import checked_access, connect, new_keys, running_s3

from cubegate.chunks.address import parse_address
from cubegate.chunks.object_store import S3Objects
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import open_credentials
from cubegate.errors import (
    UpstreamChanged,
    UpstreamDenied,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from cubegate.settings import CredentialSettings

BODY = bytes(range(100))
META = ['ETag: "a"', "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"]


@pytest.fixture
def private():
    """An S3 endpoint with a private bucket, and the keys of the one user who may read it."""
    with running_s3() as endpoint:
        s3, iam = connect("s3", endpoint), connect("iam", endpoint)
        for bucket in ("private", "other"):
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="x.bin", Body=BODY)
        identifier, secret = new_keys(iam, "private")
        s3.close()
        iam.close()
        with checked_access():
            yield endpoint, {"OUR_KEY": identifier, "OUR_SECRET": secret}


def keys(environment):
    settings = CredentialSettings(kind="s3", access_key_id_env="OUR_KEY", secret_access_key_env="OUR_SECRET")
    return open_credentials({"ours": settings}, environment)["ours"]


def s3_objects(url, endpoint, **options):
    return S3Objects(parse_address(url), endpoint_url=endpoint, **options)


async def test_reads_with_the_configured_keys_alone(private, monkeypatch):
    endpoint, environment = private
    # What the process environment says must not be mixed in.
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    source = s3_objects("s3://private/", endpoint, credentials=keys(environment))
    assert await source.get(ChunkReference("s3://private/x.bin", 3, 10)) == BODY[3:13]
    assert await source.get(ChunkReference("s3://private/x.bin")) == BODY
    assert await source.list("s3://private/") == ["s3://private/x.bin"]
    with pytest.raises(UpstreamObjectMissing):
        await source.get(ChunkReference("s3://private/absent.bin", 3, 10))


async def test_a_bucket_that_the_keys_do_not_open_is_denied(private):
    endpoint, environment = private
    source = s3_objects("s3://other/", endpoint, credentials=keys(environment))
    with pytest.raises(UpstreamDenied):
        await source.get(ChunkReference("s3://other/x.bin", 3, 10))
    with pytest.raises(UpstreamDenied):
        await source.list("s3://other/")


async def test_wrong_keys_are_denied_and_not_shown(private):
    endpoint, environment = private
    wrong = environment | {"OUR_SECRET": "not-the-one"}
    for credentials in (keys(wrong), None):
        source = s3_objects("s3://private/", endpoint, credentials=credentials)
        with pytest.raises(UpstreamDenied) as caught:
            await source.get(ChunkReference("s3://private/x.bin", 3, 10))
        assert all(secret not in str(caught.value) for secret in wrong.values())


async def test_an_aws_profile_opens_the_bucket(private, tmp_path, monkeypatch):
    endpoint, environment = private
    file = tmp_path / "credentials"
    file.write_text(
        f"[cubes]\naws_access_key_id = {environment['OUR_KEY']}\naws_secret_access_key = {environment['OUR_SECRET']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    provider = open_credentials({"aws": CredentialSettings(kind="aws", profile="cubes")}, {})["aws"]
    source = s3_objects("s3://private/", endpoint, credentials=provider)
    assert await source.get(ChunkReference("s3://private/x.bin", 3, 10)) == BODY[3:13]


async def test_a_bucket_that_does_not_exist_is_not_a_missing_object(private, monkeypatch):
    endpoint, _ = private
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))
    with pytest.raises(UpstreamMismatch, match="does not say that"):
        await s3_objects("s3://absent/", endpoint).get(ChunkReference("s3://absent/x.bin", 3, 10))


@pytest.fixture
async def read(start_server):
    async def run(*answers, whole=False, **options):
        remaining = list(answers)
        server = await start_server(lambda _: remaining.pop(0) if len(remaining) > 1 else remaining[0])
        run.server = server
        source = s3_objects("s3://bucket/", server.url, **options)
        reference = ChunkReference("s3://bucket/x") if whole else ChunkReference("s3://bucket/x", 3, 10)
        return await source.get(reference)

    return run


@pytest.fixture
def part(response):
    def build(content_range="bytes 3-12/100", body=BODY[3:13], **options):
        return response(206, [f"Content-Range: {content_range}", *META], body, **options)

    return build


@pytest.mark.parametrize(
    ("status", "code", "error", "requests"),
    [(404, "NoSuchKey", UpstreamObjectMissing, 1), (404, "NoSuchBucket", UpstreamMismatch, 1),
     (404, "", UpstreamMismatch, 1), (403, "AccessDenied", UpstreamDenied, 1), (401, "", UpstreamDenied, 1),
     (400, "Malformed", UpstreamMismatch, 1), (301, "PermanentRedirect", UpstreamDenied, 1),
     (416, "InvalidRange", UpstreamMismatch, 1), (429, "SlowDown", UpstreamUnavailable, 3),
     (500, "InternalError", UpstreamUnavailable, 3), (503, "SlowDown", UpstreamUnavailable, 3)],
)  # fmt: skip
@pytest.mark.parametrize("whole", [True, False])
async def test_statuses(read, response, *, whole, status, code, error, requests):
    body = f"<Error><Code>{code}</Code><Message>secret</Message></Error>".encode()
    with pytest.raises(error) as caught:
        await read(response(status, [], body), whole=whole)
    assert len(read.server.requests) == requests
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_succeeds_after_the_upstream_recovers(read, part, response):
    assert await read(response(503), response(500), part()) == BODY[3:13]


async def test_refuses_other_bytes_than_those_asked_for(read, part, response):
    wrong = [part("bytes 4-13/100"), part("bytes 3-11/100", BODY[3:12]), response(200, META, BODY),
             response(200, META, BODY[3:13]), part("bytes 3-7/8", BODY[3:8])]  # fmt: skip
    for answer in wrong:
        with pytest.raises(UpstreamMismatch):
            await read(answer)


async def test_reads_again_after_a_cut_body(read, part):
    cut = part(body=BODY[3:8], length=10).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    assert await read(cut, part()) == BODY[3:13]
    with pytest.raises(UpstreamUnavailable):
        await read(cut)


async def test_a_hanging_upstream_times_out(read):
    with pytest.raises(UpstreamTimeout):
        await read(None, deadline=0.2)


async def test_anonymous_requests_are_not_signed(read, part):
    await read(part())
    (request,) = read.server.requests
    assert "authorization" not in request.headers
    assert request.target == "/bucket/x"


async def test_keys_are_sent_to_the_letter(start_server, part):
    server = await start_server(lambda _: part())
    source = s3_objects("s3://bucket/", server.url)
    await source.get(ChunkReference("s3://bucket/a b%20+é.nc", 3, 10))
    assert server.requests[0].target == "/bucket/a%20b%2520%2B%C3%A9.nc"


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
DATED = [f"Last-Modified: {DATE}"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("validator", "headers", "sent"),
    [('"a"', META, {"if-match": '"a"'}), (DATE, META, {"if-unmodified-since": DATE}),
     ('"a"', DATED, {"if-match": '"a"'}), (DATE, ['ETag: "a"'], {"if-unmodified-since": DATE})],
)  # fmt: skip
async def test_asks_for_the_object_as_it_was(start_server, response, *, whole, validator, headers, sent):
    answer = (
        response(200, headers, BODY)
        if whole
        else response(206, ["Content-Range: bytes 3-12/100", *headers], BODY[3:13])
    )
    server = await start_server(lambda _: answer)
    bounds = () if whole else (3, 10)
    reference = ChunkReference("s3://bucket/x", *bounds, validator=validator)
    source = s3_objects("s3://bucket/", server.url)
    assert await source.get(reference) == (BODY if whole else BODY[3:13])
    assert {
        name: value for name, value in server.requests[0].headers.items() if name.startswith("if-")
    } == sent


@pytest.mark.parametrize("validator", ['"b"', "Wed, 21 Oct 2015 07:28:01 GMT"])
async def test_another_object_is_an_error_though_the_store_ignored_the_question(
    start_server, part, response, validator
):
    for answer in (part(), response(412, [], b"<Error><Code>PreconditionFailed</Code></Error>")):
        server = await start_server(lambda _, answer=answer: answer)
        source = s3_objects("s3://bucket/", server.url)
        with pytest.raises(UpstreamChanged, match="replaced"):
            await source.get(ChunkReference("s3://bucket/x", 3, 10, validator))
        assert len(server.requests) == 1


async def test_a_range_that_is_cut_is_an_error_with_a_validator_too(start_server, part):
    server = await start_server(lambda _: part("bytes 3-7/8", BODY[3:8]))
    with pytest.raises(UpstreamMismatch, match="5 bytes where 10"):
        await s3_objects("s3://bucket/", server.url).get(ChunkReference("s3://bucket/x", 3, 10, '"a"'))


async def test_a_web_page_of_the_right_length_is_seen_where_a_validator_is_held(start_server, response):
    page = [f"Content-Range: bytes 3-12/{len(BODY)}", *META, "Content-Type: text/html"]
    server = await start_server(lambda _: response(206, page, BODY[3:13]))
    with pytest.raises(UpstreamMismatch, match="web page"):
        await s3_objects("s3://bucket/", server.url).get(ChunkReference("s3://bucket/x", 3, 10, '"a"'))


async def test_a_web_page_and_a_giant_are_not_taken_for_whole_objects(read, response, monkeypatch):
    with pytest.raises(UpstreamMismatch, match="web page"):
        await read(response(200, [*META, "Content-Type: text/html"], b"<html>"), whole=True)
    monkeypatch.setattr("cubegate.chunks.object_store.LARGEST_OBJECT", 99)
    with pytest.raises(UpstreamMismatch, match="larger than the 99 bytes"):
        await read(response(200, META, BODY), whole=True)
