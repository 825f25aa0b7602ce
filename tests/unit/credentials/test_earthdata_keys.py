"""Temporary keys of Earthdata, and each refusal by its state, with what to do and no secret."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from cubegate.credentials import S3Keys, open_credentials
from cubegate.errors import ConfigurationError, UpstreamDenied, UpstreamUnavailable
from cubegate.settings import CredentialSettings

URL = "s3://granules/x"
ACCOUNT = {"username_env": "NAME", "password_env": "PASSWORD"}


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
async def test_a_token_that_is_not_accepted(double, open_one, bad_token, refused):
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


async def test_a_token_file_that_was_replaced_is_used_at_once(double, open_one, tmp_path, clock, refused):
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
async def test_an_eula(double, open_one, body, refused):
    double.eula, double.eula_body = True, body
    error = await refused(open_one(token_env="TOKEN"))
    assert error.state == "eula"
    assert f"{double.login_url}/profile" in error.mend
    assert "EULA" in error.mend


async def test_a_web_page(double, open_one, refused):
    double.html.add("s3credentials")
    error = await refused(open_one(token_env="TOKEN"))
    assert error.state == "login-page"
    double.html = {"login"}
    assert (await refused(open_one(**ACCOUNT))).state == "login-page"


async def test_a_redirect_to_another_login_is_not_followed(double, open_one, refused):
    provider = open_one(token_env="TOKEN", login="https://login.example.org")
    double.expire_tokens()
    error = await refused(provider)
    assert error.state == "login-page"
    assert "login" in error.mend
    assert double.count("login") == 0


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_other_refusals(double, open_one, status, refused):
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

    wait = asyncio.sleep

    async def mended(seconds):
        # servers of other tests, in threads of their own, sleep for a second
        if seconds >= 1:
            await wait(seconds)
        else:
            double.failing.clear()

    monkeypatch.setattr("cubegate.credentials.asking.asyncio.sleep", mended)
    assert isinstance(await open_one(token_env="TOKEN").for_url(URL), S3Keys)


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
