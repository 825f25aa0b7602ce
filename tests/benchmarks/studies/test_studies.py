"""Samples are taken and shown right, and what a study changes of the product is there to be changed."""

import socket

import pytest
from redis import Redis
from tests.benchmarks.queries import BOXES

from cubegate import app
from cubegate.cache.memory import MemoryCache
from cubegate.catalog import opening
from cubegate.chunks import connections
from cubegate.store import columns, reader

from .redis_servers import proxy, redis_server
from .replicas import AnotherBox
from .samples import Samples, in_turn, ratio, shown
from .serve import change


def test_every_case_is_first_once():
    called = []
    in_turn({name: lambda name=name: called.append(name) for name in "abc"}, 4)
    assert "".join(called) == "abcbcacababc"


def test_samples_are_in_milliseconds():
    samples = Samples()
    for wall, cpu in ((0.001, 0.01), (0.003, 0.03), (0.008, 0.02)):
        samples.add(wall, cpu)
    assert (samples.clock, samples.fastest, samples.processor) == (3, 1, 20)
    assert samples.both == "3 / 1"


@pytest.mark.parametrize(("value", "expected"), [(0.123, "0.12"), (9.99, "9.99"), (12.3, "12")])
def test_ratio(value, expected):
    assert ratio(value * 7, 7) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.01234, "0.0123"), (99.95, "100"), (1234.5, "1,234")])
def test_shown(value, expected):
    assert shown(value) == expected


def test_another_box_has_other_bounds_and_the_same_pixels():
    box = BOXES["b2"]
    another = AnotherBox(box.rows, box.columns, box.date, millimetres=3)
    assert another.bounds == (box.bounds[0] + 0.003, *box.bounds[1:])


async def test_a_change_reaches_what_it_names(monkeypatch):
    for module, names in {
        app: ("open_upstreams", "RedisCache"),
        opening: ("Coalesced", "ColumnCache"),
        connections: ("_IDLE",),
        columns: ("BLOCK", "BLOCK_NBYTES", "WINDOW", "WINDOW_NBYTES"),
        reader: ("BATCH",),
    }.items():
        for name in names:
            # so that it is as before after the test
            monkeypatch.setattr(module, name, getattr(module, name))
    change(
        concurrency=7, coalesced={"max_gap": 3, "max_run": 5}, batch=9, idle=0.25, without_columns=True,
        block=(4, 100), window=(8, 200), patience={"pause": 0.5},
    )  # fmt: skip
    assert app.open_upstreams({}, {})._limits.slot("https", "data.example.org")._value == 7
    coalesced = opening.Coalesced(None)
    assert (coalesced._max_gap, coalesced._max_run) == (3, 5)
    assert opening.ColumnCache(MemoryCache(0), "version") is None
    assert (reader.BATCH, connections._IDLE) == (9, 0.25)
    assert (columns.BLOCK, columns.BLOCK_NBYTES, columns.WINDOW, columns.WINDOW_NBYTES) == (4, 100, 8, 200)
    assert app.RedisCache.keywords == {"pause": 0.5}


@pytest.mark.parametrize(
    ("options", "answer"),
    [((), b"+PONG\r\n"), (("--delay", "1", "--rate", "1e5"), b"+PONG\r\n"), (("--cut",), b"")],
)
def test_the_proxy_passes_answers_on_or_ends_the_connection(tmp_path, options, answer):
    with (
        redis_server(tmp_path) as redis,
        proxy(tmp_path, redis.port, *options) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == answer


def test_redis_answers_by_both_of_its_urls(tmp_path):
    with redis_server(tmp_path) as redis:
        for url in (redis.tcp, redis.unix):
            with Redis.from_url(url) as client:
                assert client.ping()
