"""The command line: serve, demo, index, inspect, check."""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from rich.console import Console

from cubegate import __version__, demo
from cubegate.app import CONFIG_VARIABLE, index_source, open_catalog
from cubegate.catalog.checking import check_cube
from cubegate.catalog.inspection import describe_cube
from cubegate.errors import CubegateError
from cubegate.settings import Settings, UpstreamSettings, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parsed = _parser().parse_args(arguments)
    console = Console()
    try:
        return int(parsed.run(parsed, console))
    except CubegateError as error:
        Console(stderr=True).print(f"cubegate: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cubegate", description="A gateway to virtual datacubes.")
    parser.add_argument("--version", action="version", version=f"cubegate {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve the configured datasets")
    _add_config(serve)
    serve.add_argument("--host", help="address to listen on (default: from the configuration)")
    serve.add_argument("--port", type=int, help="port to listen on (default: from the configuration)")
    serve.add_argument("--workers", type=int, help="number of processes (default: from the configuration)")
    serve.set_defaults(run=_serve)

    show = commands.add_parser("demo", help="make small demo cubes, serve them and print what to try")
    show.add_argument("--directory", type=Path, default=Path("demo-data"), help="where the cubes go")
    show.add_argument("--host", default="127.0.0.1", help="address to listen on")
    show.add_argument("--port", type=int, default=8000, help="port to listen on")
    show.set_defaults(run=_demo)

    index = commands.add_parser("index", help="convert references into a compact index file")
    index.add_argument("source", help="a kerchunk JSON file or Parquet store: a path or a URL")
    index.add_argument("-o", "--output", type=Path, required=True, help="the index file to write")
    index.add_argument("--group", default="", help="the group of the source that becomes the root")
    index.add_argument("--fill", choices=("auto", "declared", "storage"), default="auto",
                       help="what a fill_value without a _FillValue attribute means")  # fmt: skip
    index.add_argument("--allow-missing-partition", action="append", default=[], metavar="ARRAY",
                       help="an array whose lost Parquet partitions count as unallocated")  # fmt: skip
    index.add_argument("--allow", action="append", default=[], metavar="PREFIX",
                       help="an address prefix that may be read, beside those of the configuration")  # fmt: skip
    index.add_argument("--config", type=Path, help="the cubegate.yaml whose upstreams and credentials to use")
    index.set_defaults(run=_index)

    inspect = commands.add_parser("inspect", help="print what a dataset holds")
    inspect.add_argument("dataset", help="a dataset's id")
    _add_config(inspect)
    inspect.set_defaults(run=_inspect)

    check = commands.add_parser("check", help="read sample chunks of datasets end to end and say what is wrong")
    check.add_argument("dataset", nargs="*", help="dataset ids (default: all)")
    check.add_argument("--chunks", type=int, default=4, help="sample chunks an array")
    _add_config(check)
    check.set_defaults(run=_check)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=Path("config/cubegate.yaml"), help="the cubegate.yaml to use")


def _serve(parsed: argparse.Namespace, console: Console) -> int:
    settings = load_settings(parsed.config, os.environ)
    # a mistake in a collection file should end here, not in each worker
    open_catalog(settings, os.environ)
    _run_server(
        parsed.config,
        parsed.host or settings.server.host,
        settings.server.port if parsed.port is None else parsed.port,
        parsed.workers or settings.server.workers,
    )
    return 0


def _run_server(config: Path, host: str, port: int, workers: int) -> None:
    os.environ[CONFIG_VARIABLE] = str(config.resolve())
    uvicorn.run(
        "cubegate.app:create_app_from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        server_header=False,
        timeout_graceful_shutdown=30,
    )


def _demo(parsed: argparse.Namespace, console: Console) -> int:
    config = demo.make_demo(parsed.directory, console)
    base_url = f"http://{parsed.host}:{parsed.port}"
    threading.Thread(target=_print_when_ready, args=(base_url, parsed.directory, console), daemon=True).start()
    _run_server(config, parsed.host, parsed.port, 1)
    return 0


def _print_when_ready(base_url: str, directory: Path, console: Console) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{base_url}/readyz", timeout=1):  # noqa: S310 - our own server
                demo.print_lines(console, base_url, directory)
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)


def _index(parsed: argparse.Namespace, console: Console) -> int:
    settings = load_settings(parsed.config, os.environ) if parsed.config else Settings()
    allowed = {prefix: UpstreamSettings(anonymous=prefix.startswith("s3:")) for prefix in parsed.allow}
    settings = settings.model_copy(update={"upstreams": {**settings.upstreams, **allowed}})
    with console.status(f"Indexing {parsed.source}"):
        version = asyncio.run(
            index_source(
                settings,
                os.environ,
                parsed.source,
                parsed.output,
                group=parsed.group,
                fill=parsed.fill,
                allow_missing_partitions=parsed.allow_missing_partition,
            )
        )
    console.print(f"Wrote {parsed.output} ({parsed.output.stat().st_size:,} bytes), version {version}", highlight=False)
    return 0


def _inspect(parsed: argparse.Namespace, console: Console) -> int:
    catalog, *_ = open_catalog(load_settings(parsed.config, os.environ), os.environ)

    async def inspect() -> None:
        for renderable in await describe_cube(await catalog.get(parsed.dataset)):
            console.print(renderable)

    asyncio.run(inspect())
    return 0


def _check(parsed: argparse.Namespace, console: Console) -> int:
    catalog, *_ = open_catalog(load_settings(parsed.config, os.environ), os.environ)

    async def check() -> int:
        failed = 0
        for name in parsed.dataset or catalog.ids():
            failed += await check_cube(catalog, name, parsed.chunks, console)
        return failed

    return 1 if asyncio.run(check()) else 0
