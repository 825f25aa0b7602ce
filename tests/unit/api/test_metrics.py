"""/metrics, and what the server counts of its requests."""

import asyncio
import socket

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cubegate.api.metrics import ABORTED, ROUTE, UNMATCHED, RequestMetrics, RouteTemplates, refreshed
from cubegate.app import create_app
from cubegate.metrics.families import OPEN_CUBES
from cubegate.metrics.metrics import Metrics
from cubegate.settings import Settings

MARKER = "marker-of-a-secret"
TEMPLATES = (
    "/healthz",
    "/number/{number}",
    "/datasets",
    "/datasets/{dataset_id}/zarr/{key}",
    "/datasets/{dataset_id}/zarr-plain/{key}",
    "/datasets/{dataset_id}/subset",
    "/datasets/{dataset_id}/tiles/{z}/{x}/{y}.png",
    "/datasets/{dataset_id}/{other}",
)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/healthz", "/healthz"),
        ("/healthz/", UNMATCHED),
        ("/healthz.txt", UNMATCHED),
        ("/number/7", "/number/{number}"),
        ("/datasets", "/datasets"),
        ("/datasets/a/zarr/v/0.0", "/datasets/{dataset_id}/zarr/{key}"),
        ("/datasets/a/zarr/", "/datasets/{dataset_id}/zarr/{key}"),
        ("/datasets/a/zarr", "/datasets/{dataset_id}/zarr/{key}"),
        ("/datasets/zarr/zarr-plain/subset", "/datasets/{dataset_id}/zarr-plain/{key}"),
        ("/datasets/a\n/zarr/\nv", "/datasets/{dataset_id}/zarr/{key}"),
        ("/datasets/a/subset", "/datasets/{dataset_id}/subset"),
        ("/datasets/a/tiles/1/2/3.png", "/datasets/{dataset_id}/tiles/{z}/{x}/{y}.png"),
        ("/datasets/a/subsets", "/datasets/{dataset_id}/{other}"),
        ("/", UNMATCHED),
        ("", UNMATCHED),
    ],
)
def test_a_path_belongs_to_the_template_that_says_most(path, template):
    assert RouteTemplates(TEMPLATES).of(path) == template
    assert RouteTemplates(reversed(TEMPLATES)).of(path) == template


@pytest.fixture
def requests():
    """The requests that a server says it has answered, by route, method and status."""

    def requests(client):
        families = {family.name: family for family in parse_text(client.get("/metrics").text)}
        return {
            (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
            for sample in families["cubegate_http_requests"].samples
        }

    return requests


@pytest.fixture
def grown(requests):
    """What was counted since the fixture was asked last; requests for /metrics aside."""

    def start(client):
        before = requests(client)

        def grown():
            nonlocal before
            now = requests(client)
            changed = {key: value - before.get(key, 0) for key, value in now.items()}
            before = now
            return {key: value for key, value in changed.items() if value and key[0] != "/metrics"}

        return grown

    return start


def test_every_answer_counts_once_and_before_it_is_there(server, grown):
    since = grown(server.http)
    chunk = "/datasets/{dataset_id}/zarr/{key}"
    for method, path, key in (
        ("GET", "/healthz", ("/healthz", "GET", "200")),
        ("HEAD", "/healthz", ("/healthz", "HEAD", "200")),
        ("DELETE", "/healthz", ("/healthz", "DELETE", "405")),
        ("GET", "/datasets/stack/zarr/displacement/0.0.0", (chunk, "GET", "200")),
        ("HEAD", "/datasets/stack/zarr/displacement/0.0.0", (chunk, "HEAD", "200")),
        ("GET", "/datasets/stack/zarr", (chunk, "GET", "307")),
        ("GET", "/datasets/stack/zarr/displacement/9.9.9", (chunk, "GET", "404")),
        ("GET", "/datasets/lost/zarr/zarr.json", (chunk, "GET", "502")),
        ("GET", "/datasets/stack/subset?f=csv", ("/datasets/{dataset_id}/subset", "GET", "200")),
        ("GET", "/number/x", ("/number/{number}", "GET", "400")),
        ("GET", "/docs", ("/docs", "GET", "200")),
        ("GET", "/nowhere/at/all", (UNMATCHED, "GET", "404")),
        ("POST", "/both", ("/both", "POST", "200")),
    ):
        server.http.request(method, path)
        assert since() == {key: 1}, (method, path)


def test_upstream_reads_count_by_scheme_and_host(serve):
    def numbers(client):
        families = parse_text(client.get("/metrics").text)
        return {
            sample.name: sample.value
            for family in families
            for sample in family.samples
            if sample.labels.get("upstream") == "file://" and "bucket" not in sample.name
        }

    with serve() as server:
        server.http.get("/datasets/stack/zarr/zarr.json").raise_for_status()
        before = numbers(server.http)
        for _ in range(2):
            server.http.get("/datasets/stack/zarr/displacement/0.0.0").raise_for_status()
        after = numbers(server.http)
    grown = {name: value - before[name] for name, value in after.items()}
    assert grown["cubegate_upstream_requests_total"] == 1
    assert grown["cubegate_upstream_read_bytes_total"] > 0
    assert grown["cubegate_upstream_request_duration_seconds_count"] == 1
    assert after["cubegate_upstream_requests_in_flight"] == 0


def test_a_preflight_counts(server, grown):
    since = grown(server.http)
    server.http.options("/healthz", headers={"Access-Control-Request-Method": "GET"})
    assert since() == {("/healthz", "OPTIONS", "200"): 1}


def test_an_answer_that_breaks_off_counts_as_aborted(server, grown):
    since = grown(server.http)
    server.control.error = RuntimeError(MARKER)
    with pytest.raises(httpx.RemoteProtocolError):
        server.http.get("/late")
    assert since() == {("/late", "GET", ABORTED): 1}


def test_unforeseen_errors_count_as_what_was_answered(server, grown):
    since = grown(server.http)
    server.control.error = RuntimeError(MARKER)
    assert server.http.get("/raise").status_code == 500
    assert since() == {("/raise", "GET", "500"): 1}


def test_clients_cannot_write_labels(server):
    for path in (
        f"/{MARKER}",
        f"/datasets/{MARKER}/zarr/{MARKER}",
        f"/healthz?x={MARKER}",
        f"/number/{MARKER}",
    ):
        server.http.get(path, headers={"X-Secret": MARKER})
    assert MARKER not in server.http.get("/metrics").text


def test_the_formats(server):
    plain = server.http.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert plain.headers["cache-control"] == "no-store"
    accept = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    other = server.http.get("/metrics", headers=accept)
    assert other.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "Accept" in other.headers["vary"]
    # OpenMetrics leaves the suffix to the samples
    assert {f.name for f in parse_text(plain.text)} == {f.name for f in parse_openmetrics(other.text)}


def test_the_memory_cache_and_open_cubes_are_shown(serve):
    def read(client):
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in parse_text(client.get("/metrics").text)
            for sample in family.samples
        }

    with serve() as server:
        before = read(server.http)
        assert before[("cubegate_open_cubes",)] == 0
        assert before["cubegate_cache_held_bytes", "memory"] == 0
        chunk = server.http.get("/datasets/stack/zarr/displacement/0.0.0").content
        after = read(server.http)
        assert after[("cubegate_open_cubes",)] == 1
        assert after["cubegate_cache_held_bytes", "memory"] >= len(chunk)
        assert after["cubegate_cache_written_bytes_total", "chunk", "memory"] >= len(chunk)
        hits = after["cubegate_cache_hits_total", "chunk", "memory"]
        read_bytes = after["cubegate_cache_read_bytes_total", "chunk", "memory"]
        server.http.get("/datasets/stack/zarr/displacement/0.0.0")
        again = read(server.http)
        assert again["cubegate_cache_hits_total", "chunk", "memory"] == hits + 1
        assert again["cubegate_cache_read_bytes_total", "chunk", "memory"] == read_bytes + len(chunk)
        assert ("cubegate_redis_paused",) not in again


def test_a_dead_redis_shows_as_paused(serve):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with serve(CUBEGATE_CACHE__REDIS=f"redis://127.0.0.1:{nobody.getsockname()[1]}/0") as server:
            assert "\ncubegate_redis_paused 0.0\n" in server.http.get("/metrics").text
            server.http.get("/datasets/stack/zarr/displacement/0.0.0")
            assert "\ncubegate_redis_paused 1.0\n" in server.http.get("/metrics").text


def test_two_servers_in_one_process_count_apart(serve, requests):
    with serve() as one, serve() as other:
        for _ in range(3):
            one.http.get("/healthz")
        other.http.get("/healthz")
        assert requests(one.http)["/healthz", "GET", "200"] == 3
        assert requests(other.http)["/healthz", "GET", "200"] == 1


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def answered(metrics):
    """Run an ASGI application under `RequestMetrics`; gives what was counted."""

    async def answered(app, **scope):
        wrapped = RequestMetrics(app, metrics=metrics, templates=lambda: ["/a/{b}"])
        sent = []

        async def send(message):
            sent.append(message["type"])

        try:
            await wrapped({"type": "http", "method": "GET", "path": "/a/1", **scope}, None, send)
        finally:
            samples = [s for f in metrics.collect() if f.name == "cubegate_http_requests" for s in f.samples]
            sent.append({(*s.labels.values(),): s.value for s in samples})
        return sent

    return answered


async def test_an_answer_in_parts_counts_with_its_last_one(answered, metrics):
    seen = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for more in (True, True, False):
            seen.append(sum(value[0] for value in counts()))
            await send({"type": "http.response.body", "body": b"x", "more_body": more})
            seen.append(sum(value[0] for value in counts()))

    def counts():
        return [count for count, _ in metrics.requests._series.values()]

    *_, counted = await answered(app)
    assert seen == [0, 0, 0, 0, 0, 1]
    assert counted == {("/a/{b}", "GET", "200"): 1}


async def test_a_route_may_tell_its_template(answered):
    async def app(scope, receive, send):
        scope[ROUTE] = "/told/{it}"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x"})

    assert (await answered(app))[-1] == {("/told/{it}", "GET", "200"): 1}


async def test_an_application_that_answers_nothing_counts_as_aborted(answered):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    assert (await answered(app))[-1] == {("/a/{b}", "GET", ABORTED): 1}


async def test_a_client_that_leaves_counts_as_aborted(answered, metrics):
    async def app(scope, receive, send):
        await asyncio.sleep(3600)

    task = asyncio.create_task(answered(app))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ((count, _),) = metrics.requests._series.values()
    assert list(metrics.requests._series) == [("/a/{b}", "GET", ABORTED)]
    assert count[0] == 1


async def test_other_protocols_pass_unseen(answered):
    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"

    assert await answered(app, type="lifespan") == [{}]


async def test_watched_numbers_are_kept_fresh_for_other_workers(metrics, monkeypatch):
    monkeypatch.setattr("cubegate.api.metrics.REFRESH_SECONDS", 0.001)
    taken, opened = asyncio.Event(), [0]

    def read():
        taken.set()
        return opened[0]

    metrics.watch(OPEN_CUBES, read)
    shown = metrics.numbers(OPEN_CUBES)
    async with refreshed(metrics):
        for opened[0] in (3, 5):
            taken.clear()
            await asyncio.wait_for(taken.wait(), 60)
            assert shown[0] == opened[0]
    opened[0] = 7
    await asyncio.sleep(0.01)
    assert shown[0] == 5


async def test_the_numbers_given_to_a_server_are_the_ones_it_shows():
    metrics = Metrics()
    app = create_app(Settings(), {}, metrics=metrics)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client,
    ):
        await client.get("/healthz")
    assert 'cubegate_http_requests_total{method="GET",route="/healthz",status="200"} 1.0' in (
        metrics.exposition("")[0].decode()
    )
