"""What looks like a secret, or is known to be one, is in no log line."""

import io
import logging
import subprocess
import sys

import pytest

from cubegate.app import named_secrets
from cubegate.logs import HIDDEN, RedactingFormatter
from cubegate.settings import load_settings

CANARY = "canary-value-of-a-secret"


@pytest.fixture
def logged():
    """Log something; gives the text that comes out."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(message)s", secrets=["known-word", "x"]))
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    logger.propagate = False

    def log(*arguments, **options):
        logger.error(*arguments, **options)
        return stream.getvalue()

    yield log
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://host/granule.nc?A-userid=me&X-Amz-Signature={CANARY} failed",
        f"redirected to <https://host/granule.nc?{CANARY}>",
        f"redis://user:{CANARY}@host:6379/0 is down",
        f"https://{CANARY}@host/x",
        f"{{'Authorization': 'Bearer {CANARY}'}}",
        f"authorization: Basic {CANARY}==",
        f"headers=[(b'authorization', b'x')] Bearer {CANARY}",
        f'{{"accessKeyId": "{CANARY}", "secretAccessKey": "{CANARY}", "sessionToken": "{CANARY}"}}',
        f"x-amz-security-token:{CANARY}",
        f"AWS_SECRET_ACCESS_KEY={CANARY} AWS_SESSION_TOKEN={CANARY}",
        f"Set-Cookie: asf-urs={CANARY}; path=/",
        f"password={CANARY}&user=me",
        f"Cookie: theme=dark; asf-urs={CANARY}",
        f"{{'Authorization': 'Token {CANARY}', 'Accept': '*/*'}}",
        f"[(b'x-amz-security-token', b'{CANARY}'), (b'cookie', b'a=b; c={CANARY}')]",
        f"<SecretAccessKey>{CANARY}</SecretAccessKey><SessionToken>{CANARY}</SessionToken>",
        f"Signature:\n{CANARY}",
        f"unix:///run/redis.sock?password={CANARY}",
        f"GET /login?code={CANARY}&state=1",
        f"sent Bearer%20{CANARY}",
        "a header of eyJ0eXAiOiJKV1Q.canary-value-of-a-secret.c2ln",
        "signed by AKIACANARYVALUEOFA",
    ],
)
def test_what_looks_like_a_secret_is_hidden(logged, text):
    said = logged(text)
    assert CANARY not in said
    assert HIDDEN in said


def test_nobody_who_is_quoted_writes_lines_or_moves_the_cursor(logged):
    said = logged("a name: %s", "x\n2026-01-01 00:00:00 INFO forged\x1b[2J\r\x9b\u2028y")
    assert said == "a name: x\n  2026-01-01 00:00:00 INFO forged\\x1b[2J\\r\\x9b\\u2028y\n"


LOG_ELSEWHERE = f"""
import gc, logging, threading, warnings
from cubegate.logs import log_to_stderr
log_to_stderr(["{CANARY}"])
warnings.warn("warned of {CANARY}")
logging.error("%d for %s", "no number", "{CANARY}")
def fail():
    raise ValueError("in a thread: {CANARY}")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
class Failing:
    def __del__(self):
        raise ValueError("in __del__: {CANARY}")
Failing()
gc.collect()
"""


@pytest.mark.parametrize("options", [[], ["-X", "dev"]])
def test_what_python_itself_would_write_is_a_record_without_secrets(options):
    said = subprocess.run(
        [sys.executable, *options, "-c", LOG_ELSEWHERE], capture_output=True, text=True, check=True
    ).stderr
    assert CANARY not in said
    for expected in ("warned of", "a log line of root could not be written", "in a thread:", "in __del__:"):
        assert expected in said


def test_known_secrets_are_hidden_wherever_they_are(logged):
    error = ValueError("a known-word in a traceback")
    error.__cause__ = KeyError("known-word")
    said = logged("with %s and %r", "known-word", {"a": "known-word"}, exc_info=error)
    assert "known-word" not in said
    assert said.count(HIDDEN) == 4
    assert "direct cause" in said


def test_short_words_are_no_secrets(logged):
    assert logged("an x stays") == "an x stays\n"


@pytest.mark.parametrize(
    "text",
    [
        "answered 502: UpstreamDenied: https://host/granule.nc refuses access (HTTP 403).",
        '127.0.0.1:50000 - "GET /datasets/a/timeseries?lon=1&lat=2&f=csv HTTP/1.1" 200',
        "s3://bucket/key.nc cannot be reached, or is not available.",
        "the variable EARTHDATA_TOKEN is not set",
        "cubegate 0.1.0 listens on http://127.0.0.1:8000",
    ],
)
def test_what_an_operator_needs_stays(logged, text):
    assert logged(text) == f"{text}\n"


def test_the_secrets_that_settings_name_are_known(tmp_path):
    file = tmp_path / "cubegate.yaml"
    file.write_text(
        "cache: {redis: 'redis://me:redis-canary@host/0'}\n"
        "credentials:\n"
        "  ours: {kind: s3, access_key_id_env: KEY, secret_access_key_env: SECRET}\n"
        "  nasa: {kind: earthdata, token_env: TOKEN}\n"
        "  other: {kind: earthdata, token_file: token}\n"
    )
    environment = {"KEY": "key-canary", "SECRET": "secret-canary", "TOKEN": "token-canary", "HOME": "/home"}
    settings = load_settings(file, environment)
    assert named_secrets(settings, environment) == {
        "redis-canary", "key-canary", "secret-canary", "token-canary",
    }  # fmt: skip
    assert "canary" not in repr(settings) + str(settings)
