"""The short way past the framework: what takes it, and that its answers are those of the long way."""

import json

import httpx
import pytest
from starlette.responses import PlainTextResponse

from cubegate.api.direct import CrossOriginHeaders, DirectRoutes
from cubegate.api.metrics import ROUTE
from cubegate.app import create_app
from cubegate.settings import load_settings

ORIGIN = {"Origin": "https://a.example"}
PATHS = [
    "/datasets/stack/zarr",
    "/datasets/stack/zarr/",
    "/datasets/stack/zarr/zarr.json",
    "/datasets/stack/zarr/.zmetadata",
    "/datasets/stack/zarr/displacement",
    "/datasets/stack/zarr/displacement/",
    "/datasets/stack/zarr/displacement/0.0.0",
    "/datasets/stack/zarr/displacement/c/0/0/0",
    "/datasets/stack/zarr/displacement/99.0.0",
    "/datasets/stack/zarr-plain/displacement/0.0.0",
    "/datasets/stack@0/zarr/zarr.json",
    "/datasets/none/zarr/zarr.json",
    "/datasets/lost/zarr/zarr.json",
    "/datasets//zarr/zarr.json",
    "/healthz",
]
HEADERS = [
    {},
    ORIGIN,
    {"Origin": "https://other.example", "Cookie": "a=b"},
    {"Range": "bytes=1-3", **ORIGIN},
    {"Range": "bytes=999999999-"},
    {"If-None-Match": "*", **ORIGIN},
]


@pytest.fixture
async def compose(root):
    """Compose a server, or the long way alone; gives what asks it."""
    closing = []

    async def compose(*, long=False, root_path="", **environment):
        app = create_app(load_settings(root / "cubegate.yaml", environment), {})
        app = app.fastapi if long else app
        closing.append(app.router.lifespan_context(app))
        await closing[-1].__aenter__()

        async def ask(method, path, headers):
            transport = httpx.ASGITransport(app=app, root_path=root_path)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.request(method, root_path + path, headers=headers)

        return ask

    yield compose
    for context in closing:
        await context.__aexit__(None, None, None)


@pytest.mark.parametrize("root_path", ["", "/gate"])
@pytest.mark.parametrize("origins", [["*"], ["https://a.example"]])
async def test_both_ways_answer_alike(compose, root_path, origins):
    settings = {"root_path": root_path, "CUBEGATE_SERVER__CORS_ORIGINS": json.dumps(origins)}
    short, long = await compose(**settings), await compose(long=True, **settings)
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            for headers in HEADERS:
                asked = (method, path, headers)
                expected = await long(*asked)
                # the second time, what is known of a key is remembered
                for answer in (await short(*asked), await short(*asked)):
                    assert answer.status_code == expected.status_code, asked
                    assert sorted(answer.headers.multi_items()) == sorted(expected.headers.multi_items()), (
                        asked
                    )
                    assert answer.content == expected.content, asked


class Noting:
    """An application that keeps the scopes that it is asked with."""

    def __init__(self):
        self.scopes = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        await PlainTextResponse("noted")(scope, receive, send)


async def nothing():
    return {"type": "http.disconnect"}


async def ask(app, path, method="GET", **more):
    sent = []

    async def keep(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], **more}
    await app(scope, nothing, keep)
    return scope, sent


@pytest.mark.parametrize(
    ("path", "more", "taken"),
    [
        ("/datasets/a/bytes/x/0.0", {}, ("a", "x/0.0")),
        ("/datasets/a@1/bytes/", {}, ("a@1", "")),
        ("/datasets/a/bytes/x//y", {"method": "HEAD"}, ("a", "x//y")),
        ("/datasets/a/bytes/x", {"root_path": ""}, ("a", "x")),
        ("/gate/datasets/a/bytes/x", {"root_path": "/gate"}, ("a", "x")),
        ("/datasets/a/bytes/x", {"root_path": "/gate"}, ("a", "x")),
        ("/gatedatasets/a/bytes/x", {"root_path": "/gate"}, None),
        ("/gate/datasets/a/bytes/x", {}, None),
        ("/datasets/a/bytes", {}, None),
        ("/datasets//bytes/x", {}, None),
        ("/datasets/a/b/bytes/x", {}, None),
        ("/data/a/bytes/x", {}, None),
        ("datasets/a/bytes/x", {}, None),
        ("/datasets/a/values/x", {}, None),
        ("/datasets/a/bytes/x", {"method": "POST"}, None),
        ("/datasets/a/bytes/x", {"method": "OPTIONS"}, None),
        ("/datasets/a/bytes/x", {"type": "websocket"}, None),
    ],
)
async def test_what_takes_the_short_way(path, more, taken):
    short, long = Noting(), Noting()
    app = DirectRoutes(long, applications={"bytes": short}, cross_origin={"allow_origins": ["*"]})
    if more.get("type") == "websocket":

        async def close(scope, receive, send):
            long.scopes.append(scope)

        app = DirectRoutes(close, applications={"bytes": short}, cross_origin={"allow_origins": ["*"]})
    scope, _ = await ask(app, path, **more)
    assert [len(short.scopes), len(long.scopes)] == ([1, 0] if taken else [0, 1])
    if taken:
        assert scope["path_params"] == dict(zip(("dataset_id", "key"), taken, strict=True))
        assert scope[ROUTE] == "/datasets/{dataset_id}/bytes/{key}"
    else:
        assert ROUTE not in scope


@pytest.mark.parametrize("started", [False, True])
async def test_an_unforeseen_error_is_a_500_with_cors_or_breaks_the_connection(started, caplog):
    async def fail(scope, receive, send):
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError("marker")

    app = DirectRoutes(Noting(), applications={"bytes": fail}, cross_origin={"allow_origins": ["*"]})
    headers = [(b"origin", b"https://a.example")]
    if started:
        with pytest.raises(ZeroDivisionError):
            await ask(app, "/datasets/a/bytes/x", headers=headers)
        return
    _, sent = await ask(app, "/datasets/a/bytes/x", headers=headers)
    assert sent[0]["status"] == 500
    assert dict(sent[0]["headers"])[b"access-control-allow-origin"] == b"*"
    assert dict(sent[0]["headers"])[b"content-type"] == b"application/problem+json"
    assert b"marker" not in sent[1]["body"]
    assert "ZeroDivisionError" in caplog.text


async def test_headers_of_an_application_are_not_written_to():
    own = [(b"content-length", b"0")]

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": b""})

    app = DirectRoutes(Noting(), applications={"bytes": answer}, cross_origin={"allow_origins": ["*"]})
    for _ in range(2):
        _, sent = await ask(app, "/datasets/a/bytes/x", headers=[(b"origin", b"https://a.example")])
        assert len(dict(sent[0]["headers"])) == len(sent[0]["headers"])
    assert own == [(b"content-length", b"0")]


async def test_no_number_or_length_of_origins_fills_the_memory():
    cross_origin = CrossOriginHeaders({"allow_origins": ["*"], "expose_headers": ["ETag"]})
    found = []
    for number in range(2000):
        origin = b"https://%d.example/" % number + b"x" * (1000 * (number % 2))
        found.append(
            await cross_origin.of({"type": "http", "method": "GET", "headers": [(b"origin", origin)]})
        )
    assert {dict(each)[b"access-control-allow-origin"] for each in found} == {b"*"}
    assert len(cross_origin._known) <= 256
    assert max(map(len, cross_origin._known)) <= 256
