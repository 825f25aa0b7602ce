"""Runs `cubegate serve` with other values of what is fixed in the product; a study's servers start here.

CUBEGATE_STUDY='{"concurrency": 64}' python -m tests.benchmarks.studies.serve --config FILE --port 8000
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

from cubegate import app, cli
from cubegate.catalog import opening
from cubegate.chunks import connections
from cubegate.store import columns, reader

VARIABLE = "CUBEGATE_STUDY"


def change(
    *,
    concurrency: int | None = None,
    coalesced: dict[str, int] | None = None,
    batch: int | None = None,
    idle: float | None = None,
    without_columns: bool = False,
    block: tuple[int, int] | None = None,
    window: tuple[int, int] | None = None,
    patience: dict[str, float] | None = None,
) -> None:
    """Change what is named, in this process alone.

    `coalesced` and `patience` are arguments of `Coalesced` and `RedisCache`; `block` and `window` are a side and the
    most bytes; `idle` is in seconds.
    """
    if concurrency is not None:
        app.open_upstreams = functools.partial(app.open_upstreams, concurrency=concurrency)
    if coalesced is not None:
        opening.Coalesced = functools.partial(opening.Coalesced, **coalesced)
    if batch is not None:
        reader.BATCH = batch
    if idle is not None:
        connections._IDLE = idle
    if without_columns:
        opening.ColumnCache = lambda *_: None
    if block is not None:
        columns.BLOCK, columns.BLOCK_NBYTES = block
    if window is not None:
        columns.WINDOW, columns.WINDOW_NBYTES = window
    if patience is not None:
        app.RedisCache = functools.partial(app.RedisCache, **patience)


def main() -> int:
    """Serve with the changes that the environment names."""
    changes: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
    change(**changes)
    return cli.main(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
