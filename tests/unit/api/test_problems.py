"""Errors as problem+json: every class, CORS throughout, no word of an upstream, and no clean end after an error."""

import http.client
import logging
import socket

import pytest
from starlette.requests import Request

from cubegate import errors
from cubegate.api.problems import PUBLIC_DETAILS, STATUSES, ErrorBoundary, problem_of

MARKER = "marker-of-a-secret"
EXPECTED = {
    "CubegateError": 500,
    "ConfigurationError": 503,
    "NotFound": 404,
    "NotRepresentable": 404,
    "InvalidParameter": 400,
    "NotAcceptable": 400,
    "BudgetExceeded": 413,
    "InvalidReference": 502,
    "InvalidMetadata": 502,
    "UnsupportedCodec": 502,
    "UpstreamError": 502,
    "UpstreamRefused": 502,
    "UpstreamObjectMissing": 502,
    "UpstreamMismatch": 502,
    "UpstreamChanged": 502,
    "UpstreamUnavailable": 503,
    "Overloaded": 503,
    "RechunkFailed": 500,
    "UpstreamTimeout": 504,
    "UpstreamDenied": 502,
    "CorruptChunk": 502,
    "CorruptIndex": 502,
}


def all_errors(kind=errors.CubegateError):
    yield kind
    for child in kind.__subclasses__():
        yield from all_errors(child)


ERRORS = [kind for kind in all_errors() if kind.__module__ == errors.__name__]


def example(kind):
    if kind is errors.InvalidParameter:
        return kind("bbox", "It is what.", accepted="four numbers")
    if kind is errors.BudgetExceeded:
        return kind({"chunks": 9, "bytes": 1}, {"chunks": 3, "bytes": 5}, "Ask for less.")
    return kind(f"The object {MARKER} answered {MARKER}.")


def check_problem(response, status):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["access-control-allow-origin"] == "*"
    body = response.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body


def test_every_error_has_a_status_of_its_own_choice():
    assert {kind.__name__ for kind in ERRORS} == set(EXPECTED)
    for kind in ERRORS:
        assert problem_of(example(kind)).status_code == EXPECTED[kind.__name__], kind
    assert {status for _, status, _ in STATUSES if status >= 500} == set(PUBLIC_DETAILS)


def test_no_class_of_the_table_hides_behind_its_base():
    kinds = [kind for kind, _, _ in STATUSES]
    for number, kind in enumerate(kinds):
        assert not any(issubclass(kind, before) for before in kinds[:number]), kind


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_over_http(server, kind, caplog):
    server.control.error = example(kind)
    server.control.error.__cause__ = OSError(MARKER)
    status = EXPECTED[kind.__name__]
    response = server.http.get("/raise")
    body = check_problem(response, status)
    if kind is errors.Overloaded:
        assert body["detail"] == str(server.control.error)
        assert response.headers["retry-after"]
    elif status >= 500:
        assert MARKER not in response.text + str(response.headers)
        assert body["detail"] == PUBLIC_DETAILS[status]
        assert response.headers["cache-control"] == "no-store"
        assert ("retry-after" in response.headers) == (status != 500)
        assert any(kind.__name__ in record.getMessage() for record in caplog.records)
    else:
        assert body["detail"] == str(server.control.error)


def test_what_a_client_can_act_on_is_there(server):
    server.control.error = example(errors.InvalidParameter)
    body = server.http.get("/raise").json()
    assert (body["parameter"], body["accepted"]) == ("bbox", "four numbers")
    assert body["detail"] == "It is what. Accepted: four numbers."
    server.control.error = example(errors.BudgetExceeded)
    body = server.http.get("/raise").json()
    assert body["price"] == {"chunks": 9, "bytes": 1}
    assert body["limits"] == {"chunks": 3, "bytes": 5}
    assert body["hint"] == "Ask for less."
    assert body["detail"] == "The query would cost 9 chunks (limit 3). Ask for less."


def test_an_unforeseen_error_is_a_500_and_a_log_entry(server, caplog):
    server.control.error = ZeroDivisionError(MARKER)
    response = server.http.get("/raise")
    body = check_problem(response, 500)
    assert MARKER not in response.text
    assert body["detail"] == PUBLIC_DETAILS[500]
    assert [record.exc_info[0] for record in caplog.records if record.levelno == logging.ERROR] == [
        ZeroDivisionError
    ]


def test_an_unreadable_source_says_nothing_of_itself(server):
    for path in ("zarr/", "timeseries?lon=1&lat=2", "values?name=x"):
        response = server.http.get(f"/datasets/lost/{path}")
        check_problem(response, 502)
        assert "absent.json" not in response.text
        assert str(server.root) not in response.text


@pytest.mark.parametrize(
    "path", ["/nowhere", "/datasets/none/zarr/", "/datasets/none/values?name=x", "/datasets/stack/zarr/none"]
)
def test_what_is_not_there_is_a_404_with_cors(server, path):
    check_problem(server.http.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("DELETE", "/both", {"GET", "HEAD", "POST"}),
        ("PUT", "/datasets/stack/timeseries", {"GET", "HEAD", "POST"}),
        ("GET", "/post-only", {"POST"}),
        ("HEAD", "/post-only", {"POST"}),
        ("POST", "/datasets/stack/zarr/x/0", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_a_405_that_lists_the_right_ones(server, method, path, allowed):
    response = server.http.request(method, path)
    assert response.status_code == 405
    assert response.headers["access-control-allow-origin"] == "*"
    assert set(response.headers["allow"].split(", ")) == allowed
    if method != "HEAD":
        check_problem(response, 405)


@pytest.mark.parametrize(("path", "name"), [("/number/one", "number"), ("/number/1?half=x", "half")])
def test_what_fastapi_refuses_is_a_400_that_names_the_parameter(server, path, name):
    body = check_problem(server.http.get(path), 400)
    assert body["parameter"] == name
    assert repr(name) in body["detail"]


def test_a_page_may_ask_for_ranges_from_anywhere(server):
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    response = server.http.options("/datasets/stack/zarr/zarr.json", headers=asked)
    assert response.status_code == 200
    assert "range" in response.headers["access-control-allow-headers"].lower()
    exposed = server.http.get("/healthz").headers["access-control-expose-headers"]
    assert {"ETag", "Content-Range", "Content-Disposition", "Retry-After"} <= set(exposed.split(", "))


@pytest.mark.parametrize("error", [errors.CorruptChunk(MARKER), ZeroDivisionError(MARKER)])
def test_an_error_after_the_first_byte_breaks_the_connection(server, error):
    server.control.error = error
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding: chunked" in head.lower()
    assert body == b"5\r\nfirst\r\n"
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", "/late")
    with pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    connection.close()


def test_no_route_announces_or_gives_a_422(server):
    document = server.http.get("/openapi.json").json()
    announced = {
        status
        for operations in document["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
    }
    assert "200" in announced
    assert "422" not in announced
    assert "HTTPValidationError" not in document.get("components", {}).get("schemas", {})


async def test_a_client_that_leaves_in_its_own_request_is_no_error_of_the_server(caplog):
    async def read_body(scope, receive, send):
        await Request(scope, receive).body()

    async def left():
        return {"type": "http.disconnect"}

    sent = []
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await ErrorBoundary(read_body)(scope, left, sent.append)
    assert not sent
    assert not caplog.records


@pytest.mark.parametrize("path", ["/datasets/", "/healthz/", "/datasets/stack/answer/"])
def test_nothing_leads_to_the_host_that_a_request_names(server, path):
    response = server.http.get(path, headers={"Host": "evil.example"})
    assert response.status_code == 404
    assert "evil.example" not in response.text + str(response.headers)
