"""Words that must never come out of the gateway, and the search for them."""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections import Counter
from typing import Self

# whatever an upstream sends in a fault, and every secret, holds this word
CANARY = "kanarienvogel"
SECRETS = {
    "FAULTS_TOKEN": f"{CANARY}-token",
    "FAULTS_KEY": f"{CANARY}-access-key-id",
    "FAULTS_SECRET": f"{CANARY}-secret-access-key",
    "FAULTS_SESSION": f"{CANARY}-session-token",
    "FAULTS_UNRELATED": f"{CANARY}-environment",
}


def _in_base64(word: bytes) -> list[bytes]:
    """What base64 makes of `word`, wherever in a text it begins."""
    return [base64.b64encode(b"\0" * shift + word)[(0, 2, 3)[shift] :][:14] for shift in range(3)]


_PATTERN = re.compile(
    b"|".join(
        [CANARY.encode(), CANARY.encode().hex().encode(), *map(re.escape, _in_base64(CANARY.encode()))]
    ),
    re.IGNORECASE,
)


def canary(kind: str, run: int) -> str:
    """The word of one kind in the faults of one run."""
    return f"{CANARY}-{kind}-{run}"


class Search:
    """Looks for canaries; `hits` are what was found, with where, and `searched` counts bytes by where."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        self.searched: Counter[str] = Counter()
        self._lock = threading.Lock()

    def look(self, where: str, text: str | bytes, *, about: str = "") -> bool:
        """Search `text`; `about` says which run it belongs to. Returns whether a canary was there."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        found = _PATTERN.search(data)
        with self._lock:
            self.searched[where] += len(data)
            if found is not None:
                around = data[max(found.start() - 120, 0) : found.end() + 60].decode("utf-8", "replace")
                self.hits.append(f"{where}{f' ({about})' if about else ''}: …{around}…")
        return found is not None


class LogSearch(logging.Handler):
    """Searches every record of every logger as it would be written, with its traceback."""

    def __init__(self, search: Search) -> None:
        super().__init__(logging.DEBUG)
        self._search = search
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.records = 0
        self._levels: dict[logging.Logger, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1
        self._search.look("log", self.format(record), about=record.name)

    def __enter__(self) -> Self:
        root = logging.getLogger()
        loggers = [
            logger
            for logger in logging.Logger.manager.loggerDict.values()
            if isinstance(logger, logging.Logger)
        ]
        self._levels = {logger: logger.level for logger in [root, *loggers]}
        for logger in loggers:
            logger.setLevel(logging.NOTSET)
        root.setLevel(logging.DEBUG)
        root.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        for logger, level in self._levels.items():
            logger.setLevel(level)
