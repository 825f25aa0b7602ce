"""The command line: serve, demo, index, inspect, check, and those for archives."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cubegate import __version__
from cubegate.archive_commands import add_archive_commands
from cubegate.errors import ConfigurationError, CubegateError
from cubegate.progress_bar import progress_bar, shown_in
from cubegate.settings import (
    CacheSettings,
    ServerSettings,
    Settings,
    UpstreamSettings,
    load_settings,
    validate_section,
)

if TYPE_CHECKING:
    from cubegate.catalog.catalog import Catalog


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = _parser(given).parse_args(given)
    _leave_proxies()
    console = Console()
    try:
        return int(parsed.run(parsed, console))
    except CubegateError as error:
        return _failed(str(error))
    except OSError as error:
        # of this machine's own files: what is read elsewhere fails with errors of ours
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or type(error).__name__}")
    except KeyboardInterrupt:
        return 130


def _failed(why: str) -> int:
    said = f"cubegate: {why}"
    Console(stderr=True).print(said, style="red", markup=False, highlight=False, soft_wrap=True)
    return 1


def _leave_proxies() -> None:
    """Take no proxy from the environment, through which some libraries would send tokens too.

    Nor the two variables that make Icechunk refuse the endpoint that it is given.
    """
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    unfit = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
    for variable in (*proxies, *(name.lower() for name in proxies), *unfit):
        os.environ.pop(variable, None)


def _parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
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
    index.add_argument("source", help="kerchunk references, DMR++, HDF5 or GeoTIFF: a path or a URL")
    index.add_argument("-o", "--output", type=Path, required=True, help="the index file to write")
    index.add_argument("--group", default="", help="the group of the source that becomes the root")
    index.add_argument("--fill", choices=("auto", "declared", "storage"), default="auto",
                       help="what a fill_value without a _FillValue attribute means")  # fmt: skip
    index.add_argument("--allow-missing-partition", action="append", default=[], metavar="ARRAY",
                       help="an array whose lost Parquet partitions count as unallocated")  # fmt: skip
    index.add_argument("--allow", action="append", default=[], metavar="PREFIX",
                       help="a prefix that may be read, beside those of the configuration")  # fmt: skip
    index.add_argument("--checksums", action="store_true",
                       help="read every chunk once, and keep its checksum in the index")  # fmt: skip
    index.add_argument("--no-validators", action="store_true",
                       help="do not ask the granules for what tells later that one was replaced")  # fmt: skip
    index.add_argument("--config", type=Path, help="the cubegate.yaml whose upstreams and credentials to use")
    index.set_defaults(run=_index)

    inspect = commands.add_parser("inspect", help="print what a dataset holds")
    inspect.add_argument("dataset", help="a dataset's id")
    inspect.add_argument("--chunks", action="store_true",
                         help="print how it is cut into chunks, and what queries cost")  # fmt: skip
    _add_config(inspect)
    inspect.set_defaults(run=_inspect)

    check = commands.add_parser("check", help="read sample chunks end to end and say what is wrong")
    check.add_argument("dataset", nargs="*", help="dataset ids (default: all)")
    check.add_argument("--chunks", type=_positive, default=4, help="sample chunks an array")
    _add_config(check)
    check.set_defaults(run=_check)
    add_archive_commands(commands, arguments)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    default = Path("config/cubegate.yaml")
    parser.add_argument("--config", type=Path, default=default, help="the cubegate.yaml to use")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


@asynccontextmanager
async def _opened_catalog(config: Path) -> AsyncIterator[Catalog]:
    """Open the catalog without a cache, which would hide what became of the upstream, and without a log."""
    # half a second of import, here and below, that other commands do without
    from cubegate.app import open_catalog  # noqa: PLC0415

    log = logging.getLogger("cubegate")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        settings = load_settings(config, os.environ).model_copy(update={"cache": CacheSettings(memory=0)})
        catalog, upstreams, bridge, cache = open_catalog(settings, os.environ)
        try:
            yield catalog
        finally:
            await upstreams.aclose()
            await cache.aclose()
            bridge.close()
    finally:
        log.setLevel(level)


def _serve(parsed: argparse.Namespace, _: Console) -> int:
    from cubegate.app import create_app  # noqa: PLC0415
    from cubegate.serving import run_server  # noqa: PLC0415

    settings = load_settings(parsed.config, os.environ)
    options = {"host": parsed.host, "port": parsed.port, "workers": parsed.workers}
    given = {name: value for name, value in options.items() if value is not None}
    server = validate_section(ServerSettings, {**settings.server.model_dump(), **given}, Path("command line"))
    if server.workers > 1:
        # what cannot be composed should end here, not in each worker
        create_app(settings, os.environ)
    run_server(parsed.config, settings, server)
    return 0


def _demo(parsed: argparse.Namespace, console: Console) -> int:
    from cubegate import demo  # noqa: PLC0415
    from cubegate.serving import run_server  # noqa: PLC0415

    config = demo.make_demo(parsed.directory, console)
    base_url = f"http://{parsed.host}:{parsed.port}"
    arguments = (base_url, parsed.directory, console)
    threading.Thread(target=_print_when_ready, args=arguments, daemon=True).start()
    settings = load_settings(config, os.environ)
    run_server(config, settings, ServerSettings(host=parsed.host, port=parsed.port))
    return 0


def _print_when_ready(base_url: str, directory: Path, console: Console) -> None:
    from cubegate import demo  # noqa: PLC0415

    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{base_url}/readyz", timeout=1):  # noqa: S310 - our own server
                demo.print_lines(console, base_url, directory)
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)


def _index(parsed: argparse.Namespace, console: Console) -> int:
    from cubegate.conversions.references import index_source  # noqa: PLC0415

    settings = load_settings(parsed.config, os.environ) if parsed.config else Settings()
    allowed = {prefix: UpstreamSettings(anonymous=prefix.startswith("s3:")) for prefix in parsed.allow}
    settings = settings.model_copy(update={"upstreams": {**settings.upstreams, **allowed}})
    source = parsed.source if "://" in parsed.source else Path(parsed.source).resolve().as_uri()
    with progress_bar(console) as bar:
        work = index_source(
            settings,
            os.environ,
            source,
            parsed.output,
            group=parsed.group,
            fill=parsed.fill,
            allow_missing_partitions=parsed.allow_missing_partition,
            validators=not parsed.no_validators,
            checksums=parsed.checksums,
            progress=shown_in(bar),
        )
        try:
            index = asyncio.run(work)
        except OSError as error:
            raise ConfigurationError(
                f"cannot be written ({error.strerror})", file=str(parsed.output)
            ) from error
    nbytes = parsed.output.stat().st_size
    said = f"Wrote {parsed.output} ({nbytes:,} bytes), version {index.version}"
    console.print(said, markup=False, highlight=False, soft_wrap=True)
    not_served = [f"not served: {path}: {reason}" for path, reason in index.hierarchy.skipped.items()]
    for line in [*not_served, *(f"note: {note}" for note in index.notes)]:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return 0


def _inspect(parsed: argparse.Namespace, console: Console) -> int:
    from cubegate.catalog.chunk_layout import describe_layout  # noqa: PLC0415
    from cubegate.catalog.inspection import describe_cube  # noqa: PLC0415

    if not console.is_terminal:
        # names should stay in one piece for whoever searches the output
        console = Console(width=240)

    async def inspect() -> None:
        async with _opened_catalog(parsed.config) as catalog:
            describe = describe_layout if parsed.chunks else describe_cube
            for renderable in await describe(await catalog.get(parsed.dataset)):
                console.print(renderable)

    asyncio.run(inspect())
    return 0


def _check(parsed: argparse.Namespace, console: Console) -> int:
    from cubegate.catalog.checking import check_cube  # noqa: PLC0415

    async def check() -> int:
        async with _opened_catalog(parsed.config) as catalog:
            names = parsed.dataset or catalog.ids()
            for name in names:
                catalog.collection(name.partition("@")[0])
            return sum([await check_cube(catalog, name, parsed.chunks, console) for name in names])

    return 1 if asyncio.run(check()) else 0
