"""Hostile references, mounted and converted as an operator would: refused with a word, touching nothing."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from .cases import CASES, CHUNK, REFUSED, SECRET, SKIPPED, UNREADABLE

CHUNK_PATHS = ("zarr/v/0.0", "zarr/v/c/0/0", "zarr-plain/v/0.0", "zarr-plain/v/c/0/0")


class Listed(socketserver.StreamRequestHandler):
    """The listed server: one chunk, and redirects to where nobody may go."""

    def handle(self):
        line = self.rfile.readline().decode()
        while self.rfile.readline().strip():
            pass
        path = line.split(" ")[1] if " " in line else ""
        targets = {
            "host": f"http://127.0.0.1:{self.server.forbidden}/secret.bin",
            "user": f"http://127.0.0.1:{self.server.server_address[1]}@127.0.0.1:{self.server.forbidden}/a",
            "file": f"file://{self.server.outside}/secret.bin",
            "folder": f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere/secret.bin",
            "loop": f"http://127.0.0.1:{self.server.server_address[1]}/data/redirect/loop",
        }
        place = path.removeprefix("/data/redirect/")
        self.server.asked.append(path)
        if place in targets:
            head = f"HTTP/1.1 302 Found\r\nLocation: {targets[place]}\r\nContent-Length: 0\r\n"
        else:
            head = f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(SECRET)}\r\n"
        body = "" if place in targets or line.startswith("HEAD") else SECRET
        self.wfile.write(f"{head}Connection: close\r\n\r\n{body}".encode())


class Forbidden(socketserver.BaseRequestHandler):
    """Nobody may ever come here."""

    def handle(self):
        self.server.asked.append(self.client_address)


@contextmanager
def serving(handler, **more):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.asked = True, []
        for name, value in more.items():
            setattr(server, name, value)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What became of every case, who came to the forbidden server, and what the listed one was asked."""
    base = tmp_path_factory.mktemp("hostile")
    root, outside, other, own = (base / name for name in ("root", "outside", "root-other", "own"))
    for folder in (root, outside, other, own):
        folder.mkdir()
    for folder in (outside, other):
        (folder / "secret.bin").write_text(SECRET * 1000)
    (root / "chunk.bin").write_bytes(CHUNK * 256)
    (root / "link.bin").symlink_to(outside / "secret.bin")
    (root / "zero").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe")
    script = Path(__file__).with_name("gateway.py")
    with serving(Forbidden) as forbidden:
        with serving(Listed, forbidden=forbidden.server_address[1], outside=outside) as listed:
            ports = [str(server.server_address[1]) for server in (listed, forbidden)]
            done = subprocess.run(
                [sys.executable, script, root, outside, *ports], capture_output=True, timeout=900, check=False,
                env={**os.environ, "CANARY": "canary-environment", "TMPDIR": str(own)},
            )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        yield json.loads(done.stdout), forbidden.asked, (f"127.0.0.1:{ports[0]}", listed.asked)


def statuses(result):
    return {path: status for path, status, _ in result["answers"]}


def test_what_is_not_hostile_is_served(world):
    results, _, _ = world
    result = results[""]
    found = statuses(result)
    assert [found[path] for path in ("zarr/zarr.json", "zarr/v/0.0", "zarr-plain/v/0.0")] == [200] * 3
    assert (result["code"], result["files"], result["events"]) == (0, [], [])
    assert "not served" not in result["said"]


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_reference_file(world, name):
    results, _, (address, _) = world
    case, result = CASES[name], results[name]
    found, code = statuses(result), result["code"]
    told = [text for path, _, text in result["answers"] if path == "zarr/v/.zarray"]
    said = re.sub(r"\s+", " ", " ".join([result["log"], *told] if code is None else [result["said"]]))
    assert re.search(case.said, said), said
    if case.becomes == REFUSED:
        assert code in (1, None)
        # what a server may still mount in parts, a conversion refuses
        assert all(status >= 400 for path, status in found.items() if path in CHUNK_PATHS), found
    elif case.becomes == SKIPPED:
        assert code in (0, None)
        assert "not served: v" in said or code is None
        assert {found[path] for path in CHUNK_PATHS} == {404}
    else:
        assert case.becomes == UNREADABLE
        assert code in (1, None)
        assert {found[path] for path in CHUNK_PATHS[2:]} <= {404, 502, 503, 504}
    # nothing was read, asked or run that should not have been
    assert result["files"] == []
    assert set(result["addresses"]) <= {address, "127.0.0.1"}
    assert result["events"] == []
    # nobody is told what is none of their business, and nothing is a defect
    told = json.dumps(result)
    assert SECRET not in told
    assert "canary-environment" not in told
    assert "token-value" not in told
    assert "Traceback" not in told
    assert 500 not in found.values()
    assert "Set-Cookie" not in "".join(text.partition("{'content")[2] for _, _, text in result["answers"])


def test_the_operator_is_told_by_the_server_too(world):
    results, _, _ = world
    silent = [
        name
        for name, case in CASES.items()
        if case.becomes == REFUSED
        and statuses(results[name])["zarr/zarr.json"] >= 500
        and not re.search(case.said, re.sub(r"\s+", " ", results[name]["log"]))
    ]
    assert silent == []


def test_nobody_came_to_the_forbidden_server(world):
    results, came, (_, asked) = world
    assert len(results) > 100
    assert came == []
    assert {path.rpartition("/")[0] for path in asked} == {"/data/redirect"}


def test_no_case_takes_for_ever(world):
    results, _, _ = world
    assert max(result["seconds"] for result in results.values()) < 120
