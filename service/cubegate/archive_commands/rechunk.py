"""rechunk: writes a configured cube as a store of its own, cut for series or for maps."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from cubegate.archive_commands.options import add_common, read_settings
from cubegate.conversions.outputs import put_file
from cubegate.conversions.rechunk import Opened, Wanted, opened_endpoints, opened_rechunk
from cubegate.errors import ConfigurationError, InvalidParameter
from cubegate.progress_bar import progress_bar, shown_in
from cubegate.rechunk.copying import Runner, copy_cube
from cubegate.rechunk.running import Cluster, Threads


def add_rechunk(commands: Any) -> None:
    """Add rechunk to the subparsers `commands`."""
    parser = commands.add_parser(
        "rechunk", help="write a cube as a store of its own, cut for series or for maps"
    )
    parser.add_argument("dataset", help="a dataset's id")
    parser.add_argument("-o", "--output", required=True, help="a path, or an s3 URL that an upstream covers")
    parser.add_argument("--format", choices=("zarr", "zarr2", "netcdf"), default="zarr",
                        help="Zarr v3 with shards, Zarr v2, or one netCDF-4 file")  # fmt: skip
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument("--for", dest="purpose", choices=("series", "maps"), default="series",
                     help="which reads are to be fast")  # fmt: skip
    cut.add_argument("--chunks", help="the chunks by dimension, such as time=100,y=64,x=64")
    parser.add_argument("--variables", help="names, separated by commas (default: all)")
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1), help="blocks at a time")
    parser.add_argument("--scheduler", help="the address of a Dask scheduler whose workers do the work")
    parser.add_argument("--between", type=Path, metavar="DIRECTORY",
                        help="where transposed arrays rest (default: beside the output)")  # fmt: skip
    add_common(parser)
    parser.set_defaults(run=_rechunk)


def _rechunk(parsed: argparse.Namespace, console: Console) -> int:
    if parsed.scheduler and parsed.format == "netcdf":
        raise InvalidParameter("scheduler", "One file has one writer.", accepted="zarr or zarr2 as --format")
    if parsed.threads < 1:
        raise InvalidParameter("threads", "No block would be copied.", accepted="1 or more")
    with _written(parsed) as output, _resting(parsed) as between:
        wanted = Wanted(
            (parsed.config or Path("config/cubegate.yaml")).resolve(),
            parsed.dataset,
            output,
            parsed.format,
            parsed.purpose if parsed.chunks is None else _chunks(parsed.chunks),
            None if parsed.variables is None else tuple(parsed.variables.split(",")),
            str(between),
        )
        with progress_bar(console) as bar:
            report = _copy(wanted, parsed, shown_in(bar))
    _print(console, {"output": parsed.output, **report}, as_json=parsed.json)
    return 0


def _copy(wanted: Wanted, parsed: argparse.Namespace, progress: Any) -> dict[str, Any]:
    with opened_rechunk(wanted) as opened:
        target, between = opened.endpoints.target, opened.endpoints.between
        target.prepare()
        if between is not None:
            between.prepare()
        shapes = {path: array.shape for path, array in opened.hierarchy.arrays.items()}
        with _runner(opened, wanted, parsed) as run:
            compared = copy_cube(opened.layouts, shapes, run, progress)
        target.finish()
        chunks = {path: list(layout.chunks) for path, layout in opened.layouts.items()}
        return {"values": compared, "chunks": chunks, "not_written": dict(opened.hierarchy.skipped)}


@contextmanager
def _runner(opened: Opened, wanted: Wanted, parsed: argparse.Namespace) -> Iterator[Runner]:
    if not parsed.scheduler:
        yield Threads(opened.endpoints, parsed.threads)
        return
    if "://" not in wanted.output:
        wanted = replace(wanted, output=str(Path(wanted.output).resolve()))
    with closing(Cluster(parsed.scheduler, partial(opened_endpoints, wanted))) as cluster:
        yield cluster


@contextmanager
def _written(parsed: argparse.Namespace) -> Iterator[str]:
    """Yield where to write, which becomes the output when all went well; in s3 the root is written last."""
    if not parsed.output.startswith("s3://"):
        with _written_beside(Path(parsed.output)) as path:
            yield path
    elif parsed.format == "netcdf":
        with tempfile.TemporaryDirectory(prefix=".rechunk-", dir=parsed.between) as made:
            file = Path(made) / "cube.nc"
            yield str(file)
            put_file(file, parsed.output, read_settings(parsed), os.environ)
    else:
        yield parsed.output


@contextmanager
def _written_beside(path: Path) -> Iterator[str]:
    if path.exists():
        raise ConfigurationError(
            "exists already", file=str(path), mend="Remove it, or choose another output."
        )
    partial_path = path.with_name(f".{path.name}.partial")
    _remove(partial_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield str(partial_path)
        partial_path.replace(path)
    finally:
        _remove(partial_path)


@contextmanager
def _resting(parsed: argparse.Namespace) -> Iterator[Path]:
    local = not parsed.output.startswith("s3://")
    directory = parsed.between or (Path(parsed.output).parent if local else Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=".rechunk-", dir=directory) as made:
        yield Path(made).resolve()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _chunks(text: str) -> Mapping[str, int]:
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if not name.strip() or not size.strip().isdecimal() or int(size) == 0:
            raise InvalidParameter(
                "chunks", f"{part[:40]!r} is no size.", accepted="such as time=100,y=64,x=64"
            )
        sizes[name.strip()] = int(size)
    return sizes


def _print(console: Console, report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps(report))
        return
    lines = [
        f"Wrote {report['output']}, {report['values']:,} values, each read back and compared",
        *(
            f"{path}: chunks of {tuple(chunks)}"
            for path, chunks in report["chunks"].items()
            if len(chunks) > 1
        ),
        *(f"not written: {path}: {reason}" for path, reason in report["not_written"].items()),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
