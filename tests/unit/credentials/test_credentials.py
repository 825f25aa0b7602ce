"""Finds secrets where the settings say, and shows them to nobody."""

import subprocess
import sys

import pytest

from cubegate.credentials import BearerToken, S3Keys, open_credentials
from cubegate.errors import ConfigurationError, UpstreamDenied
from cubegate.settings import CredentialSettings

S3 = {"kind": "s3", "access_key_id_env": "OUR_KEY", "secret_access_key_env": "OUR_SECRET"}
ENVIRONMENT = {
    "OUR_KEY": "key-value",
    "OUR_SECRET": "secret-value",
    "OUR_SESSION": "session-value",
    "TOKEN": "token-value",
}


def open_one(environment=ENVIRONMENT, **settings):
    return open_credentials({"ours": CredentialSettings(**settings)}, environment)["ours"]


async def test_s3_keys_come_from_the_named_variables():
    keys = await open_one(**S3).for_url("s3://bucket/x")
    assert keys == S3Keys("key-value", "secret-value")
    keys = await open_one(**S3, session_token_env="OUR_SESSION").for_url("s3://bucket/x")
    assert keys == S3Keys("key-value", "secret-value", "session-value")


async def test_an_earthdata_token_comes_from_the_named_variable():
    provider = open_one(kind="earthdata", token_env="TOKEN")
    assert await provider.for_url("https://host/x") == BearerToken("token-value")


async def test_a_token_file_is_read_at_each_use(tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    provider = open_one(kind="earthdata", token_file=file)
    assert await provider.for_url("https://host/x") == BearerToken("first")
    file.write_text("second\n")
    assert await provider.for_url("https://host/x") == BearerToken("second")
    file.unlink()
    with pytest.raises(UpstreamDenied):
        await provider.for_url("https://host/x")


def test_providers_say_what_they_open(tmp_path):
    assert open_one(**S3).schemes == {"s3"}
    assert open_one(kind="earthdata", token_env="TOKEN").schemes == {"https"}


async def test_no_representation_shows_a_secret(tmp_path):
    (tmp_path / "token").write_text("file-value")
    for provider in (
        open_one(**S3, session_token_env="OUR_SESSION"),
        open_one(kind="earthdata", token_env="TOKEN"),
        open_one(kind="earthdata", token_file=tmp_path / "token"),
    ):
        credentials = await provider.for_url("s3://bucket/x")
        for text in (repr(provider), str(provider), repr(credentials), str(credentials)):
            assert "-value" not in text


@pytest.mark.parametrize(
    ("settings", "key", "named"),
    [
        (S3 | {"access_key_id_env": "UNSET"}, "access_key_id_env", "UNSET"),
        (S3 | {"secret_access_key_env": "EMPTY"}, "secret_access_key_env", "EMPTY"),
        (S3 | {"session_token_env": "UNSET"}, "session_token_env", "UNSET"),
        (S3 | {"secret_access_key_env": None}, "secret_access_key_env", "Name the environment variable"),
        ({"kind": "s3"}, "access_key_id_env", "Name the environment variable"),
        (S3 | {"profile": "p"}, "profile", "kind s3"),
        ({"kind": "earthdata", "token_env": "UNSET"}, "token_env", "UNSET"),
        ({"kind": "earthdata", "token_env": "TWO_WORDS"}, "token_env", "TWO_WORDS"),
        ({"kind": "earthdata", "token_file": "/nowhere/token"}, "token_file", "cannot be read"),
        # the secret itself, in place of its name
        (
            {"kind": "earthdata", "token_env": "eyJ.token-value"},
            "token_env",
            "the variable it names is not set",
        ),
        (S3 | {"access_key_id_env": "AKIA0VALUE0"}, "access_key_id_env", "the variable it names is not set"),
        ({"kind": "earthdata", "token_env": "TOKEN", "profile": "p"}, "profile", "kind earthdata"),
    ],
)
def test_what_is_missing_is_named_when_opened(settings, key, named):
    environment = ENVIRONMENT | {"EMPTY": " ", "TWO_WORDS": "secret-value\r\nHost: evil"}
    with pytest.raises(ConfigurationError) as caught:
        open_one(environment, **settings)
    assert caught.value.key == f"credentials.ours.{key}"
    assert named in str(caught.value)
    assert "-value" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", [{"kind": "earthdata"}, {"kind": "earthdata-s3", "endpoint": "https://a.example/k"}]
)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"netrc": False},
        {"token_env": "TOKEN", "token_file": "/srv/token"},
        {"token_env": "TOKEN", "netrc": True},
        {"token_env": "TOKEN", "password_env": "TOKEN"},
        {"netrc": True, "username_env": "TOKEN", "password_env": "TOKEN"},
    ],
)
def test_earthdata_needs_exactly_one_way_to_a_token(kind, settings):
    with pytest.raises(ConfigurationError, match="exactly one of them"):
        open_one(**kind, **settings)


@pytest.fixture
def no_aws(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


async def test_aws_reads_the_profile_and_the_default_chain(no_aws, monkeypatch):
    (no_aws / "credentials").write_text(
        "[cubes]\naws_access_key_id = profile-value\naws_secret_access_key = other-value\n"
    )
    provider = open_one(kind="aws", profile="cubes")
    keys = await provider.for_url("s3://bucket/x")
    assert (keys.access_key_id, keys.secret_access_key) == ("profile-value", "other-value")
    assert "-value" not in repr(provider) + repr(keys)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "chain")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    keys = await open_one(kind="aws").for_url("s3://bucket/x")
    assert (keys.access_key_id, keys.secret_access_key, keys.session_token) == ("chain", "secret", "session")


def test_aws_without_credentials_is_a_configuration_error(no_aws):
    with pytest.raises(ConfigurationError, match="no credentials"):
        open_one(kind="aws")
    with pytest.raises(ConfigurationError, match="'absent'"):
        open_one(kind="aws", profile="absent")


def test_botocore_is_only_needed_for_aws():
    program = "import sys, cubegate.credentials; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
