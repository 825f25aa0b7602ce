"""The event loop of a busy server stays free: what takes long is done in threads."""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import deflate
import httpx
import numpy as np
import pytest
import xarray as xr

from cubegate.query import filtering, position
from cubegate.store import columns, decoder
from cubegate_plugins import timeseries

DATES = 40
PATIENCE = 60
MANY_URL = "/datasets/stack/timeseries?f=csv&variables=v"
CSV = {"Content-Type": "text/csv"}
MANY = "\n".join(["x,y", *(f"{400_000 + 30 * n},{3_900_000 - 30 * n}" for n in range(96))])
POINT = "/datasets/stack/timeseries?x=400060&y=3899940&f=csv&variables=v"
BOX = "/datasets/stack/subset?bbox=399000,3890000,410000,3910000&bbox-crs=EPSG:32611&f=netcdf&variables=v"
CHUNK_KEY = "/datasets/stack/zarr/v/3.2.1"


def test_the_server_answers_while_chunks_are_decoded(server, monkeypatch):
    """As many as there are threads for it are held in the middle of their decoding."""
    held, go_on = threading.Event(), threading.Event()

    def inflate(data, nbytes):
        held.set()
        go_on.wait(PATIENCE)
        return inflated(data, nbytes)

    inflated = deflate.zlib_decompress
    monkeypatch.setattr(decoder.deflate, "zlib_decompress", inflate)
    server.open()
    with ThreadPoolExecutor(3) as others:
        waiting = [
            others.submit(server.http.get, path)
            for path in (BOX, POINT, CHUNK_KEY.replace("zarr", "zarr-plain"))
        ]
        assert held.wait(PATIENCE)
        for _ in range(20):
            assert server.http.get("/healthz").status_code == 200
            assert server.http.get(CHUNK_KEY).status_code == 200
        assert not any(one.done() for one in waiting)
        go_on.set()
        assert [one.result().status_code for one in waiting] == [200] * 3


@pytest.fixture
def lateness(app):
    """How late the server's loop wakes a sleeper, in seconds, sampled while a client asks for it."""
    late = []

    async def sample(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            late.append(time.perf_counter() - before - 0.002)

    app.router.add_api_route("/lateness", sample, methods=["GET"])
    return late


def test_nothing_is_decoded_cut_or_written_in_the_event_loop(
    server, values, series, lateness, *, monkeypatch, capsys
):
    threads = {}

    def watched(name, function, condition=lambda *_: True):
        def call(*given, **named):
            if condition(*given):
                threads.setdefault(name, set()).add(threading.current_thread().name)
            return function(*given, **named)

        return call

    monkeypatch.setattr(decoder.deflate, "zlib_decompress", watched("inflate", deflate.zlib_decompress))
    monkeypatch.setattr(decoder.Decoder, "open", watched("open", decoder.Decoder.open))
    monkeypatch.setattr(decoder.Decoder, "decode", watched("decode", decoder.Decoder.decode))
    monkeypatch.setattr(timeseries, "read_points", watched("read points", timeseries.read_points))
    monkeypatch.setattr(
        position, "_pixel", watched("find points", position._pixel, lambda _, points, *__: points.many)
    )
    monkeypatch.setattr(filtering, "select_cube", watched("find box", filtering.select_cube))
    monkeypatch.setattr(columns, "_cut", watched("cut", columns._cut))
    for name in ("netcdf", "csv", "json"):
        written = server.app.state.services.formats[name]
        monkeypatch.setattr(type(written), "write", watched(f"write {name}", type(written).write))
    server.open()
    paths = [BOX, BOX.replace("netcdf", "csv"), POINT.replace("csv", "json"), CHUNK_KEY, *[POINT] * 3]
    paths += [POINT.replace("400060", str(400_000 + 480 * n)) for n in range(1, 6)]
    paths += [f"/datasets/stack/{tree}/v/{n}.0.0" for n in range(DATES) for tree in ("zarr", "zarr-plain")]
    with ThreadPoolExecutor(8) as others, httpx.Client(base_url=server.url, timeout=PATIENCE) as sampler:
        sampling = ThreadPoolExecutor(1).submit(sampler.get, "/lateness?seconds=3")
        tables = [others.submit(server.http.post, MANY_URL, content=MANY, headers=CSV) for _ in range(4)]
        answers = list(others.map(server.http.get, paths * 2))
        answers += [table.result() for table in tables]
        assert sampling.result().status_code == 200
    assert {answer.status_code for answer in answers} == {200}
    with xr.open_dataset(answers[0].content, engine="h5netcdf") as box:
        assert np.array_equal(box.v.values, values)
    assert np.array_equal(series(answers[4]), values[:, 2, 2])
    assert set(threads) == {
        "inflate", "open", "decode", "cut", "write netcdf", "write csv", "write json",
        "read points", "find points", "find box",
    }  # fmt: skip
    # threads of the pools are named so; the server's loop and the reader's are in threads of their own
    pools = ("asyncio_", "uvloop_", "AnyIO worker thread")
    assert {name for where in threads.values() for name in where if not name.startswith(pools)} == set()
    late = np.quantile(lateness, [0.5, 0.95, 0.99, 1]) * 1000
    with capsys.disabled():
        sys.stdout.write(
            f"\nthe loop was late by {late.round(1)} ms (50, 95, 99, 100 %) of {len(lateness)} times\n"
        )
