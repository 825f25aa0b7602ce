"""What is counted through the handles is what Prometheus' own parsers read."""

import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cubegate import errors
from cubegate.chunks.retry import ShortBody
from cubegate.metrics.families import BOUNDS, CACHE_HELD, FAMILIES, OPEN_CUBES
from cubegate.metrics.metrics import Metrics
from cubegate.metrics.shared_slots import SharedSlots

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def metrics():
    return Metrics()


def samples(metrics, accept=""):
    """All samples by name and label values, the labels in the order of their family."""
    body, media_type = metrics.exposition(accept)
    parse = parse_openmetrics if media_type.startswith("application/openmetrics-text") else parse_text
    order = {family.name.removesuffix("_total"): (*family.labels, "le") for family in FAMILIES}
    return {
        (
            sample.name,
            *(sample.labels[label] for label in order[family.name] if label in sample.labels),
        ): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/html", "text/plain"),
        (OPENMETRICS, "application/openmetrics-text"),
        (f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "application/openmetrics-text"),
    ],
)
def test_every_family_is_there_from_the_start_with_its_type(metrics, accept, media_type):
    body, said = metrics.exposition(accept)
    assert said.split(";")[0] == media_type
    for family in FAMILIES:
        name = family.name
        if family.kind == "counter" and media_type != "text/plain":
            name = name.removesuffix("_total")
        assert f"# TYPE {name} {family.kind}\n" in body.decode()
        assert f"# HELP {name} {family.meaning}\n" in body.decode()


def test_names_are_as_prometheus_wants_them():
    for family in FAMILIES:
        assert family.name.startswith("cubegate_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.name.endswith("_seconds") == (family.kind == "histogram")
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_the_cache_counts(metrics, accept):
    for tier, kind, factor in (("memory", "chunk", 1), ("memory", "column", 10), ("redis", "chunk", 100)):
        counts = metrics.cache(tier, kind)
        counts.hit(2 * factor, 30 * factor)
        counts.missed(3 * factor)
        counts.written(50 * factor)
    found = samples(metrics, accept)
    for tier, kind, factor in (("memory", "chunk", 1), ("memory", "column", 10), ("redis", "chunk", 100)):
        assert found["cubegate_cache_hits_total", tier, kind] == 2 * factor
        assert found["cubegate_cache_misses_total", tier, kind] == 3 * factor
        assert found["cubegate_cache_read_bytes_total", tier, kind] == 30 * factor
        assert found["cubegate_cache_written_bytes_total", tier, kind] == 50 * factor


def test_upstream_reads_errors_and_what_is_in_flight(metrics):
    counts = metrics.upstream("s3://bucket")
    started = [counts.begin() for _ in range(5)]
    assert samples(metrics)["cubegate_upstream_requests_in_flight", "s3://bucket"] == 5
    counts.succeed(started[0], 1000)
    counts.fail(started[1], errors.UpstreamTimeout("late"))
    counts.fail(started[2], errors.UpstreamTimeout("late"))
    counts.fail(started[3], ShortBody("cut"))
    for _ in range(4):
        counts.end()
    found = samples(metrics)
    assert found["cubegate_upstream_requests_total", "s3://bucket"] == 5
    assert found["cubegate_upstream_requests_in_flight", "s3://bucket"] == 1
    assert found["cubegate_upstream_read_bytes_total", "s3://bucket"] == 1000
    assert found["cubegate_upstream_errors_total", "s3://bucket", "UpstreamTimeout"] == 2
    # a private subclass counts as the class that the docs give
    assert found["cubegate_upstream_errors_total", "s3://bucket", "UpstreamMismatch"] == 1
    assert found["cubegate_upstream_request_duration_seconds_count", "s3://bucket"] == 4


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_durations_fall_into_the_buckets_whose_bound_they_do_not_exceed(metrics, accept):
    seconds = [0.0005, 0.001, 0.0011, 0.3, 59.0, 60.0, 61.0, 1e6]
    for one in seconds:
        metrics.requests.answered("/healthz", "GET", 200, one)
    found = samples(metrics, accept)
    name = "cubegate_http_request_duration_seconds"
    for bound in BOUNDS:
        expected = sum(one <= bound for one in seconds)
        assert found[f"{name}_bucket", "/healthz", "GET", str(bound)] == expected
    assert found[f"{name}_bucket", "/healthz", "GET", "+Inf"] == len(seconds)
    assert found[f"{name}_count", "/healthz", "GET"] == len(seconds)
    assert found[f"{name}_sum", "/healthz", "GET"] == pytest.approx(sum(seconds))


def test_requests_count_by_route_method_and_status(metrics):
    for status, times in ((200, 3), (404, 2), ("aborted", 1)):
        for _ in range(times):
            metrics.requests.answered("/a/{b}", "GET", status, 0.1)
    metrics.requests.answered("/a/{b}", "HEAD", 200, 0.1)
    found = samples(metrics)
    counted = {
        tuple(labels): value
        for (name, *labels), value in found.items()
        if name == "cubegate_http_requests_total"
    }
    assert counted == {
        ("/a/{b}", "GET", "200"): 3,
        ("/a/{b}", "GET", "404"): 2,
        ("/a/{b}", "GET", "aborted"): 1,
        ("/a/{b}", "HEAD", "200"): 1,
    }
    assert found["cubegate_http_request_duration_seconds_count", "/a/{b}", "GET"] == 6


def test_methods_that_clients_make_up_make_no_series(metrics):
    for number in range(100):
        metrics.requests.answered("unmatched", f"METHOD{number}", 405, 0.1)
    body, _ = metrics.exposition("")
    assert b"METHOD" not in body
    assert samples(metrics)["cubegate_http_requests_total", "unmatched", "other", "405"] == 100


def test_watched_numbers_are_taken_when_they_are_asked_for(metrics):
    sizes = [1]
    metrics.watch(OPEN_CUBES, lambda: len(sizes))
    metrics.watch(CACHE_HELD, lambda: 7 * len(sizes), "memory")
    for expected in (1, 2, 3):
        found = samples(metrics)
        assert found[("cubegate_open_cubes",)] == expected
        assert found["cubegate_cache_held_bytes", "memory"] == 7 * expected
        sizes.append(1)


def test_two_servers_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.cache("memory", "chunk").missed(1)
    other.cache("memory", "chunk").missed(5)
    assert samples(one)["cubegate_cache_misses_total", "memory", "chunk"] == 1
    assert samples(other)["cubegate_cache_misses_total", "memory", "chunk"] == 5


def test_workers_give_the_same_sums_whichever_is_asked(tmp_path):
    workers = [Metrics(SharedSlots(tmp_path)) for _ in range(3)]
    for number, worker in enumerate(workers, 1):
        worker.watch(OPEN_CUBES, lambda number=number: number)
        worker.cache("memory", "chunk").hit(number, 10 * number)
        worker.requests.answered("/healthz", "GET", 200, 0.02 * number)
        worker.upstream("s3://bucket").begin()
    workers[1].upstream("s3://other").begin()
    for worker in workers:
        worker.refresh()
    for worker in workers:
        found = samples(worker)
        assert found[("cubegate_workers",)] == 3
        assert found[("cubegate_open_cubes",)] == 6
        assert found["cubegate_cache_hits_total", "memory", "chunk"] == 6
        assert found["cubegate_cache_read_bytes_total", "memory", "chunk"] == 60
        assert found["cubegate_http_requests_total", "/healthz", "GET", "200"] == 3
        assert found["cubegate_http_request_duration_seconds_bucket", "/healthz", "GET", "0.05"] == 2
        assert found["cubegate_http_request_duration_seconds_count", "/healthz", "GET"] == 3
        assert found["cubegate_http_request_duration_seconds_sum", "/healthz", "GET"] == pytest.approx(0.12)
        assert found["cubegate_upstream_requests_in_flight", "s3://bucket"] == 3
        assert found["cubegate_upstream_requests_in_flight", "s3://other"] == 1
    for worker in workers:
        worker.close()


def test_counts_of_an_ended_worker_stay_and_its_gauges_go(tmp_path):
    one, other = Metrics(SharedSlots(tmp_path)), Metrics(SharedSlots(tmp_path))
    one.upstream("s3://bucket").begin()
    one.requests.answered("/healthz", "GET", 200, 0.1)
    one.close()
    found = samples(other)
    assert found[("cubegate_workers",)] == 1
    assert found["cubegate_http_requests_total", "/healthz", "GET", "200"] == 1
    assert found["cubegate_upstream_requests_total", "s3://bucket"] == 1
    assert ("cubegate_upstream_requests_in_flight", "s3://bucket") not in found
    other.close()


def test_metrics_can_be_asked_for_while_others_count(metrics):
    stop = threading.Event()

    def count():
        number = 0
        while not stop.is_set():
            metrics.requests.answered(f"/{number % 40}", "GET", 200, 0.1)
            number += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = 0
        for _ in range(5):
            found = samples(metrics)
            total = sum(value for key, value in found.items() if key[0] == "cubegate_http_requests_total")
            assert total >= before
            before = total
    finally:
        stop.set()
        thread.join()
