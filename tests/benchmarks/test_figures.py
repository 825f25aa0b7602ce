"""Medians, ratios and bars are computed right, and a wrong value is seen."""

import copy

import numpy as np
import pytest

from .bars import BARS, LIMITS, reader_median, shown_ratio
from .gateway_client import read_many, read_series
from .report import BEGIN, END, as_markdown, write_markdown
from .rounds import Samples
from .subject import Measurements, wrong_values

TIMES = {
    "a": {"open": [700.0], "p1": [4000.0, 3000.0, 5000.0], "p2": [3000.0], "b2": [16000.0], "scattered": [80.0]},
    "b": {"open": [200.0], "p1": [800.0], "b2": [1400.0]},
    "d": {"p1": [190.0, 210.0, 200.0], "p2": [10.0], "p4_redis": [10.1], "b2": [800.0], "scattered": [200.0]},
    "e": {"open_warm": [300.0], "p1_warm": [701.0]},
    "f": {"p1": [134.0]},
}  # fmt: skip
MET = {
    ("p1, cold", "(a)"): True,  # 200 of 4000
    ("p1, cold", "(b)"): True,  # 200 of 800
    ("p1, cold", "the floor"): True,  # 200 of 134
    ("p2, from memory", "(a)"): True,  # 10 of 3000
    ("p2, from Redis", "(a)"): False,
    ("b2, cold, NetCDF", "(a)"): True,  # 800 of 16000
    ("b2, cold, NetCDF", "(b)"): False,
    ("100 scattered points, cold, one POST", "(a) looping"): True,  # 200 of 80 * 100 / 2
    ("xr.open_zarr and p1, warm", "(b)"): False,  # 300 + 701 of 200 + 800
    ("one cached chunk by HTTP, 16 connections", "nginx"): True,  # 500 of 2000
    ("one cached chunk by HTTP, 16 connections", "xpublish-zarr"): None,
}


@pytest.fixture
def document():
    readers = {reader: {"milliseconds": copy.deepcopy(times)} for reader, times in TIMES.items()}
    readers["a"]["scattered"] = 2
    readers["d"]["peak_mb"] = [400.0, 500.0, 450.0]
    return {
        "date": "2026-01-01", "mode": "quick", "rounds": 3, "delay_ms": 30, "scattered": 100, "generator": "wrk",
        "machine": {"cpu": "one", "cores": 2, "memory_gb": 4, "python": "3.11"}, "versions": {"zarr": "3"},
        "stack": {"dates": 209, "height": 1024, "width": 1280}, "compared": 7, "wrong": [], "failed": [],
        "readers": readers, "rates": {"nginx": [1900, 2000, 2100], "cubegate": [500]},
        "missing": {"xpublish-zarr": "not installed here"},
        "scale": {"frames_start_s": [1.9, 2.5, 1.8], "frames_mb": [300.0], "convert_s": [89.9]},
    }  # fmt: skip


def test_bars_are_judged_by_the_ratio_of_medians(document):
    assert {(bar.query, bar.against.name): bar.is_met(document) for bar in BARS} == MET


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.query} {bar.required}")
def test_a_bar_turns_where_its_limit_is(bar, document):
    worse = 0.999 if bar.at_least else 1.001
    term, against = bar.measured, bar.against
    if against.rate:
        document["rates"][against.rate] = [1000.0]
        document["rates"][term.rate] = [1000.0 * bar.limit]
    else:
        fraction = bar.limit * against.value(document) / term.value(document)
        for query in term.queries:
            times = document["readers"][term.reader]["milliseconds"]
            times[query] = [time * fraction for time in times[query]]
    assert bar.ratio(document) == pytest.approx(bar.limit)
    samples = (
        document["rates"] if term.rate else document["readers"][term.reader]["milliseconds"]
    )  # fmt: skip
    for name in [term.rate] if term.rate else term.queries:
        samples[name] = [value * worse for value in samples[name]]
    assert bar.is_met(document) is False
    for name in [term.rate] if term.rate else term.queries:
        samples[name] = [value / worse**2 for value in samples[name]]
    assert bar.is_met(document) is True


def test_limits_of_scale_are_judged_by_the_median(document):
    assert [limit.is_met(document) for limit in LIMITS] == [True, False, True, None, None]


def test_fewer_scattered_points_count_for_all(document):
    assert reader_median(document, "a", "scattered") == 80 * 50
    assert reader_median(document, "d", "scattered") == 200
    assert reader_median(document, "c", "p1") is None


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(1 / 20, "1/20"), (0.25, "1/4"), (1.5, "1.5 x"), (6, "6 x"), (1, "1 x"), (0.0381, "1/26.2")],
)
def test_ratios_are_shown_as_people_say_them(ratio, shown):
    assert shown_ratio(ratio) == shown


def test_the_tables_go_between_the_marks(document, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nof yesterday\n{END}\nafter\n", "utf-8")
    write_markdown(page, document)
    write_markdown(page, document)
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "of yesterday" not in text
    assert text.count("| p1, cold | <= 1/20 of (a) | 1/20 | yes |") == 1
    assert "| b2, cold, NetCDF | <= 1/2 of (b) | 1/1.75 | no |" in text
    assert "| 1,500 frames, until the server is ready | < 2 s | 1.9 s | yes |" in text
    assert "not installed here" in text
    assert "~4,000" in text
    assert "| 450 |" in text


def test_a_page_without_marks_is_refused(document, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing", "utf-8")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_markdown(page, document)


def test_failures_and_wrong_values_are_told(document):
    document["failed"], document["wrong"] = ["(c): something\nlast line"], ["(d) b1"]
    assert "Failed: last line" in as_markdown(document)
    assert "Wrong values: (d) b1" in as_markdown(document)


def test_wrong_values_are_seen(tmp_path):
    right = {"p1": np.arange(3.0), "p2": np.arange(3.0), "p3": np.arange(3.0), "scattered": np.ones((5, 3))}
    np.savez(tmp_path / "answers.npz", **right)
    got = {
        "p1": np.arange(3.0),
        "p2": np.array([0.0, 1.0, 2.0000001]),
        "p3": np.arange(2.0),
        "scattered": np.ones((2, 3)),
    }
    assert wrong_values(got, tmp_path / "answers.npz") == ["p2", "p3"]
    assert wrong_values({"p1": np.array([0, 1, np.nan])}, tmp_path / "answers.npz") == ["p1"]


def test_samples_are_gathered_by_reader_and_query():
    measured = Measurements()
    for _ in range(2):
        with measured.timed("p1"):
            pass
    samples = Samples()
    for wrong in ([], ["p1"]):
        report = {"milliseconds": measured.milliseconds, "wrong": wrong, "compared": 5}
        samples.add("d", report, {"p1": "p1_first"})
    assert len(samples.milliseconds["d"]["p1_first"]) == 4
    assert samples.wrong == ["(d) p1"]
    assert samples.compared == 10


def test_the_csv_of_a_series_is_read():
    content = (
        b"# title: a\n# crs: b\ntime,displacement\n2020-01-01T00:00:00Z,0.5\n2020-01-13T00:00:00Z,-0.25\n"
    )
    np.testing.assert_array_equal(read_series(content), np.array([0.5, -0.25], np.float32))


def test_the_csv_of_many_points_is_read_by_their_ids():
    rows = b"1,2020-01-01,3\n0,2020-01-01,1\n1,2020-01-13,4\n0,2020-01-13,2\n"
    content = b"# title: a\nid,time,displacement\n" + rows
    np.testing.assert_array_equal(read_many(content, 2), [[1, 2], [3, 4]])
