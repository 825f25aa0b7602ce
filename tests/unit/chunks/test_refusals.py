"""Tells kinds of refusal apart over HTTP, renews a token once, and passes on nothing that was said."""

import asyncio
from itertools import count

import pytest

from cubegate.chunks.source import ChunkReference
from cubegate.credentials import BearerToken
from cubegate.errors import UpstreamDenied, UpstreamMismatch, UpstreamRefused, UpstreamUnavailable

BODY = bytes(range(100))
SAID = "words-of-the-upstream"


class Tokens:
    """Gives `token-0`, and after it was refused the next one."""

    schemes = frozenset({"https"})

    def __init__(self):
        self.number = 0
        self.renewals = 0
        self.others = True
        self.error = None

    def _now(self):
        return BearerToken(f"token-{self.number}")

    async def for_url(self, url):
        return self._now()

    async def renew(self, url, rejected):
        self.renewals += 1
        if self.error is not None:
            raise self.error
        if rejected == self._now() and self.others:
            await asyncio.sleep(0)
            self.number += rejected == self._now()
        return self._now()


@pytest.fixture
def tokens():
    return Tokens()


@pytest.fixture
async def denied(start_server, open_http):
    """Reads from a server that gives one answer, and returns how that is refused."""

    async def run(answer, *, whole=False, **options):
        run.server = server = await start_server(lambda _: answer)
        bounds = () if whole else (3, 10)
        with pytest.raises(UpstreamDenied) as caught:
            await open_http(server.url, **options).get(ChunkReference(f"{server.url}/x", *bounds))
        assert SAID not in f"{caught.value} {caught.value.mend}"
        assert caught.value.__cause__ is None
        return caught.value

    return run


S3 = f"<Error><Code>%s</Code><Message>{SAID}</Message></Error>"
EULA = f'{{"status_code": 403, "error_description": "EULA Acceptance Failure", "resolution_url": "{SAID}"}}'
REFUSALS = [
    (403, EULA, "eula", "accept"),
    (403, f"<html>You must accept the EULA {SAID}</html>", "eula", "accept"),
    (401, f'{{"error": "invalid_token", "error_description": "EULA Acceptance Failure {SAID}"}}', "eula", "accept"),
    (403, SAID, "denied", "may read it"),
    (403, S3 % "AccessDenied", "denied", "may read it"),
    (401, SAID, "bad-token", "not valid"),
    (401, f'{{"error": "invalid_token", "error_description": "Token has expired {SAID}"}}', "expired", "expired"),
    (403, S3 % "ExpiredToken", "expired", "expired"),
    (400, S3 % "ExpiredToken", "expired", "expired"),
    (403, S3 % "InvalidAccessKeyId", "bad-token", "not valid"),
    (400, S3 % "AuthorizationHeaderMalformed", "out-of-region", "region"),
    (301, S3 % "PermanentRedirect", "out-of-region", "region"),
    (200, f"<html><title>Earthdata Login</title>{SAID}</html>", "login-page", "credentials"),
    (200, f'<html><input name=p type="password">{SAID}</html>', "login-page", "credentials"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "state", "mend"), REFUSALS)
@pytest.mark.parametrize("whole", [True, False])
async def test_each_kind_of_refusal_has_its_name(
    denied, response, tokens, *, whole, status, body, state, mend
):
    tokens.others = False
    kind = "text/html" if body.startswith("<html>") else "application/x"
    error = await denied(
        response(status, [f"Content-Type: {kind}"], body.encode()), whole=whole, credentials=tokens
    )
    assert error.state == state
    assert mend in error.mend


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [(401, SAID, "no-credentials"), (403, SAID, "denied"), (403, EULA, "eula"), (403, S3 % "ExpiredToken", "no-credentials")],
)  # fmt: skip
async def test_without_credentials_the_mend_is_to_name_some(denied, response, status, body, state):
    error = await denied(response(status, [], body.encode()))
    assert error.state == state
    assert state == "eula" or "Name credentials" in error.mend
    assert len(denied.server.requests) == 1


async def test_a_redirect_to_a_login_is_not_followed_and_said(start_server, open_http, response):
    login = await start_server(lambda _: response(200, ["Content-Type: text/html"], b"log in"))
    first = await start_server(
        lambda _: response(302, [f"Location: {login.url}/oauth/authorize?client_id={SAID}"])
    )
    with pytest.raises(UpstreamDenied) as caught:
        await open_http(first.url).get(ChunkReference(f"{first.url}/x", 3, 10))
    assert caught.value.state == "login-page"
    assert SAID not in str(caught.value)
    assert login.requests == []
    # a login that is listed is asked, and gives itself away by its page
    with pytest.raises(UpstreamDenied) as caught:
        await open_http(first.url, login.url).get(ChunkReference(f"{first.url}/x", 3, 10))
    assert caught.value.state == "login-page"


async def test_another_unlisted_redirect_is_refused_as_such(start_server, open_http, response):
    first = await start_server(lambda _: response(302, ["Location: http://login.invalid/elsewhere"]))
    with pytest.raises(UpstreamRefused):
        await open_http(first.url).get(ChunkReference(f"{first.url}/x", 3, 10))


@pytest.mark.parametrize(
    "refusal",
    [(401, ""), (400, S3 % "ExpiredToken"), (302, "Location: http://login.invalid/oauth/authorize")],
)
async def test_a_token_that_is_refused_is_renewed_once_and_the_read_goes_on(
    start_server, open_http, response, tokens, refusal
):
    def answer(request):
        if request.headers["authorization"] == "Bearer token-1":
            return response(206, ["Content-Range: bytes 3-12/100"], BODY[3:13])
        status, said = refusal
        return response(status, [said], b"") if status == 302 else response(status, [], said.encode())

    server = await start_server(answer)
    source = open_http(server.url, credentials=tokens)
    for _ in range(2):
        assert await source.get(ChunkReference(f"{server.url}/x", 3, 10)) == BODY[3:13]
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer token-0", "Bearer token-1", "Bearer token-1"]
    assert tokens.renewals == 1


async def test_many_reads_with_a_dead_token_end_well(start_server, open_http, response, tokens):
    good = response(206, ["Content-Range: bytes 3-12/100"], BODY[3:13])
    server = await start_server(
        lambda request: good if request.headers["authorization"] == "Bearer token-1" else response(401)
    )
    source = open_http(server.url, credentials=tokens)
    read = [source.get(ChunkReference(f"{server.url}/{n}", 3, 10)) for n in range(50)]
    assert await asyncio.gather(*read) == [BODY[3:13]] * 50
    assert tokens.number == 1


async def test_renewing_in_vain_is_not_done_for_every_read(start_server, open_http, response, tokens):
    server = await start_server(lambda _: response(401))
    source = open_http(server.url, credentials=tokens)
    for _ in range(5):
        with pytest.raises(UpstreamDenied) as caught:
            await source.get(ChunkReference(f"{server.url}/x", 3, 10))
        assert caught.value.state == "bad-token"
    assert tokens.renewals == 1
    assert len(server.requests) == 6


async def test_what_the_provider_knows_better_is_said(denied, response, tokens):
    tokens.error = UpstreamDenied("There is no password.", state="no-credentials", mend="Add one.")
    assert (await denied(response(401), credentials=tokens)).mend == "Add one."
    tokens.error = UpstreamDenied("There are no others.")
    error = await denied(response(401, [], b"expired"), credentials=tokens)
    assert error.state == "expired"


async def test_a_provider_that_cannot_be_reached_is_tried_again(start_server, open_http, response, tokens):
    server = await start_server(lambda _: response(401))
    tokens.error = UpstreamUnavailable("away")
    with pytest.raises(UpstreamUnavailable):
        await open_http(server.url, credentials=tokens).get(ChunkReference(f"{server.url}/x", 3, 10))
    assert tokens.renewals == 3


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_whose_body_never_ends_is_a_refusal(start_server, open_http, status):
    head = f"HTTP/1.1 {status} S\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    endless = (await start_server(lambda _: head + b"10000\r\n" + bytes(2**16) + b"\r\n" + b"1000\r\n")).url
    cut = (await start_server(lambda _: head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).url
    stalled = (await start_server(lambda _: head)).url
    for url in (endless, cut, stalled):
        with pytest.raises(UpstreamDenied):
            await open_http(url, deadline=0.5).get(ChunkReference(f"{url}/x", 3, 10))


async def test_a_bad_request_that_nobody_understands_is_no_refusal(start_server, open_http, response):
    server = await start_server(lambda _: response(400, [], SAID.encode()))
    with pytest.raises(UpstreamMismatch, match="HTTP 400") as caught:
        await open_http(server.url).get(ChunkReference(f"{server.url}/x", 3, 10))
    assert SAID not in str(caught.value)


async def test_a_token_is_not_renewed_for_what_another_origin_refused(
    start_server, open_http, response, tokens
):
    numbers = count()
    data = await start_server(lambda _: response(403, [], (S3 % "ExpiredToken").encode()))
    first = await start_server(lambda _: response(303, [f"Location: {data.url}/x?sig={next(numbers)}"]))
    source = open_http(first.url, data.url, credentials=tokens)
    with pytest.raises(UpstreamDenied) as caught:
        await source.get(ChunkReference(f"{first.url}/x", 3, 10))
    assert caught.value.state == "denied"
    assert tokens.renewals == 0
    assert all("authorization" not in request.headers for request in data.requests)


async def test_a_renewed_token_that_is_good_for_nothing_else_is_renewed_again_when_it_dies(
    start_server, open_http, response, tokens
):
    dead = set()

    def answer(request):
        if request.headers["authorization"] in dead:
            return response(401)
        return response(403, [], EULA.encode())

    server = await start_server(answer)
    source = open_http(server.url, credentials=tokens)
    for number in range(3):
        dead.add(f"Bearer token-{number}")
        with pytest.raises(UpstreamDenied) as caught:
            await source.get(ChunkReference(f"{server.url}/x", 3, 10))
        assert caught.value.state == "eula"
    assert tokens.renewals == 3
