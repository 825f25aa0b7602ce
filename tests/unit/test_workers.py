"""Several workers, started as users start them: whichever answers tells the metrics of all."""

import os
import signal
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from tests.unit.serving_process import PATIENCE, running, until

from cubegate.metrics.shared_slots import _read
from cubegate.metrics.slots import SeriesKey

HEALTH = SeriesKey("cubegate_http_requests_total", ("/healthz", "GET", "200"))
CHUNKS = SeriesKey("cubegate_http_requests_total", ("/datasets/{dataset_id}/zarr/{key}", "GET", "200"))
CHUNKS_SORTED = ("GET", "/datasets/{dataset_id}/zarr/{key}", "200")
SCRAPES = SeriesKey("cubegate_http_requests_total", ("/metrics", "GET", "200"))


@pytest.fixture(scope="module")
def configuration(tmp_path_factory, make_stack, write_configuration):
    root = tmp_path_factory.mktemp("workers")
    make_stack(root / "stack")
    return write_configuration(root, stack="source: {kind: kerchunk, href: ../stack/stack.json}")


def fetch(url):
    # a connection of its own each time, so that any worker may take it
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - our own server
        assert response.status == 200
        return response.read()


def by_worker(folder, key):
    """What each worker has counted of one series, by its process number, from the files below `folder`."""
    (directory,) = folder.glob("cubegate-metrics-*")
    readings = {values: _read(values.with_suffix(".names"), values) for values in directory.glob("*.values")}
    return {
        int(values.name.partition("-")[0]): reading.series.get(key, (0,))[0]
        for values, reading in readings.items()
    }


def scrape(server):
    """The samples that one worker tells, by name and label values in the order of label names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(fetch(f"{server.url}/metrics").decode())
        for sample in family.samples
    }


def from_both_workers(folder, key, work):
    """Run `work` at least 40 times, several at once, until both workers have done some; gives the results."""
    results = []
    with ThreadPoolExecutor(8) as pool:
        while len(results) < 40 or sum(count > 0 for count in by_worker(folder, key).values()) < 2:
            assert len(results) < 5000
            results += pool.map(lambda _: work(), range(20))
    return results


def test_whichever_worker_is_asked_tells_the_requests_of_all(configuration, tmp_path):
    with running(configuration, workers=2, TMPDIR=str(tmp_path)) as server:
        made = len(from_both_workers(tmp_path, HEALTH, lambda: fetch(f"{server.url}/healthz")))
        chunks = from_both_workers(
            tmp_path, CHUNKS, lambda: fetch(f"{server.url}/datasets/stack/zarr/displacement/0.0.0")
        )
        scrape(server)
        before = scrape(server)["cubegate_http_requests_total", "GET", "/metrics", "200"]
        scrapes = from_both_workers(tmp_path, SCRAPES, lambda: scrape(server))
        for found in scrapes:
            assert found[("cubegate_workers",)] == 2
            assert found["cubegate_http_requests_total", "GET", "/healthz", "200"] == made
            assert found["cubegate_http_request_duration_seconds_count", "GET", "/healthz"] == made
            assert found["cubegate_http_requests_total", *CHUNKS_SORTED] == len(chunks)
        # nobody asks for chunks meanwhile: both workers tell the same
        for name in ("hits_total", "misses_total", "read_bytes_total", "written_bytes_total"):
            (told,) = {found[f"cubegate_cache_{name}", "chunk", "memory"] for found in scrapes}
            assert told > 0
        after = scrape(server)["cubegate_http_requests_total", "GET", "/metrics", "200"]
        assert after == before + 1 + len(scrapes)

        # a killed worker leaves its counts, and another takes its place
        killed, _ = workers = by_worker(tmp_path, HEALTH)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(by_worker(tmp_path, HEALTH)) == 3 and scrape(server)[("cubegate_workers",)] == 2)
        assert workers[killed] > 0
        for _ in range(10):
            found = scrape(server)
            assert found["cubegate_http_requests_total", "GET", "/healthz", "200"] == made
        server.terminate()
        server.wait()
    assert list(tmp_path.glob("cubegate-metrics-*")) == []
