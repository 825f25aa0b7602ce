"""Answers of the values plane: validated by ETag, spooled, shared, ranged, and bounded by the deadline."""

import asyncio

import httpx
import pytest
import xarray as xr
from starlette.requests import Request

from cubegate.api import respond
from cubegate.api.spool_directory import LOCK
from cubegate.errors import UpstreamUnavailable

ANSWER = "/datasets/stack/answer"


def spooled_files(server):
    directory = server.app.state.services.spool._directory.path
    return [path for path in directory.iterdir() if path.name != LOCK]


def test_an_answer_carries_what_caches_need(server):
    response = server.http.get(ANSWER, params={"tens": 3})
    assert response.content == b"0123456789" * 3
    assert response.headers["content-type"] == "application/x-trial"
    assert response.headers["content-length"] == "30"
    assert response.headers["content-disposition"] == 'inline; filename="trial.trial"'
    assert response.headers["cache-control"] == "public, max-age=300"
    assert response.headers["etag"].startswith('"')


def test_a_held_answer_is_validated_without_producing_it(server):
    etag = server.http.get(ANSWER, params={"tens": 4}).headers["etag"]
    server.app.state.services.spool._files.clear()
    server.control.produced = 0
    for held in (etag, f'"other", {etag}', f"W/{etag}"):
        response = server.http.get(ANSWER, params={"tens": 4}, headers={"If-None-Match": held})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert server.control.produced == 0
    other = server.http.get(ANSWER, params={"tens": 4}, headers={"If-None-Match": '"other"'})
    assert (other.status_code, server.control.produced) == (200, 1)


def test_the_etag_is_of_the_query_the_dataset_and_the_body(server):
    tags = [
        server.http.get(ANSWER, params={"tens": 1}).headers["etag"],
        server.http.get(ANSWER, params={"tens": 2}).headers["etag"],
        server.http.post(ANSWER, params={"tens": 1}, content=b"a").headers["etag"],
        server.http.post(ANSWER, params={"tens": 1}, content=b"b").headers["etag"],
    ]
    assert len(set(tags)) == 4
    assert server.http.get(ANSWER, params={"tens": 1}).headers["etag"] == tags[0]


def test_a_changed_configuration_is_another_answer(serve, root, monkeypatch):
    monkeypatch.setattr("cubegate.catalog.catalog.CHECK_INTERVAL", 0.0)
    file = root / "collections" / "moved.yaml"
    try:
        with serve() as server:
            tags = []
            for crs in ("EPSG:32611", "EPSG:32612"):
                file.write_text(
                    f"id: moved\ncrs: {crs}\nsource: {{kind: kerchunk, href: ../stack/stack.json}}\n"
                )
                tags.append(server.http.get("/datasets/moved/answer").headers["etag"])
            assert server.control.produced == 2
            assert tags[0] != tags[1]
    finally:
        file.unlink()


def test_a_post_is_answered_whatever_the_client_holds(server):
    etag = server.http.post(ANSWER, content=b"a").headers["etag"]
    response = server.http.post(ANSWER, content=b"a", headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-9", 206, b"0123456789"),
        ("bytes=95-", 206, b"56789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=100-", 416, None),
        ("bytes=9-1", 200, b"0123456789" * 10),
        ("bytes=0-1,5-6", 200, b"0123456789" * 10),
        ("pages=1-2", 200, b"0123456789" * 10),
        ("nonsense", 200, b"0123456789" * 10),
    ],
)
def test_ranges_of_a_spooled_answer(server, asked, status, content):
    server.http.get(ANSWER, params={"tens": 10})
    server.control.produced = 0
    response = server.http.get(ANSWER, params={"tens": 10}, headers={"Range": asked})
    assert response.status_code == status
    if content is not None:
        assert response.content == content
    if status == 206:
        assert response.headers["content-range"].endswith("/100")
    if status == 416:
        assert response.headers["content-range"] == "bytes */100"
        assert response.json()["status"] == 416
    assert response.headers["access-control-allow-origin"] == "*"
    assert server.control.produced == 0


def test_a_range_of_another_answer_is_not_mixed_in(server):
    response = server.http.get(
        ANSWER, params={"tens": 10}, headers={"Range": "bytes=0-3", "If-Range": '"other"'}
    )
    assert (response.status_code, len(response.content)) == (200, 100)


async def test_identical_requests_at_the_same_time_are_produced_once(server):
    server.control.delay = 0.2
    async with httpx.AsyncClient(base_url=server.url) as client:
        responses = await asyncio.gather(*[client.get(ANSWER, params={"tens": 321}) for _ in range(8)])
    assert {response.content for response in responses} == {b"0123456789" * 321}
    assert server.control.produced == 1


async def test_different_requests_at_the_same_time_are_not_mixed_up(server):
    server.control.delay = 0.05
    async with httpx.AsyncClient(base_url=server.url) as client:
        responses = await asyncio.gather(*[client.get(ANSWER, params={"tens": 400 + n}) for n in range(8)])
    assert [len(response.content) for response in responses] == [10 * (400 + n) for n in range(8)]


def test_a_failed_answer_is_not_remembered(server):
    server.control.error = UpstreamUnavailable("Not now.")
    assert server.http.get(ANSWER, params={"tens": 5}).status_code == 503
    server.control.error = None
    assert server.http.get(ANSWER, params={"tens": 5}).content == b"0123456789" * 5


def test_an_error_while_writing_is_a_500_and_leaves_no_file(server):
    before = spooled_files(server)
    server.control.failing = True
    response = server.http.get(ANSWER, params={"tens": 6})
    assert response.status_code == 500
    assert "marker" not in response.text
    assert spooled_files(server) == before
    server.control.failing = False
    assert server.http.get(ANSWER, params={"tens": 6}).content == b"0123456789" * 6


def test_a_late_answer_is_a_504(serve):
    with serve(CUBEGATE_LIMITS__DEADLINE="100ms") as server:
        server.control.delay = 3600.0
        response = server.http.get(ANSWER)
        assert response.status_code == 504
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"]
        server.control.delay = 0.0
        assert server.http.get(ANSWER).status_code == 200


def test_an_answer_larger_than_the_spool_is_a_413(serve):
    with serve(CUBEGATE_LIMITS__BYTES="50") as server:
        assert server.http.get(ANSWER, params={"tens": 10}).status_code == 200
        response = server.http.get(ANSWER, params={"tens": 11})
        assert response.status_code == 413
        assert response.json()["limits"] == {"bytes": 100}
        assert [path.stat().st_size for path in spooled_files(server)] == [100]


def test_a_native_store_is_not_taken_for_unchanging(serve, root, write_configuration):
    xr.Dataset({"v": ("x", [1.0, 2.0])}).to_zarr(root / "native.zarr", zarr_format=2, mode="w")
    write_configuration(root, native="source: {kind: zarr, href: ../native.zarr}")
    try:
        with serve() as server:
            response = server.http.get("/datasets/native/answer")
            assert response.headers["cache-control"] == "no-cache"
            assert response.headers["etag"]
    finally:
        (root / "collections" / "native.yaml").unlink()


async def test_an_answer_that_lost_its_place_is_still_sent_whole(server, root):
    path = {"type": "http", "method": "GET", "path": "/sent", "query_string": b"", "headers": []}
    scope = {**path, "server": ("a", 80), "scheme": "http", "app": server.app}
    body = b"0123456789" * 100_000

    class Format:
        name, media_type, extension, shapes = "sent", "text/plain", "txt", frozenset({"cube"})

        def write(self, result):
            yield body

    async def produce():
        return None

    async def never():
        await asyncio.Event().wait()

    services = server.app.state.services
    cube = await services.catalog.get("stack")
    response = await respond(Request(scope, never), cube, Format(), produce, filename="sent")
    services.spool._files.clear()
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()

    await response(scope, receive, send)
    assert b"".join(message.get("body", b"") for message in sent) == body
