"""One gateway over one misbehaving upstream: a dataset for each run, so that runs do not meet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from unittest import mock

import uvicorn

from cubegate.app import create_app
from cubegate.chunks.upstream import open_upstreams
from cubegate.conversions.references import index_source
from cubegate.settings import Settings, load_settings

from .canaries import SECRETS
from .cube import CRS, Cube, json_references, parquet_references
from .faults import GOOD, Plan
from .upstream import BUCKET, ROOTS, Upstream

SOURCES = ("json", "parquet", "index", "index with checksums")
ACCESSES = ("http", "token", "s3")
# seconds: of one read of the upstream with its attempts, and of one request
READ_DEADLINE, DEADLINE = 1.0, 5.0
_NAMES = {
    "json": "cube.json", "parquet": "cube.parq", "index": "cube.index",
    "index with checksums": "checked.index",
}  # fmt: skip


class World:
    """Slots of an upstream, and gateways over them."""

    def __init__(self, folder: Path, cube: Cube, upstream: Upstream) -> None:
        self.folder, self.cube, self.upstream = folder, cube, upstream
        self._published: set[tuple[str, str, str]] = set()
        self._gateways = 0

    def publish(self, slot: str, access: str, source: str) -> str:
        """Put references of one kind over the granules of a slot; returns their address."""
        address = f"{self.upstream.url_of(access, slot)}/references/{_NAMES[source]}"
        if (slot, access, source) in self._published:
            return address
        base = f"{self.upstream.url_of(access, slot)}/granules"
        root = f"{ROOTS[access]}/{slot}/references"
        if source == "json":
            self.upstream.objects[f"{root}/{_NAMES[source]}"] = json_references(self.cube, base)
        elif source == "parquet":
            for name, data in parquet_references(self.cube, base).items():
                self.upstream.objects[f"{root}/{_NAMES[source]}/{name}"] = data
        else:
            made = self._index(self.publish(slot, access, "json"), checksums=source != "index")
            self.upstream.objects[f"{root}/{_NAMES[source]}"] = made
        self._published.add((slot, access, source))
        return address

    def _index(self, references: str, *, checksums: bool) -> bytes:
        """Convert references as `cubegate index` does."""
        output = self.folder / "made.index"
        slot = references.rpartition("/references/")[0].rpartition("/")[2]
        # the upstream does nothing bad meanwhile
        plan = self.upstream.plans.get(slot)
        self.upstream.plans[slot] = Plan(0, GOOD, "chunk", once=True)
        work = index_source(
            self.settings({}), SECRETS, references, output,
            group="", fill="auto", allow_missing_partitions=(), validators=True, checksums=checksums,
            progress=lambda *_: None,
        )  # fmt: skip
        asyncio.run(work)
        if plan is not None:
            self.upstream.plans[slot] = plan
        return output.read_bytes()

    def settings(
        self, datasets: Mapping[str, tuple[str, str]], *, redis: str | None = None, **limits: object
    ) -> Settings:
        """The settings of a gateway that mounts `datasets`: id -> (kind of source, address)."""
        self._gateways += 1
        folder = self.folder / str(self._gateways)
        folder.mkdir()
        for name, (source, address) in datasets.items():
            kind = "index" if source.startswith("index") else "kerchunk"
            text = json.dumps({"id": name, "crs": CRS, "source": {"kind": kind, "href": address}})
            (folder / f"{name}.yaml").write_text(text)
        document = {
            "server": {"access_log": True},
            "cache": {"memory": "64MiB", **({"redis": redis} if redis else {})},
            "limits": {"deadline": f"{DEADLINE}s", "requests": 2000, **limits},
            "credentials": {
                "login": {"kind": "earthdata", "token_env": "FAULTS_TOKEN"},
                "keys": {
                    "kind": "s3", "access_key_id_env": "FAULTS_KEY",
                    "secret_access_key_env": "FAULTS_SECRET", "session_token_env": "FAULTS_SESSION",
                },
            },
            "upstreams": {
                f"{self.upstream.url}{ROOTS['http']}/": {},
                f"{self.upstream.url}{ROOTS['token']}/": {"credentials": "login"},
                f"{self.upstream.second_url}/": {},
                f"{self.upstream.refused_url}/": {},
                f"s3://{BUCKET}/": {"credentials": "keys", "endpoint_url": self.upstream.url},
            },
            "collections": ["*.yaml"],
        }  # fmt: skip
        file = folder / "cubegate.conf"
        file.write_text(json.dumps(document))
        return load_settings(file, {})

    @contextlib.contextmanager
    def gateway(self, settings: Settings, *, read_deadline: float | None = READ_DEADLINE) -> Iterator[int]:
        """Serve from a thread while the context lasts; gives the port.

        A read of the upstream may take `read_deadline` seconds, None for what a server allows.
        """
        given = {} if read_deadline is None else {"deadline": read_deadline}
        with mock.patch("cubegate.app.open_upstreams", partial(open_upstreams, **given)):
            app = create_app(settings, SECRETS)
        with serving(app) as port:
            yield port


@contextlib.contextmanager
def serving(app: object) -> Iterator[int]:
    """Serve an ASGI application from a thread on a free port while the context lasts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=True, backlog=1000))  # type: ignore[arg-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
            logging.getLogger(__name__).debug("a gateway has ended")
