"""What every credential provider does: gives, renews once for all, refuses with a mend, and shows nothing."""

import asyncio
import contextlib
import copy
import logging
import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.earthdata_double.double import EarthdataDouble, running_double

from cubegate.credentials import BearerToken, CredentialProvider, S3Keys, open_credentials
from cubegate.errors import UpstreamDenied
from cubegate.settings import CredentialSettings

STATES = {"denied", "login-page", "eula", "bad-token", "expired", "out-of-region", "no-credentials"}


@dataclass
class Case:
    """A provider, an address that it opens, and how others come to be where that is possible."""

    provider: CredentialProvider
    url: str
    double: EarthdataDouble
    folder: Path
    others: Any = None
    fetched: Any = None


def write_keys(folder, number):
    for name in ("id", "secret", "session"):
        (folder / name).write_text(f"{name}-{number}-value\n")


def write_profile(folder, number):
    (folder / "credentials").write_text(
        f"[cubes]\naws_access_key_id = id-{number}-value\naws_secret_access_key = secret-{number}-value\n"
    )


@pytest.fixture
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return {
        "KEY": "id-env-value",
        "SECRET": "secret-env-value",
        "USER_NAME": "user-value",
        "PASSWORD": "password-value",
        "NETRC": str(tmp_path / "netrc"),
    }


KINDS = {
    "s3-env": {"kind": "s3", "access_key_id_env": "KEY", "secret_access_key_env": "SECRET"},
    "s3-file": {
        "kind": "s3",
        "access_key_id_file": "id",
        "secret_access_key_file": "secret",
        "session_token_file": "session",
    },
    "aws": {"kind": "aws", "profile": "cubes"},
    "earthdata-env": {"kind": "earthdata", "token_env": "TOKEN"},
    "earthdata-file": {"kind": "earthdata", "token_file": "token"},
    "earthdata-password": {"kind": "earthdata", "username_env": "USER_NAME", "password_env": "PASSWORD"},
    "earthdata-netrc": {"kind": "earthdata", "netrc": True},
    "earthdata-s3-env": {"kind": "earthdata-s3", "token_env": "TOKEN"},
    "earthdata-s3-file": {"kind": "earthdata-s3", "token_file": "token"},
    "earthdata-s3-netrc": {"kind": "earthdata-s3", "netrc": True},
}
FETCHED = [
    name for name in KINDS if name.startswith("earthdata-s3") or name.endswith(("-password", "-netrc"))
]
REPLACEABLE = [name for name in KINDS if name not in {"s3-env", "earthdata-env"}]


@pytest.fixture(params=KINDS)
def case(request, environment, tmp_path):
    with running_double() as double:
        environment["TOKEN"] = double.token
        (tmp_path / "token").write_text(double.token)
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login user-value password password-value\n")
        write_keys(tmp_path, 1)
        write_profile(tmp_path, 1)
        settings = dict(KINDS[request.param])
        if settings["kind"].startswith("earthdata"):
            settings["login"] = double.login_url
        if settings["kind"] == "earthdata-s3":
            settings["endpoint"] = double.s3credentials_url
        opened = CredentialSettings(**settings).rooted(tmp_path)
        provider = open_credentials({"ours": opened}, environment)["ours"]
        url = "s3://granules/x" if "s3" in provider.schemes else double.granules_url
        case = Case(provider, url, double, tmp_path)
        if request.param == "s3-file":
            case.others = lambda: write_keys(tmp_path, 2)
        elif request.param == "aws":
            case.others = lambda: write_profile(tmp_path, 2)
        elif request.param == "earthdata-file":
            case.others = lambda: (tmp_path / "token").write_text(double.new_token())
        elif request.param in {"earthdata-password", "earthdata-netrc"}:
            case.others = double.expire_tokens
            case.fetched = lambda: double.count("login", "/api/users/find_or_create_token")
        elif settings["kind"] == "earthdata-s3":
            case.others = double.expire_keys
            case.fetched = lambda: double.count("s3credentials")
        yield case


async def in_two_loops(loop_thread, work, times=50):
    """What `work()` gives each time, half of it run in this loop and half in another thread's."""
    here = [work() for _ in range(times // 2)]
    there = [
        asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop_thread)) for _ in range(times // 2)
    ]
    return await asyncio.gather(*here, *there)


async def test_it_gives_what_its_schemes_are_opened_with(case):
    found = await case.provider.for_url(case.url)
    assert isinstance(found, S3Keys if case.provider.schemes == {"s3"} else BearerToken)
    assert case.provider.schemes in ({"s3"}, {"https"})


async def test_all_who_ask_at_once_get_the_same_for_one_fetch(case, loop_thread):
    found = await in_two_loops(loop_thread, lambda: case.provider.for_url(case.url))
    assert all(one == found[0] for one in found)
    assert await case.provider.for_url(case.url) == found[0]
    if case.fetched:
        assert case.fetched() == 1


@pytest.mark.parametrize("case", REPLACEABLE, indirect=True)
async def test_all_who_are_refused_at_once_get_the_same_others_for_one_fetch(case, loop_thread):
    first = await case.provider.for_url(case.url)
    case.others()
    found = await in_two_loops(loop_thread, lambda: case.provider.renew(case.url, first))
    assert all(one == found[0] for one in found)
    assert found[0] != first
    assert await case.provider.for_url(case.url) == found[0]
    # one who learns of it late
    assert await case.provider.renew(case.url, first) == found[0]
    if case.fetched:
        assert case.fetched() == 2


async def test_without_others_it_says_what_to_do(case, caplog):
    first = await case.provider.for_url(case.url)
    if case.fetched:
        # the first time, others are fetched; those too are refused
        case.others()
        first = await case.provider.renew(case.url, first)
        case.double.forget()
    for _ in range(20):
        with pytest.raises(UpstreamDenied) as caught:
            await case.provider.renew(case.url, first)
        assert caught.value.state in STATES
        assert caught.value.mend.endswith(".")
    assert "-value" not in str(caught.value)
    if case.fetched:
        assert case.fetched() == 0
    # they may be good for others
    assert await case.provider.for_url(case.url) == first


async def test_nothing_shows_a_secret(case, caplog):
    caplog.set_level(logging.DEBUG)
    found = await case.provider.for_url(case.url)
    with contextlib.suppress(UpstreamDenied):
        await case.provider.renew(case.url, found)
    texts = [caplog.text, repr(case.provider), str(case.provider), repr(found), str(found)]
    texts += [str(vars(record)) for record in caplog.records]
    for held in (case.provider, found):
        for write in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled") as caught:
                write(held)
            texts.append(str(caught.value))
    assert not [text for text in texts if "-value" in text]


@pytest.mark.parametrize("case", FETCHED, indirect=True)
async def test_an_asker_that_is_cancelled_takes_nothing_from_the_others(case):
    case.double.delay = {"login": 0.1, "s3credentials": 0.1}
    askers = [asyncio.ensure_future(case.provider.for_url(case.url)) for _ in range(3)]
    await asyncio.sleep(0)
    askers[0].cancel()
    found = await asyncio.gather(*askers[1:])
    assert found[0] == found[1]
    assert case.fetched() == 1


@pytest.mark.parametrize("case", FETCHED, indirect=True)
def test_a_loop_that_ends_amid_a_fetch_takes_nothing_from_the_others(case):
    case.double.delay = {"login": 0.1, "s3credentials": 0.1}

    async def leave():
        asking = asyncio.ensure_future(case.provider.for_url(case.url))
        await asyncio.sleep(0)
        assert not asking.done()

    thread = threading.Thread(target=lambda: asyncio.run(leave()))
    thread.start()
    thread.join()
    assert asyncio.run(case.provider.for_url(case.url)) is not None
    assert case.fetched() == 1
