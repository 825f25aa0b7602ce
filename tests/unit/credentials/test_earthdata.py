"""Tokens and temporary keys of Earthdata, and each refusal by its state, with what to do and no secret."""

import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from cubegate.credentials import BearerToken, S3Keys, open_credentials
from cubegate.credentials.asking import Answer
from cubegate.credentials.login_session import ask_in_session
from cubegate.credentials.login_token import _end_of_day
from cubegate.credentials.refusal import refusal
from cubegate.errors import ConfigurationError, UpstreamDenied, UpstreamUnavailable
from cubegate.settings import CredentialSettings

URL = "s3://granules/x"
ACCOUNT = {"username_env": "NAME", "password_env": "PASSWORD"}


async def refused(provider, url=URL):
    with pytest.raises(UpstreamDenied) as caught:
        await provider.for_url(url)
    assert "-value" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("form", ["space", "iso"])
async def test_keys_come_with_their_end(double, clock, open_one, form):
    double.expiry_format = form
    keys = await open_one(token_env="TOKEN").for_url(URL)
    assert isinstance(keys, S3Keys)
    assert double.keys[keys.access_key_id][:2] == (keys.secret_access_key, keys.session_token)
    assert keys.expires == datetime.fromtimestamp(clock() + 3600, UTC)
    [seen] = double.requests
    assert seen.headers["authorization"] == f"Bearer {double.token}"


@pytest.mark.parametrize(
    ("said", "hour"),
    [
        ("2025-04-08 14:22:33+00:00", 14),
        ("2025-04-08T14:22:33Z", 14),
        ("2025-04-08T14:22:33.125+00:00", 14),
        ("2025-04-08 14:22:33+02:00", 12),
        ("2025-04-08 14:22:33", 14),
    ],
)
async def test_ends_are_read_in_each_form(double, open_one, monkeypatch, said, hour):
    answer(monkeypatch, expiration=said)
    keys = await open_one(token_env="TOKEN").for_url(URL)
    assert keys.expires.astimezone(UTC).replace(microsecond=0) == datetime(
        2025, 4, 8, hour, 22, 33, tzinfo=UTC
    )


def answer(monkeypatch, **changes):
    """Have the endpoint answer keys with `changes`; None takes a part away."""
    keys = {
        "accessKeyId": "key",
        "secretAccessKey": "secret",
        "sessionToken": "session",
        "expiration": "2025-04-08 14:22:33+00:00",
    }
    said = {name: value for name, value in (keys | changes).items() if value is not None}
    monkeypatch.setattr("cubegate.credentials.asking.Answer.document", lambda _: said)


@pytest.mark.parametrize(
    "changes",
    [
        {"expiration": None},
        {"expiration": "tomorrow-value"},
        {"expiration": 1744122153},
        {"accessKeyId": None},
        {"secretAccessKey": ""},
        {"sessionToken": 7},
        {"sessionToken": "two words-value\r\n"},
    ],
)
async def test_an_answer_without_all_of_it_gives_no_keys(double, open_one, monkeypatch, changes):
    answer(monkeypatch, **changes)
    with pytest.raises(UpstreamUnavailable, match="without credentials") as caught:
        await open_one(token_env="TOKEN").for_url(URL)
    assert "-value" not in str(caught.value)


@pytest.mark.parametrize("bad_token", ["login", "401"])
async def test_a_token_that_is_not_accepted(double, open_one, bad_token):
    double.bad_token = bad_token
    provider = open_one(token_env="TOKEN")
    double.expire_tokens()
    error = await refused(provider)
    assert error.state == "bad-token"
    assert error.mend == (
        f"Make a new token at {double.login_url} (Generate Token), put it into the variable TOKEN, "
        "and start the server again."
    )
    # the token went nowhere else, and only once
    assert {seen.origin for seen in double.requests} == {"s3credentials"}
    assert len(double.requests) == 1


async def test_a_token_file_that_was_replaced_is_used_at_once(double, open_one, tmp_path, clock):
    file = tmp_path / "token"
    file.write_text(double.token)
    provider = open_one(token_file=file)
    await provider.for_url(URL)
    double.expire_tokens()
    file.write_text(double.new_token())
    clock.advance(double.keys_lifetime)
    assert double.good_key(*_pair(await provider.for_url(URL)))
    file.write_text("")
    clock.advance(double.keys_lifetime)
    error = await refused(provider)
    assert error.state == "no-credentials"
    assert str(file) in error.mend


def _pair(keys):
    return keys.access_key_id, keys.session_token


@pytest.mark.parametrize("body", ["plain", "invalid_token"])
async def test_an_eula(double, open_one, body):
    double.eula, double.eula_body = True, body
    error = await refused(open_one(token_env="TOKEN"))
    assert error.state == "eula"
    assert f"{double.login_url}/profile" in error.mend
    assert "EULA" in error.mend


async def test_a_web_page(double, open_one):
    double.html.add("s3credentials")
    error = await refused(open_one(token_env="TOKEN"))
    assert error.state == "login-page"
    double.html = {"login"}
    assert (await refused(open_one(**ACCOUNT))).state == "login-page"


async def test_a_redirect_to_another_login_is_not_followed(double, open_one):
    provider = open_one(token_env="TOKEN", login="https://login.example.org")
    double.expire_tokens()
    error = await refused(provider)
    assert error.state == "login-page"
    assert "login" in error.mend
    assert double.count("login") == 0


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_other_refusals(double, open_one, status):
    double.failing["s3credentials"] = status
    error = await refused(open_one(token_env="TOKEN"))
    assert error.state == "denied"
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize("host", ["s3credentials", "login"])
async def test_failing_hosts_are_asked_three_times_and_then_left_alone(
    double, open_one, no_retries, status, host
):
    double.failing[host] = status
    provider = open_one(**ACCOUNT)
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable, match=f"HTTP {status}") as caught:
            await provider.for_url(URL)
    assert "-value" not in str(caught.value)
    assert double.statuses(host) == {status: 3}


async def test_a_host_that_fails_once_is_asked_again(double, open_one, monkeypatch):
    double.failing["s3credentials"] = 503

    async def mended(_):
        double.failing.clear()

    monkeypatch.setattr("cubegate.credentials.asking.asyncio.sleep", mended)
    assert isinstance(await open_one(token_env="TOKEN").for_url(URL), S3Keys)


async def test_a_token_is_obtained_for_a_password_and_kept_until_its_date(double, clock, open_one):
    provider = open_one(kind="earthdata", **ACCOUNT)
    assert await provider.for_url(double.granules_url) == BearerToken(double.token)
    clock.advance(59 * 86400)
    assert await provider.for_url(double.granules_url) == BearerToken(double.token)
    assert double.count("login") == 1
    clock.advance(2 * 86400)
    token = await provider.for_url(double.granules_url)
    assert double.good_token(f"Bearer {token.token}")
    assert {seen.path for seen in double.requests} == {"/api/users/find_or_create_token"}


async def test_the_accounts_other_token_is_taken_where_the_first_is_refused(double, open_one):
    provider = open_one(kind="earthdata", **ACCOUNT)
    other = double.new_token()
    first = await provider.for_url(double.granules_url)
    assert await provider.renew(double.granules_url, first) == BearerToken(other)


async def test_an_account_without_another_token_says_what_to_do(double, open_one):
    provider = open_one(kind="earthdata", **ACCOUNT)
    first = await provider.for_url(double.granules_url)
    with pytest.raises(UpstreamDenied, match="Revoke the tokens") as caught:
        await provider.renew(double.granules_url, first)
    assert caught.value.state == "bad-token"


async def test_a_password_that_is_not_accepted_is_asked_once(double, open_one):
    provider = open_one(kind="earthdata", **ACCOUNT, environment={"PASSWORD": "wrong-value"})
    for _ in range(5):
        error = await refused(provider, double.granules_url)
        assert error.state == "bad-token"
        assert "the variable NAME and the password in PASSWORD" in error.mend
    assert double.count("login") == 1


async def test_a_netrc_is_read_for_the_host_of_the_login_alone(double, clock, open_one, tmp_path):
    file = tmp_path / "netrc"
    environment = {"NETRC": str(file)}
    file.write_text("default login user-value password password-value\n")
    with pytest.raises(ConfigurationError, match=r"has no machine 127\.0\.0\.1") as caught:
        open_one(kind="earthdata", netrc=True, environment=environment)
    assert caught.value.key == "credentials.asf.netrc"
    file.write_text("machine 127.0.0.1 login user-value pasword password-value\n")
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        open_one(kind="earthdata", netrc=True, environment=environment)
    assert "-value" not in str(caught.value)
    file.write_text("machine 127.0.0.1 login user-value password password-value\n")
    provider = open_one(kind="earthdata", netrc=True, environment=environment)
    assert await provider.for_url(double.granules_url) == BearerToken(double.token)
    file.unlink()
    clock.advance(70 * 86400)
    error = await refused(provider, double.granules_url)
    assert (error.state, str(file) in error.mend) == ("no-credentials", True)


async def test_a_netrc_is_found_in_the_home_directory(double, open_one, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user-value password password-value\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    provider = open_one(kind="earthdata", netrc=True)
    assert await provider.for_url(double.granules_url) == BearerToken(double.token)


def test_without_a_home_directory_a_netrc_needs_its_name(open_one, monkeypatch):
    def homeless():
        raise RuntimeError

    monkeypatch.setattr("pathlib.Path.home", homeless)
    with pytest.raises(ConfigurationError, match="Name the file in NETRC"):
        open_one(kind="earthdata", netrc=True)


async def test_a_password_may_hold_spaces_and_letters_of_all_kinds(double, open_one):
    double.password = "pass wörd: value"
    provider = open_one(kind="earthdata", **ACCOUNT)
    assert await provider.for_url(double.granules_url) == BearerToken(double.token)


async def test_an_endpoint_that_takes_no_token_is_logged_in_to(double, clock, open_one):
    double.redirect_flow = True
    provider = open_one(**ACCOUNT)
    for time in range(3):
        keys = await provider.for_url(URL)
        assert double.good_key(keys.access_key_id, keys.session_token)
        # a token is tried the first time alone
        assert double.count("login", "/api/") == 3
        assert (
            double.count("login", "/oauth/authorize") == double.count("s3credentials", "/login") == time + 1
        )
        clock.advance(double.keys_lifetime)
    for seen in double.requests:
        kind = seen.headers.get("authorization", "none").partition(" ")[0]
        assert kind == "Basic" if seen.origin == "login" else kind in {"Bearer", "none"}
        assert "cookie" not in seen.headers or seen.origin == "s3credentials"
        assert not ("cookie" in seen.headers and kind != "none")
    assert len([seen for seen in double.requests if "Bearer" in seen.headers.get("authorization", "")]) == 1
    assert {seen.origin for seen in double.requests} == {"login", "s3credentials"}


async def test_without_a_password_nobody_logs_in(double, open_one):
    double.redirect_flow = True
    assert (await refused(open_one(token_env="TOKEN"))).state == "bad-token"
    assert double.count("login") == 0


async def test_a_password_that_stops_being_accepted_is_named(double, clock, open_one):
    double.redirect_flow = True
    provider = open_one(**ACCOUNT)
    await provider.for_url(URL)
    double.password = "changed-value"
    clock.advance(double.keys_lifetime)
    error = await refused(provider)
    assert error.state == "login-page"
    assert f"Sign in at {double.login_url}/profile" in error.mend
    # by the token API it can be told from an application that is not approved
    clock.advance(31)
    double.expire_tokens()
    clock.advance(61 * 86400)
    error = await refused(provider)
    assert error.state == "bad-token"
    assert "the variable NAME" in error.mend


@pytest.mark.parametrize(
    "back",
    ["{granules}/login", "http://[", "//elsewhere.example.org/", "ftp://a/", "{login}/oauth/authorize"],
)
async def test_a_login_that_leads_elsewhere_is_not_followed(double, back, monkeypatch):
    back = back.format(**double.origins)
    there = f"{double.login_url}/oauth/authorize?redirect_uri={quote(back, safe='')}&state=x"
    asked = []

    async def ask(method, address, **sent):
        asked.append((address, sorted(sent)))
        return Answer(sent["shown"], 302, "", back, b"")

    monkeypatch.setattr("cubegate.credentials.login_session.ask", ask)
    first = Answer(double.s3credentials_url, 302, "", there, b"")
    answer = await ask_in_session(first, double.login_url, "Basic x")
    assert asked == [(there, ["authorization", "shown"])]
    error = refusal(answer, login=double.login_url, mend="Mend.")
    assert isinstance(error, UpstreamDenied)
    assert "elsewhere.example.org" not in str(error)


async def test_sets_that_say_the_same_share_one_provider(double, clock):
    same = {
        "kind": "earthdata-s3",
        "endpoint": double.s3credentials_url,
        "login": double.login_url,
        "token_env": "T",
    }
    sections = {
        "here": CredentialSettings(**same),
        "there": CredentialSettings(**same),
        "token": CredentialSettings(kind="earthdata", login=double.login_url, token_env="T"),
    }
    opened = open_credentials(sections, {"T": double.token}, clock=clock)
    assert opened["here"] is opened["there"] is not opened["token"]


@pytest.mark.parametrize("key", ["endpoint", "login"])
@pytest.mark.parametrize(
    "address",
    [
        "http://archive.example.org/s3credentials",
        "https://user:pass-value@archive.example.org/",
        "https://archive.example.org/?key=pass-value",
        "https://archive.example.org/#part",
        "https://archive.example.org:port/",
        "ftp://archive.example.org/",
        "//archive.example.org/",
        "archive.example.org",
        "https://",
        "https://[::1/",
        "https://archive.example.org\\x",
        "https://archive.example.org/a b",
        "",
    ],
)
def test_addresses_that_no_secret_is_sent_to(open_one, key, address):
    with pytest.raises(ConfigurationError) as caught:
        open_one(token_env="TOKEN", **{key: address})
    assert caught.value.key == f"credentials.asf.{key}"
    assert caught.value.mend.startswith("Write https")
    assert "-value" not in str(caught.value)


def test_an_endpoint_is_needed(clock):
    section = CredentialSettings(kind="earthdata-s3", token_env="T")
    with pytest.raises(ConfigurationError) as caught:
        open_credentials({"asf": section}, {"T": "token-value"}, clock=clock)
    assert caught.value.key == "credentials.asf.endpoint"
    assert "/s3credentials" in caught.value.mend


async def test_no_log_shows_a_secret_or_what_the_hosts_said(double, clock, open_one, no_retries, caplog):
    caplog.set_level(logging.DEBUG)
    provider = open_one(**ACCOUNT)
    keys = await provider.for_url(URL)
    for trouble in ("failing", "html", "eula", "expired"):
        clock.advance(4000)
        double.failing = {"s3credentials": 503, "login": 403} if trouble == "failing" else {}
        double.html = {"s3credentials"} if trouble == "html" else set()
        double.eula = trouble == "eula"
        double.keys_lifetime = -5.0 if trouble == "expired" else 3600.0
        with pytest.raises((UpstreamDenied, UpstreamUnavailable)):
            await provider.renew(URL, keys)
    said = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert said.count("were not renewed") >= 4
    assert double.secrets
    assert not [secret for secret in double.secrets if secret in said]
    assert "-value" not in said
    assert "Basic " not in said


def test_the_end_of_a_token_is_that_of_its_day():
    last = datetime(2025, 10, 31, tzinfo=UTC) + timedelta(days=1)
    assert _end_of_day("10/31/2025") == last.timestamp()
    assert _end_of_day("2025-10-31") is None
    assert _end_of_day(None) is None
