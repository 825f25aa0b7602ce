"""A short part of `make faults`: whatever an upstream does, the answer is right or an error."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from .engine import RIGHT, draw_run, run_batch
from .faults import FAULTS, GOOD, READS
from .redis_server import RedisServer

SEED, RUNS = 1, 360
# what clients say of themselves in this process
pytestmark = pytest.mark.filterwarnings("ignore")

by_fault = defaultdict(list)
for _number in range(RUNS):
    _run = draw_run(SEED, _number)
    by_fault[_run.fault].append(_run)


def defects(outcomes):
    return [f"{outcome.run}: {outcome.kind}: {outcome.said}" for outcome in outcomes if outcome.is_defect]


def test_the_page_names_every_fault_and_read_and_no_other():
    page = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text("utf-8")
    table = page.partition("| fault | what the upstream does |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall("`([^`]+)`", cell)} == set(FAULTS)
    reads = next(line for line in page.splitlines() if line.startswith("| reads |"))
    assert set(re.findall("`([a-z]+)`", reads)) == set(READS)
    assert f"makes {RUNS} of the runs" in page


def test_every_fault_is_drawn():
    assert set(by_fault) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_upstream_that_misbehaves(fault, world, search):
    runs = [run for run in by_fault[fault] if run.read != "granule"]
    world.upstream.astray.clear()
    outcomes = list(run_batch(runs, world, search))
    assert defects(outcomes) == []
    assert search.hits == []
    assert [text for text, s3 in world.upstream.astray if not s3] == []
    if fault == GOOD:
        assert {outcome.kind for outcome in outcomes} == {RIGHT}
    else:
        assert any(outcome.injected for outcome in outcomes)


def test_a_granule_that_cannot_be_asked_what_fill_means(world, search):
    runs = [run for runs in by_fault.values() for run in runs if run.read == "granule"]
    assert len(runs) > 20
    assert defects(run_batch(runs[:64], world, search)) == []


def test_redis_holds_no_canary(world, search, tmp_path):
    runs = [draw_run(SEED + 1, number) for number in range(40)]
    runs = [run for run in runs if run.read != "granule"]
    with RedisServer(tmp_path / "redis") as redis:
        outcomes = list(run_batch(runs, world, search, redis=redis))
        assert redis.client.dbsize() > 0
    assert search.searched["Redis"] > 0
    assert defects(outcomes) == []
    assert search.hits == []
