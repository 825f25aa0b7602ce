"""Mounts and converts every hostile reference file, and tells what was opened, asked and answered.

Run as `python gateway.py ROOT OUTSIDE ALLOWED-PORT FORBIDDEN-PORT`; writes a JSON object by case.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import sys
import sysconfig
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cases import CASES, Store, World, references

import cubegate
from cubegate.app import create_app
from cubegate.cli import main
from cubegate.settings import load_settings

PATHS = (
    "zarr/zarr.json", "zarr/.zmetadata", "zarr/v/.zarray", "zarr/v/0.0", "zarr/v/c/0/0", "zarr-plain/v/0.0",
    "zarr-plain/v/c/0/0", "zarr/", "timeseries?x=0&y=0", "subset?f=csv",
)  # fmt: skip
# the interpreter's own files, and what the system tells of itself
OWN = (
    sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), str(Path(cubegate.__file__).parents[2]),
    os.environ["TMPDIR"], "/proc/", "/sys/", "/dev/null", "/dev/urandom", "/etc/localtime", "/etc/mime.types", "/usr/share/",
)  # fmt: skip
EVENTS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "pickle.find_class",
    "ctypes.dlopen",
)


@dataclass
class Seen:
    """What the interpreter was asked to do since `clear`."""

    files: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    events: set[str] = field(default_factory=set)

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and isinstance(
            arguments[0], str | bytes | os.PathLike
        ):
            self.files.add(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100 - a link stays one
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            self.addresses.add(f"{arguments[1][0]}:{arguments[1][1]}")
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            self.addresses.add(f"{arguments[0]}")
        elif event in EVENTS:
            self.events.add(f"{event}: {str(arguments[:2])[:200]}")

    def clear(self) -> None:
        self.files, self.addresses, self.events = set(), set(), set()


async def ask(config: Path, name: str) -> list[tuple[str, int, str]]:
    app = create_app(load_settings(config, {}), {})
    answers = []
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for path in PATHS:
            answer = await client.get(f"/datasets/{name}/{path}")
            answers.append((path, answer.status_code, answer.text[:3000] + str(dict(answer.headers))))
    return answers


def convert(config: Path, file: Path, output: Path) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(["index", str(file), "-o", str(output), "--config", str(config), "--checksums"])
    return code, said.getvalue()


def run(name: str, content: object, world: World, seen: Seen, log: io.StringIO) -> dict[str, object]:
    folder = world.root / "cases" / str(len(list((world.root / "cases").iterdir())))
    folder.mkdir()
    if not isinstance(content, Store):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        content = Store("kerchunk", "hostile.json", {"": text})
    file, config = folder / content.href, folder / "cubegate.yaml"
    for path, data in content.files.items():
        (file / path).parent.mkdir(parents=True, exist_ok=True)
        (file / path).write_bytes(data)
    source = f"{{kind: {content.kind}, href: {content.href}}}"
    (folder / "hostile.yaml").write_text(f"id: hostile\nsource: {source}\n")
    config.write_text(
        f"upstreams: {{'{world.root.as_uri()}/': {{}}, 'http://127.0.0.1:{world.allowed}/data/': {{}}}}\n"
        "collections: ['hostile.yaml']\n"
    )
    log.truncate(0)
    seen.clear()
    started = time.monotonic()
    answers = asyncio.run(ask(config, "hostile"))
    code, said = None, ""
    if content.kind == "kerchunk":
        code, said = convert(config, file, folder / "hostile.index")
    return {
        "answers": answers, "code": code, "said": said, "log": log.getvalue(), "events": sorted(seen.events),
        "files": sorted(f for f in seen.files if not f.startswith((*OWN, str(world.root)))),
        "addresses": sorted(seen.addresses), "seconds": time.monotonic() - started,
    }  # fmt: skip


def run_all(world: World) -> dict[str, object]:
    (world.root / "cases").mkdir()
    log, seen = io.StringIO(), Seen()
    logging.basicConfig(stream=log, level=logging.INFO)
    sys.addaudithook(seen.hook)
    # what is imported on the way is imported before anything is counted
    found = {"": run("", references(), world, seen, log)}
    found[""] = run("", references([f"file://{world.root}/chunk.bin", 0, 16]), world, seen, log)
    for name, case in CASES.items():
        found[name] = run(name, case.make(world), world, seen, log)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    root, outside, allowed, forbidden = sys.argv[1:]
    result = run_all(World(Path(root), Path(outside), int(allowed), int(forbidden)))
    sys.stdout.write(json.dumps(result))
