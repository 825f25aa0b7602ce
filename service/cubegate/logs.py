"""Log lines without secrets, whoever wrote them."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

logger = logging.getLogger(__name__)

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HIDDEN = "[hidden]"

# What is long enough not to be found in other words by chance.
_SHORTEST = 6
# between a name and its value: in headers, queries, JSON, XML, and tuples as Python shows them
_IS = r"""(?:["']?\s*[:=>]\s*b?["']?|["']\s*,\s*b?["'])"""
_PATTERNS = (
    # the query of an absolute address may sign it, and its user information is a password
    (re.compile(r"((?:https?|s3|rediss?|unix)://[^\s\"'<>?]*)\?[^\s\"'<>)]+"), rf"\1?{HIDDEN}"),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/\"'<>@]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (re.compile(r"\b(Bearer|Basic)(?:\s|%20)+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # these have values of several words
    (
        re.compile(rf"(\b(?:(?:proxy-)?authorization|(?:set-)?cookie){_IS})[^\"'\r\n]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            rf"((?:x-amz-(?:security-token|signature|credential)|session_?token|secret\w*|access_?key_?id|"
            rf"pass(?:word|wd|phrase)|token|signature|\bsig|api_?key|[?&]code){_IS})(?!\[hidden)[^\s\"',;&}}<]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # bearer tokens of Earthdata, and access key ids of AWS, wherever they are
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]+\.?[\w-]*"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), HIDDEN),
)
# what moves a terminal's cursor, or looks like the end of a line to some
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class RedactingFormatter(logging.Formatter):
    """Formats as `line` says, and hides `secrets` and whatever looks like one, in tracebacks too."""

    def __init__(self, line: str = LINE, secrets: Iterable[str] = ()) -> None:
        super().__init__(line)
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def format(self, record: logging.LogRecord) -> str:
        """Return the whole text of a record, whose further lines are indented.

        So nobody whose words are quoted in a line can write one of the log's own.
        """
        return self.redacted(super().format(record)).replace("\n", "\n  ")

    def redacted(self, text: str) -> str:
        """Return `text` without secrets and control characters."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return escaped(text)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to the standard error stream; says of a record that cannot be formatted where it is from."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in logging
        """Say so without the arguments, which logging itself would write as they are."""
        with suppress(OSError, ValueError):
            self.stream.write(
                f"a log line of {record.name} could not be written ({record.pathname}:{record.lineno})\n"
            )


def escaped(text: str) -> str:
    """Return `text` without what moves a terminal's cursor: it is data, and whose they are is unknown."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def log_to_stderr(secrets: Iterable[str]) -> None:
    """Write all log records from INFO on to the standard error stream, without `secrets`.

    Warnings, and errors that end a thread or cannot be raised, become records too.
    """
    handler = _StandardError()
    handler.setFormatter(RedactingFormatter(secrets=secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread
    sys.unraisablehook = _log_unraisable


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        logger.error("a thread ended by an error", exc_info=ended.exc_value)


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    # not what it was raised in, whose text may be anything
    logger.error("an error that nobody could catch", exc_info=found.exc_value)
