"""What a client that left had asked for is no longer read, unless somebody else waits for it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

# as the stack is made: more chunks than one host is asked for at a time
DATES, SIDE, CHUNK = 40, 96, 16
CHUNKS = DATES * (SIDE // CHUNK) ** 2
AT_A_TIME = 256
POINT = "/datasets/stack/timeseries?x=400060&y=3899940&f=csv&variables=v"
BOX = "/datasets/stack/subset?bbox=399000,3890000,410000,3910000&bbox-crs=EPSG:32611&f=netcdf&variables=v"
CHUNK_KEY = "/datasets/stack/zarr/v/3.2.1"


MANY = "\n".join(
    ["x,y", *(f"{400_000 + 30 * n},{3_900_000 - 30 * n}" for n in range(0, SIDE, CHUNK))]
).encode()


@pytest.mark.parametrize(
    ("path", "method", "body", "at_once"),
    [
        (BOX, "GET", b"", AT_A_TIME),
        (BOX, "HEAD", b"", AT_A_TIME),
        (BOX.replace("netcdf", "csv"), "GET", b"", AT_A_TIME),
        (BOX.replace("netcdf", "parquet"), "GET", b"", AT_A_TIME),
        (POINT, "GET", b"", DATES),
        (POINT.replace("csv", "json"), "GET", b"", DATES),
        ("/datasets/stack/timeseries?f=csv&variables=v", "POST", MANY, DATES * SIDE // CHUNK),
        (CHUNK_KEY, "GET", b"", 1),
        (CHUNK_KEY.replace("zarr", "zarr-plain"), "GET", b"", 1),
        (CHUNK_KEY.replace("3.2.1", "c/3/2/1"), "GET", b"", 1),
    ],
    ids=["box", "head", "csv", "parquet", "point", "json", "points", "chunk", "plain", "chunk-v3"],
)
def test_what_a_client_that_left_had_asked_for_is_no_longer_read(
    server, values, until, series, *, path, method, body, at_once
):
    at_once = min(at_once, AT_A_TIME)
    with server.asking(path, method, body):
        until(lambda: server.upstream.waiting == at_once)
    until(lambda: server.upstream.waiting == 0)
    assert server.upstream.asked == at_once
    server.open()
    assert np.array_equal(series(server.http.get(POINT)), values[:, 2, 2])


def shared_by(app, path):
    """How many wait for what `path` is made of."""
    found = app.state.services
    if path == BOX:
        return sum(list(found.spool._waiting.values()))
    flights = found.catalog.held("stack").store._source._flights
    return max((len(batch.askers) for batch in list(flights.values())), default=0)


@pytest.mark.parametrize("path", [BOX, POINT, CHUNK_KEY])
@pytest.mark.parametrize("leaver", ["first", "second"])
def test_what_somebody_still_waits_for_is_read_on(server, until, path, leaver):
    with ThreadPoolExecutor(1) as other:
        if leaver == "second":
            stays = other.submit(server.http.get, path)
            until(lambda: shared_by(server.app, path) == 1)
        with server.asking(path):
            if leaver == "first":
                until(lambda: shared_by(server.app, path) == 1)
                stays = other.submit(server.http.get, path)
            until(lambda: shared_by(server.app, path) == 2)
        until(lambda: shared_by(server.app, path) == 1)
        server.open()
        response = stays.result()
    assert response.status_code == 200
    assert server.upstream.asked == {BOX: CHUNKS, POINT: DATES, CHUNK_KEY: 1}[path]


def test_whoever_leaves_is_counted_and_not_logged(server, until, caplog):
    with server.asking(POINT):
        until(lambda: server.upstream.waiting == DATES)
    until(lambda: server.upstream.waiting == 0)
    until(lambda: 'route="/datasets/{dataset_id}/timeseries"' in server.http.get("/metrics").text)
    (line,) = (
        line
        for line in server.http.get("/metrics").text.splitlines()
        if line.startswith("cubegate_http_requests_total{") and "timeseries" in line
    )
    assert 'status="200"' not in line
    assert [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}] == []
