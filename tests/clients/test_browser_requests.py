"""What a page of another origin may ask by fetch, and may see of the answers, in a real browser."""

import json

import numpy as np
import pytest
import rasterio
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from tests.clients.chromium import PROGRAM, chromium
from tests.clients.programs import needs

pytestmark = needs("chromium", PROGRAM)
EMPTY = '<!doctype html><title>empty</title><link rel="icon" href="data:,">'
FETCH = """async (url, options) => {
  const answer = await fetch(url, options);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return { status: answer.status, headers: Object.fromEntries(answer.headers), body: text };
}"""
SUBSET = "opera-f11116/subset?bbox=385000,3770000,391000,3775000&bbox-crs=EPSG:32611&variables=displacement&datetime=2023-10"


@pytest.fixture(scope="module")
def page(tmp_path_factory, serve_application):
    empty = serve_application(Starlette(routes=[Route("/", lambda _: HTMLResponse(EMPTY))]))
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(f"{empty}/")
        yield browser


@pytest.fixture
def fetch(page, demo_url):
    """Ask for something below /datasets as a page of another origin does; the body is bytes."""

    def ask(path, **options):
        url = f"{demo_url}/datasets/{path}"
        answer = page.run(f"({FETCH})({json.dumps(url)}, {json.dumps({'cache': 'no-store', **options})})")
        return answer["status"], answer["headers"], answer["body"].encode("latin-1")

    return ask


def test_a_geotiff_by_ranges_is_the_granules(fetch, demo_cubes, compared):
    address = f"{SUBSET}&f=geotiff"
    status, about, body = fetch(address, method="HEAD")
    length = int(about["content-length"])
    assert (status, about["accept-ranges"], body) == (200, "bytes", b"")
    assert about["content-disposition"] == 'inline; filename="opera-f11116-subset.tif"'
    # the last part as only its length is known, which a browser asks leave for
    asked = [f"bytes={start}-{start + 9_999}" for start in range(0, length - 20_000, 10_000)]
    rest = length - 10_000 * len(asked)
    parts = [fetch(address, headers={"Range": part, "If-Range": about["etag"]}) for part in asked]
    parts.append(fetch(address, headers={"Range": f"bytes=-{rest}"}))
    assert {(status, headers["etag"]) for status, headers, _ in parts} == {(206, about["etag"])}
    assert parts[-1][1]["content-range"] == f"bytes {length - rest}-{length - 1}/{length}"
    with rasterio.MemoryFile(b"".join(body for _, _, body in parts)) as file, file.open() as picture:
        values, transform = picture.read(), picture.transform
    dates = [
        number for number, date in enumerate(demo_cubes.dates()) if (date.year, date.month) == (2023, 10)
    ]
    assert len(values) == len(dates)
    row, column = demo_cubes.cell(*(transform @ (0.5, 0.5)))
    rows, columns = values.shape[1:]
    for found, number in zip(values, dates, strict=True):
        expected = demo_cubes.displacement(number)[row : row + rows, column : column + columns]
        np.testing.assert_array_equal(found, expected)
        compared(expected)


@pytest.mark.parametrize(
    "path",
    [
        "opera-f11116/zarr/displacement/c/3/1/1",
        "opera-f11116/zarr/zarr.json",
        f"{SUBSET}&f=netcdf",
        "opera-f11116/timeseries?x=389295&y=3773895&variables=displacement&f=csv",
    ],
)
def test_what_is_held_is_not_sent_again(fetch, path):
    status, about, body = fetch(path)
    assert (status, len(body) > 0) == (200, True)
    status, again, body = fetch(path, headers={"If-None-Match": about["etag"]})
    assert (status, again["etag"], body) == (304, about["etag"], b"")


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("nope/zarr/zarr.json", 404, "nope"),
        ("opera-f11116/zarr/displacement/c/99/1/1", 404, "c/99/1/1"),
        ("opera-f11116/timeseries?lon=0&lat=0&f=csv", 400, "outside the grid"),
        ("its-live/tiles/native/99/0/0.png?variables=v", 404, "zoom"),
    ],
)
def test_a_page_reads_why_it_got_nothing(fetch, path, status, word):
    found, about, body = fetch(path)
    problem = json.loads(body)
    assert (found, about["content-type"]) == (status, "application/problem+json")
    assert problem["status"] == status
    assert word in problem["detail"]


def test_a_page_may_post(fetch, demo_cubes, compared):
    x, y = 389_295.0, 3_773_895.0
    status, _, body = fetch(
        "opera-f11116/timeseries?crs=EPSG:32611&variables=displacement&f=csv",
        method="POST",
        # a browser asks leave to send this
        headers={"Content-Type": "text/csv"},
        body=f"x,y\n{x},{y}\n",
    )
    assert status == 200, body
    rows = [line.split(",") for line in body.decode().splitlines() if line[0] != "#"]
    found = np.array([row[rows[0].index("displacement")] for row in rows[1:]], "f4")
    np.testing.assert_array_equal(found, demo_cubes.series(x, y))
    compared(found)
