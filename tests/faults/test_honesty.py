"""What `make faults` would miss if it were broken: a gateway that fills, leaks or answers wrongly is caught."""

import base64
import http.client
import io
import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest

from cubegate.api import problems
from cubegate.chunks.http import HTTPObjects
from cubegate.errors import UpstreamError
from cubegate.store.encoded import EncodedStore

from .bars import run_like
from .canaries import CANARY, SECRETS, Search
from .cube import HOLE, VARIABLES, decode_chunk
from .engine import (
    ABORTED,
    BAD_STATUS,
    FILL,
    NO_RETRY_AFTER,
    RAISED,
    REFUSED,
    RIGHT,
    UNREADABLE,
    WRONG,
    Batch,
    draw_run,
    judge_response,
    run_batch,
)
from .faults import FAULTS, GOOD, Plan
from .routes import Asked, Unreadable, Wrong, compare

pytestmark = pytest.mark.filterwarnings("ignore")
ROUTES = ("zarr v2 chunk", "zarr-plain v3 chunk", "timeseries csv", "points json", "subset netcdf",
          "xarray on zarr v3", "zarr-python")  # fmt: skip


def failing(route, **more):
    return run_like(route, **{"fault": "status 503", "source": "json", "number": 3, **more})


@pytest.mark.parametrize("route", ROUTES)
def test_a_gateway_that_serves_fill_for_what_failed_is_caught(route, world, search, monkeypatch):
    read = EncodedStore.read

    async def filling(self, array, chunks, deliver):
        try:
            await read(self, array, chunks, deliver)
        except UpstreamError:
            for position in range(len(chunks)):
                deliver(position, None)

    monkeypatch.setattr(EncodedStore, "read", filling)
    (outcome,) = run_batch([failing(route)], world, search)
    # a box may hold what is missing indeed beside what is not
    assert outcome.kind in (FILL, WRONG), outcome.said
    assert outcome.is_defect


@pytest.mark.parametrize("route", ROUTES)
def test_without_that_the_same_runs_are_errors(route, world, search):
    (outcome,) = run_batch([failing(route)], world, search)
    assert outcome.kind in (REFUSED, RAISED, ABORTED)
    assert not outcome.is_defect


def test_other_bytes_of_the_right_length_are_caught(world, search, monkeypatch):
    get = HTTPObjects.get

    async def shifting(self, reference):
        data = await get(self, reference)
        return data[1:] + data[:1] if reference.offset else data

    monkeypatch.setattr(HTTPObjects, "get", shifting)
    (outcome,) = run_batch([run_like("zarr v2 chunk", number=3, source="json")], world, search)
    assert outcome.kind == UNREADABLE
    assert outcome.is_defect


def test_a_log_line_with_a_token_is_caught(world, search, monkeypatch):
    get = HTTPObjects.get

    async def telling(self, reference):
        try:
            return await get(self, reference)
        except UpstreamError:
            logging.getLogger("somewhere.deep").debug("tried %s", {"token": SECRETS["FAULTS_TOKEN"]})
            raise

    monkeypatch.setattr(HTTPObjects, "get", telling)
    list(run_batch([failing("zarr v2 chunk")], world, search))
    assert any(hit.startswith("log (somewhere.deep)") for hit in search.hits)


def test_a_problem_with_an_upstream_text_is_caught(world, search, monkeypatch):
    told = {**problems.PUBLIC_DETAILS, 503: f"The upstream said: {CANARY}-body"}
    monkeypatch.setattr(problems, "PUBLIC_DETAILS", told)
    list(run_batch([failing("zarr v2 chunk")], world, search))
    assert any(hit.startswith("body (seed 0, run 3") for hit in search.hits)


def test_a_canary_is_found_in_any_dress():
    for text in (
        f"Bearer {CANARY}-token", CANARY.upper(), base64.b64encode(f"user:{CANARY}".encode()),
        base64.b64encode(f"{CANARY}:x".encode()), base64.b64encode(f"u:{CANARY}".encode()),
        CANARY.encode().hex(),
    ):  # fmt: skip
        search = Search()
        assert search.look("here", text)
        assert search.hits
    assert not Search().look("here", "canary, with nothing secret about it")


@pytest.mark.parametrize(
    ("status", "retry_after", "kind"),
    [(503, "5", REFUSED), (503, None, NO_RETRY_AFTER), (500, "5", BAD_STATUS), (404, None, BAD_STATUS)],
)
def test_a_status_is_judged(status, retry_after, kind):
    asked = Asked("zarr/v/0", lambda _: None)
    assert judge_response(asked, status, retry_after, b"")[0] == kind


def test_an_answer_that_cannot_be_read_is_wrong():
    def check(body):
        decode_chunk("displacement", body, plain=False)

    with pytest.raises(Unreadable, match="cannot be read"):
        judge_response(Asked("zarr/displacement/0.0.0", check), 200, None, b"<html>")


def test_fill_is_told_from_other_wrong_values():
    true = np.array([1.0, 2.0])
    for got, fill in (
        ([np.nan, 2], True),
        ([0, 2], True),
        ([-9, 2], True),
        ([3, 2], False),
        ([np.nan, 3], False),
    ):
        with pytest.raises(Wrong) as caught:
            compare("quality", np.array(got, "f8"), true, storage=-9.0)
        assert caught.value.fill == fill
    compare("quality", true, true)


def test_a_seed_gives_the_same_runs(world, search):
    numbers = range(0, 300, 7)
    assert [draw_run(5, number) for number in numbers] == [draw_run(5, number) for number in numbers]
    assert draw_run(5, 0) != draw_run(6, 0)
    # whether a connection ends before or after an answer may be a matter of luck, other faults are not
    runs = [run for run in (draw_run(5, number) for number in range(60)) if run.fault.startswith("status")]
    first, second = (list(run_batch(runs, world, search)) for _ in range(2))
    assert [(one.kind, one.said) for one in first] == [(one.kind, one.said) for one in second]


def test_the_cube_is_what_h5py_reads(cube):
    for name, variable in VARIABLES.items():
        for date, data in enumerate(cube.granules.values()):
            with h5py.File(io.BytesIO(data), "r") as file:
                np.testing.assert_array_equal(file[name][:], cube.stored[name][date])
        values = cube.true(name)
        assert (values == 0).any()
        assert np.isnan(values).any() == (variable.missing is not None)


def test_each_chunk_is_where_it_is_said_to_be(cube):
    for key, (granule, offset, length) in cube.places.items():
        name, _, chunk = key.partition("/")
        if name in VARIABLES:
            place = tuple(map(int, chunk.split(".")))
            got = decode_chunk(name, cube.granules[granule][offset : offset + length], plain=False)
            np.testing.assert_array_equal(got, cube.chunk(name, *place))
    name, *place = HOLE
    assert f"{name}/{'.'.join(map(str, place))}" not in cube.places


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "hang" not in fault and "drip" not in fault])
def test_each_fault_is_on_the_wire(fault, world):
    granule, offset, length = world.cube.places["displacement/2.1.1"]
    right = world.cube.granules[granule][offset : offset + length]
    plan = Plan(1, fault, "chunk", once=True, armed=True)
    world.upstream.plans["wire"] = plan
    answers = [
        _fetch(world.upstream.url, f"/plain/wire/granules/{granule}", offset, length) for _ in range(2)
    ]
    if fault == GOOD:
        assert answers == [(206, right, offset)] * 2
        return
    assert plan.injected == 1
    # what follows the answer is for another reading
    assert (answers[0] == (206, right, offset)) == (fault == "trailing bytes")
    assert answers[1] == (206, right, offset)


def _fetch(url, path, offset, length):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path, headers={"Range": f"bytes={offset}-{offset + length - 1}"})
        response = connection.getresponse()
        extent = response.getheader("Content-Range", "bytes -1-").removeprefix("bytes ").split("-")
        return response.status, response.read(), int(extent[0] or -1)
    except (http.client.HTTPException, ConnectionError) as error:
        return type(error).__name__
    finally:
        connection.close()


def test_a_warm_gateway_needs_no_upstream(world, search):
    run = replace(run_like("timeseries json", number=9, fault="status 503"), warm=True)
    (outcome,) = run_batch([run], world, search)
    assert (outcome.kind, outcome.injected) == (RIGHT, 0)


def test_a_gateway_that_is_gone_gives_no_right_values(world, search):
    world.upstream.plans["nobody"] = Plan(0, GOOD, "chunk", once=False)
    outcome = Batch(world, 1, search).perform(run_like("zarr v2 chunk"), "nobody")
    assert outcome.kind == ABORTED
    assert outcome.is_defect
