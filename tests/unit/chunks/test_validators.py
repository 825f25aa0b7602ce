"""Holds reads over HTTP to what the object was known by, though servers ignore what they are asked to hold to."""

import pytest

from cubegate.chunks.source import ChunkReference, ObjectState
from cubegate.chunks.validators import precondition, validator_of
from cubegate.errors import UpstreamChanged, UpstreamMismatch, UpstreamRefused

BODY = bytes(range(100))
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
LATER = "Wed, 21 Oct 2015 07:28:01 GMT"


@pytest.fixture
async def read(start_server, open_http, response):
    """Reads bytes 3 to 12, or the whole, from a server that answers with these headers."""

    async def run(validator, *headers, status=None, whole=False):
        if whole:
            answer = response(status or 200, headers, BODY)
        else:
            answer = response(status or 206, ["Content-Range: bytes 3-12/100", *headers], BODY[3:13])
        run.server = server = await start_server(lambda _: answer)
        bounds = () if whole else (3, 10)
        return await open_http(server.url).get(
            ChunkReference(f"{server.url}/x", *bounds, validator=validator)
        )

    return run


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("validator", "header", "sent"),
    [
        ('"a"', f"Last-Modified: {DATE}", {"if-match": '"a"'}),
        ('"a"', 'ETag: "a"', {"if-match": '"a"'}),
        # a weak tag tells nothing of bytes
        ('"a"', 'ETag: W/"b"', {"if-match": '"a"'}),
        (DATE, 'ETag: "a"', {"if-unmodified-since": DATE}),
        (DATE, f"Last-Modified: {DATE}", {"if-unmodified-since": DATE}),
        (DATE, "Last-Modified: Wednesday, 21-Oct-15 07:28:00 GMT", {"if-unmodified-since": DATE}),
    ],
)
async def test_asks_for_the_object_as_it_was(read, whole, validator, header, sent):
    assert await read(validator, header, whole=whole) == (BODY if whole else BODY[3:13])
    (request,) = read.server.requests
    assert {name: value for name, value in request.headers.items() if name.startswith("if-")} == sent


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("validator", "header"),
    [('"a"', 'ETag: "b"'), (DATE, f"Last-Modified: {LATER}"), (LATER, f"Last-Modified: {DATE}")],
)
async def test_another_object_is_an_error_though_the_server_ignored_the_question(
    read, whole, validator, header
):
    with pytest.raises(UpstreamChanged, match="replaced"):
        await read(validator, header, whole=whole)
    assert len(read.server.requests) == 1


@pytest.mark.parametrize("validator", ['"a"', DATE])
async def test_a_failed_precondition_is_a_replaced_object(read, validator):
    with pytest.raises(UpstreamChanged, match="replaced"):
        await read(validator, status=412)
    assert len(read.server.requests) == 1


async def test_a_failed_precondition_that_nobody_sent_is_no_replaced_object(read):
    with pytest.raises(UpstreamMismatch, match="412") as caught:
        await read(None, status=412)
    assert not isinstance(caught.value, UpstreamChanged)


async def test_without_a_validator_nothing_is_asked(read):
    assert await read(None, 'ETag: "a"') == BODY[3:13]
    assert not [name for name in read.server.requests[0].headers if name.startswith("if-")]


async def test_the_precondition_goes_along_to_where_the_object_is(start_server, open_http, response):
    data = await start_server(lambda _: response(412))
    first = await start_server(lambda _: response(303, [f"Location: {data.url}/x"]))
    with pytest.raises(UpstreamChanged):
        await open_http(first.url, data.url).get(ChunkReference(f"{first.url}/x", 3, 10, '"a"'))
    assert data.requests[0].headers["if-match"] == '"a"'


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"a"', "last-modified": DATE}, '"a"'),
        ({"etag": 'W/"a"', "last-modified": DATE}, DATE),
        ({"last-modified": DATE}, DATE),
        ({"etag": "unquoted"}, None),
        ({"etag": '"a", "b"'}, None),
        ({"last-modified": "long ago"}, None),
        ({}, None),
    ],
)
def test_a_strong_tag_goes_before_a_date(headers, validator):
    assert validator_of(headers) == validator


@pytest.mark.parametrize("validator", ['W/"a"', "", "x", '"a', '"a"b"', '"a"\r\nX: y', f"{DATE}\r\nX: y"])
def test_what_is_no_validator_is_refused(validator):
    with pytest.raises(UpstreamRefused):
        precondition(validator)


@pytest.fixture
async def state(start_server, open_http):
    async def run(answer):
        run.server = server = await start_server(lambda _: answer)
        return await open_http(server.url).stat(f"{server.url}/x")

    return run


async def test_asks_for_the_first_byte_to_know_an_object(state, response):
    answer = response(206, ["Content-Range: bytes 0-0/100", 'ETag: "a"', f"Last-Modified: {DATE}"], b"0")
    assert await state(answer) == ObjectState('"a"', 100)
    (request,) = state.server.requests
    assert (request.method, request.headers["range"]) == ("GET", "bytes=0-0")


@pytest.mark.parametrize(
    ("status", "headers", "body", "known"),
    [
        (206, ["Content-Range: bytes 0-0/*", f"Last-Modified: {DATE}"], b"0", ObjectState(DATE, None)),
        (206, ["Content-Range: bytes 0-0/7"], b"0", ObjectState(None, 7)),
        (200, ['ETag: "a"'], BODY, ObjectState('"a"', 100)),
        (200, ['ETag: "a"'], b"", ObjectState('"a"', 0)),
        (416, ["Content-Range: bytes */0"], b"no such range", ObjectState(None, 0)),
    ],
)
async def test_takes_size_and_validator_from_what_the_server_says(
    state, response, *, status, headers, body, known
):
    assert await state(response(status, headers, body)) == known


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (206, ["Content-Range: bytes 1-1/100"], b"0"),
        (206, [], b"0"),
        (416, ["Content-Range: bytes */100"], b""),
        (416, [], b""),
        (200, ["Content-Type: text/html"], b"<html>out for lunch</html>"),
        (204, [], b""),
    ],
)
async def test_believes_no_answer_to_another_question(state, response, status, headers, body):
    with pytest.raises(UpstreamMismatch):
        await state(response(status, headers, body))
