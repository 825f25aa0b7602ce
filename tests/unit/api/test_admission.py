"""A process takes on so much and no more, and lets nothing go on for ever."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cubegate.api.admission import Admission, Deadline, QueryLimit, RequestLimit

ANSWER = "/datasets/stack/answer"
CHUNK = "/datasets/stack/zarr/displacement/0.0.0"


async def ask(app, path="/", kind="http"):
    """Call an application; gives the messages that it sent."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    await app({"type": kind, "path": path, "method": "GET", "headers": []}, receive, send)
    return sent


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def held(gate):
    async def application(scope, receive, send):
        await gate.wait()
        await answer(scope, receive, send)

    return application


async def test_what_is_beyond_the_limit_is_503_and_nothing_is_done_for_it():
    gate, admission = asyncio.Event(), Admission(3)
    one, other = (RequestLimit(held(gate), admission=admission) for _ in range(2))
    waiting = [asyncio.ensure_future(ask(app)) for app in (one, one, other)]
    await asyncio.sleep(0)
    for app in (one, other):
        start, body = await ask(app)
        assert start["status"] == 503
        assert (b"retry-after", b"5") in start["headers"]
        assert b"Try again in a few seconds" in body["body"]
    gate.set()
    assert [sent[0]["status"] for sent in await asyncio.gather(*waiting)] == [200] * 3
    assert (await ask(one))[0]["status"] == 200
    assert admission.in_progress == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_who_watches_the_server_is_always_answered(path):
    limited = RequestLimit(answer, admission=Admission(0))
    assert (await ask(limited))[0]["status"] == 503
    assert (await ask(limited, path))[0]["status"] == 200


async def test_an_error_gives_its_place_back():
    async def fail(scope, receive, send):
        raise KeyError("x")

    admission = Admission(1)
    for _ in range(2):
        with pytest.raises(KeyError):
            await ask(RequestLimit(fail, admission=admission))
    assert admission.in_progress == 0


def test_both_planes_share_the_limit_and_busy_answers_have_cors(serve):
    with serve(CUBEGATE_LIMITS__REQUESTS="2") as server, ThreadPoolExecutor(2) as pool:
        server.control.delay = 3600.0
        urls = [f"{server.url}{ANSWER}?tens={n}" for n in (801, 802)]
        with httpx.Client(timeout=60) as patient:
            waiting = [pool.submit(_left_after, patient, url) for url in urls]
            while len(server.app.state.services.spool._building) < 2:
                time.sleep(0.01)
            for path in (ANSWER, CHUNK, "/datasets/stack/zarr-plain/displacement/0.0.0"):
                busy = server.http.get(path)
                assert busy.status_code == 503
                assert busy.headers["content-type"] == "application/problem+json"
                assert busy.json()["title"] == "The server is busy"
                assert busy.headers["access-control-allow-origin"] == "*"
                assert busy.headers["retry-after"]
            assert server.http.get("/healthz").status_code == 200
            for each in waiting:
                each.result()
        server.control.delay = 0.0
        while server.http.get(CHUNK).status_code == 503:
            time.sleep(0.01)
        assert server.http.get(CHUNK).status_code == 200


def _left_after(client, url):
    with pytest.raises(httpx.ReadTimeout):
        client.get(url, timeout=2)


def test_queries_beyond_the_limit_wait_for_their_turn(serve):
    with serve(CUBEGATE_LIMITS__QUERIES="2") as server, ThreadPoolExecutor(6) as pool:
        server.control.delay = 0.2
        running = []

        def ask(number):
            running.append(server.control.produced)
            return server.http.get(ANSWER, params={"tens": 700 + number})

        answers = list(pool.map(ask, range(6)))
        assert [len(answer.content) for answer in answers] == [10 * (700 + n) for n in range(6)]
        assert server.control.produced == 6


async def test_at_most_so_many_queries_run_at_once():
    limit, running, most = QueryLimit(3, 10), 0, 0

    async def work():
        nonlocal running, most
        async with limit.slot():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*[work() for _ in range(20)])
    assert most == 3


class Asking:
    """Queries that hold their slots until they are told to end."""

    def __init__(self, limit):
        self.limit, self.running, self._tasks = limit, [], {}

    async def ask(self, name, nbytes):
        end = asyncio.Event()

        async def work():
            async with self.limit.slot(nbytes) as slot:
                self.running.append(name)
                self.slot = slot
                await end.wait()

        self._tasks[name] = asyncio.ensure_future(work()), end
        await self.settle()

    async def end(self, name):
        self._tasks[name][1].set()
        await self.settle()
        self.running.remove(name)

    async def leave(self, name):
        self._tasks[name][0].cancel()
        await self.settle()

    async def settle(self):
        for _ in range(5):
            await asyncio.sleep(0)


async def test_queries_wait_for_memory_in_the_order_of_their_coming():
    asking = Asking(QueryLimit(10, 100))
    for name, nbytes in (("a", 60), ("b", 40), ("c", 50), ("d", 1)):
        await asking.ask(name, nbytes)
    assert asking.running == ["a", "b"]
    await asking.end("b")
    assert asking.running == ["a"]
    await asking.end("a")
    assert asking.running == ["c", "d"]


async def test_a_query_larger_than_the_memory_runs_alone():
    asking = Asking(QueryLimit(10, 100))
    for name, nbytes in (("small", 1), ("huge", 10**12), ("next", 1)):
        await asking.ask(name, nbytes)
    assert asking.running == ["small"]
    await asking.end("small")
    assert asking.running == ["huge"]
    await asking.end("huge")
    assert asking.running == ["next"]


async def test_who_leaves_while_waiting_takes_nothing():
    asking = Asking(QueryLimit(1, 100))
    for name in "abcd":
        await asking.ask(name, 100)
    await asking.leave("b")
    assert asking.running == ["a"]
    # the turn of c has come and c has not noticed yet
    asking._tasks["a"][0].cancel()
    await asyncio.sleep(0)
    asking._tasks["c"][0].cancel()
    await asking.settle()
    assert asking.running[-1] == "d"
    await asking.end("d")
    await asking.ask("e", 100)
    assert asking.running[-1] == "e"


async def test_those_behind_one_who_leaves_need_not_wait_for_it():
    asking = Asking(QueryLimit(10, 100))
    for name, nbytes in (("a", 60), ("large", 100), ("b", 40)):
        await asking.ask(name, nbytes)
    assert asking.running == ["a"]
    await asking.leave("large")
    assert asking.running == ["a", "b"]


async def test_a_place_may_be_left_before_the_memory_is():
    asking = Asking(QueryLimit(1, 100))
    await asking.ask("a", 60)
    for _ in range(2):
        asking.slot.leave_place()
    await asking.ask("b", 40)
    await asking.ask("c", 1)
    assert asking.running == ["a", "b"]
    await asking.end("a")
    assert asking.running == ["b"]
    await asking.end("b")
    assert asking.running == ["c"]


async def test_before_the_first_byte_a_deadline_is_a_504(caplog):
    start, body = await ask(Deadline(held(asyncio.Event()), seconds=0.05), "/a\nb")
    assert start["status"] == 504
    assert b"did not answer in time" in body["body"]
    assert (b"retry-after", b"5") in start["headers"]
    assert "The answer to GET '/a\\nb' was not there within 0.05 s." in caplog.text


async def test_a_stall_after_the_first_byte_is_no_answer():
    async def stall(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await ask(Deadline(stall, seconds=0.05))


async def test_a_client_that_takes_nothing_is_a_stall():
    ended = asyncio.Event()

    async def write(scope, receive, send):
        try:
            await answer(scope, receive, send)
        finally:
            ended.set()

    async def send(_):
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await Deadline(write, seconds=0.05)({"type": "http"}, None, send)
    assert ended.is_set()


async def test_a_long_answer_that_goes_on_is_no_stall():
    async def slow(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10):
            await asyncio.sleep(0.02)
            await send({"type": "http.response.body", "body": b"a", "more_body": True})

    assert len(await ask(Deadline(slow, seconds=0.1))) == 11


async def test_a_timeout_of_its_own_is_left_to_the_application():
    async def fail(scope, receive, send):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await ask(Deadline(fail, seconds=60))


@pytest.mark.parametrize("layer", [lambda app: Deadline(app, seconds=0.01),
                                   lambda app: RequestLimit(app, admission=Admission(0))])  # fmt: skip
async def test_the_lifespan_passes(layer):
    called = []

    async def live(scope, receive, send):
        await asyncio.sleep(0.05)
        called.append(scope["type"])

    await ask(layer(live), kind="lifespan")
    assert called == ["lifespan"]
