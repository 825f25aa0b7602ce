"""Reads S3 as the configuration says, whatever the process's AWS_* variables say."""

import pytest

from cubegate.chunks.address import parse_address
from cubegate.chunks.object_store import S3Objects
from cubegate.chunks.source import ChunkReference
from cubegate.credentials import open_credentials
from cubegate.errors import UpstreamError
from cubegate.settings import CredentialSettings

BODY = bytes(range(10))
META = ['ETag: "a"', "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"]
ENVIRONMENT = {"OUR_KEY": "key-value", "OUR_SECRET": "secret-value"}
VARIABLES = {
    "endpoint for S3": {"AWS_ENDPOINT_URL_S3": "{elsewhere}"},
    "endpoint": {"AWS_ENDPOINT_URL": "{elsewhere}", "AWS_ENDPOINT": "{elsewhere}"},
    "proxy": {"AWS_PROXY_URL": "{elsewhere}"},
    "who gives keys": {
        "AWS_METADATA_ENDPOINT": "{elsewhere}",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{elsewhere}",
        "AWS_ENDPOINT_URL_STS": "{elsewhere}",
        "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/other",
        "AWS_WEB_IDENTITY_TOKEN_FILE": __file__,
    },
    "keys": {
        "AWS_ACCESS_KEY_ID": "other-value",
        "AWS_SECRET_ACCESS_KEY": "other-value",
        "AWS_SESSION_TOKEN": "other-value",
        "AWS_TOKEN": "other-value",
    },
    "address": {
        "AWS_BUCKET": "other",
        "AWS_BUCKET_NAME": "other",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    },
    "region": {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"},
    "no signature": {"AWS_SKIP_SIGNATURE": "true", "AWS_UNSIGNED_PAYLOAD": "true"},
    "a signature": {"AWS_SKIP_SIGNATURE": "false"},
    "no http": {"AWS_ALLOW_HTTP": "false", "AWS_HTTP2_ONLY": "true"},
    "another kind of bucket": {"AWS_S3_EXPRESS": "true"},
    "who pays": {"AWS_REQUEST_PAYER": "requester"},
    "encryption": {
        "AWS_SERVER_SIDE_ENCRYPTION": "sse-c",
        "AWS_SSE_CUSTOMER_KEY_BASE64": "bm90LWEta2V5LW5vdC1hLWtleS1ub3QtYS1rZXktISE=",
    },
}


def keys():
    settings = CredentialSettings(kind="s3", access_key_id_env="OUR_KEY", secret_access_key_env="OUR_SECRET")
    return open_credentials({"ours": settings}, ENVIRONMENT)["ours"]


def shown(request):
    """A request without what differs from one moment to the next."""
    headers = {name: value for name, value in request.headers.items() if name != "x-amz-date"}
    authorization = headers.pop("authorization", "")
    # the scope, without the day, and the names of the signed headers
    signed = [part for part in authorization.replace(",", "/").split("/") if not part.isdigit()][:-1]
    return request.method, request.target, headers, signed


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES)
async def test_no_variable_changes_a_request(start_server, response, monkeypatch, variables, *, signed):
    def answer(request):
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        headers = [f"Content-Range: bytes {first}-{last}/10", *META]
        return response(206, headers, BODY[first : last + 1])

    server, elsewhere = await start_server(answer), await start_server(answer)

    async def read():
        source = S3Objects(
            parse_address("s3://bucket/"),
            endpoint_url=server.url,
            credentials=keys() if signed else None,
            deadline=5,
        )
        assert await source.get(ChunkReference("s3://bucket/x.bin", 3, 3)) == BODY[3:6]
        assert (await source.stat("s3://bucket/x.bin")).nbytes == 10

    await read()
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(elsewhere=elsewhere.url))
    await read()

    assert elsewhere.requests == []
    first, second = map(shown, server.requests[:2]), map(shown, server.requests[2:])
    assert list(first) == list(second)
    assert all(("authorization" in request.headers) is signed for request in server.requests)


async def test_without_an_endpoint_aws_itself_is_asked(start_server, response, monkeypatch):
    proxy = await start_server(lambda _: response(403, ["Connection: close"]))
    elsewhere = await start_server(lambda _: response(403, ["Connection: close"]))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", elsewhere.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere.url)
    # nothing of this test leaves the machine
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for region in (None, "cn-north-1"):
        source = S3Objects(parse_address("s3://bucket/"), region=region, deadline=2)
        with pytest.raises(UpstreamError):
            await source.get(ChunkReference("s3://bucket/x.bin", 3, 3))
    assert elsewhere.requests == []
    asked = {(request.method, request.target) for request in proxy.requests}
    assert asked == {
        ("CONNECT", "s3.us-east-1.amazonaws.com:443"),
        ("CONNECT", "s3.cn-north-1.amazonaws.com.cn:443"),
    }
