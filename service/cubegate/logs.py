"""Log lines without secrets, whoever wrote them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HIDDEN = "[hidden]"

# What is long enough not to be found in other words by chance.
_SHORTEST = 6
_PATTERNS = (
    # the query of an absolute address may sign it, and its user information is a password
    (re.compile(r"((?:https?|s3|rediss?)://[^\s\"'<>?]*)\?[^\s\"'<>)]+"), rf"\1?{HIDDEN}"),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/\"'<>@]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"((?:authorization|cookie|x-amz-(?:security-token|signature|credential)|session_?token|secret\w*|"
            r"access_?key_?id|password|token|signature)[\"']?\s*[:=]\s*b?[\"']?)(?!\[hidden)[^\s\"',;&}]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)


class RedactingFormatter(logging.Formatter):
    """Formats as `line` says, and hides `secrets` and whatever looks like one, in tracebacks too."""

    def __init__(self, line: str = LINE, secrets: Iterable[str] = ()) -> None:
        super().__init__(line)
        known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def format(self, record: logging.LogRecord) -> str:
        """Return the whole text of a record."""
        text = super().format(record)
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def log_to_stderr(secrets: Iterable[str]) -> None:
    """Write all log records from INFO on to the standard error stream, without `secrets`."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(secrets=secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
