"""What a user and a password of Earthdata Login give: a token, or keys where an endpoint takes no token."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from cubegate.credentials import BearerToken
from cubegate.credentials.asking import Answer
from cubegate.credentials.login_session import ask_in_session
from cubegate.credentials.login_token import _end_of_day
from cubegate.credentials.refusal import refusal
from cubegate.errors import ConfigurationError, UpstreamDenied

URL = "s3://granules/x"
ACCOUNT = {"username_env": "NAME", "password_env": "PASSWORD"}


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


async def test_a_password_that_is_not_accepted_is_asked_once(double, open_one, refused):
    provider = open_one(kind="earthdata", **ACCOUNT, environment={"PASSWORD": "wrong-value"})
    for _ in range(5):
        error = await refused(provider, double.granules_url)
        assert error.state == "bad-token"
        assert "the variable NAME and the password in PASSWORD" in error.mend
    assert double.count("login") == 1


async def test_a_netrc_is_read_for_the_host_of_the_login_alone(double, clock, open_one, tmp_path, refused):
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


async def test_without_a_password_nobody_logs_in(double, open_one, refused):
    double.redirect_flow = True
    assert (await refused(open_one(token_env="TOKEN"))).state == "bad-token"
    assert double.count("login") == 0


async def test_a_password_that_stops_being_accepted_is_named(double, clock, open_one, refused):
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


def test_the_end_of_a_token_is_that_of_its_day():
    last = datetime(2025, 10, 31, tzinfo=UTC) + timedelta(days=1)
    assert _end_of_day("10/31/2025") == last.timestamp()
    assert _end_of_day("2025-10-31") is None
    assert _end_of_day(None) is None
