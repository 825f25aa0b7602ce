"""Has zarrita read, in node and in a page of another origin, and collects what it read."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from tests.clients.programs import ZARRITA

HERE = Path(__file__).parent
# what zarrita keeps the values of a type in
KINDS = {
    "Int8Array": "i1", "Int16Array": "<i2", "Int32Array": "<i4", "BigInt64Array": "<i8",
    "Uint8Array": "u1", "Uint16Array": "<u2", "Uint32Array": "<u4", "BigUint64Array": "<u8",
    "Float32Array": "<f4", "Float64Array": "<f8",
}  # fmt: skip
NUMERIC = ("int", "uint", "float")


@dataclass(frozen=True)
class Job:
    """A store to open by `format` (any, v2, v3) and what to read of it; without `reads` every array that it lists, whole.

    A read is a path, or a dictionary of a `path` and a `selection` (of each dimension None, a number, or [start, stop, step])
    or a `chunk`; with `digest` only the SHA-256 of its values comes.
    """

    url: str
    format: str = "any"
    consolidated: str = "must"
    suffix: bool = False
    reads: list[Any] | None = None
    keys: list[str] = field(default_factory=list)

    def document(self):
        reads = self.reads
        if reads is not None:
            reads = [{"path": read} if isinstance(read, str) else read for read in reads]
        return {**vars(self), "reads": reads}


class Answer:
    """What zarrita found of a job, or the `error` that kept the store closed; `arrays` are by path or in the order of reads."""

    def __init__(self, found, values):
        self.error = found.get("error")
        if self.error:
            return
        self.contents, self.attributes = found["contents"], found["attributes"]
        self.lengths = found["lengths"]
        self.reads = [Found(each, values.get(number)) for number, each in enumerate(found["reads"])]
        paths = (path.strip("/") for path in found["paths"])
        self.arrays = dict(zip(paths, self.reads, strict=True))


class Found:
    """What zarrita says of an array, and the `values` it read as numpy has them; or its `error`."""

    def __init__(self, found, data):
        self.error = found.get("error")
        if self.error:
            return
        self.dtype, self.shape, self.chunks = found["dtype"], tuple(found["shape"]), tuple(found["chunks"])
        self.dimensions, self.fill, self.attributes = found["dimensions"], found["fill"], found["attributes"]
        self.digest = found["digest"]
        if self.digest:
            return
        if data is None:
            values = np.array(found["values"])
            if self.dtype.startswith(NUMERIC):
                values = values.astype(self.dtype)
        else:
            values = np.frombuffer(data, KINDS[found["kind"]])
        # zarrita keeps an array's own order in memory
        strides = [step * values.itemsize for step in found["stride"]]
        self.values = np.lib.stride_tricks.as_strided(values, found["read"], strides, writeable=False)


class Workshop:
    """The origin that pages are served from, where readers leave the values that they read."""

    def __init__(self):
        self.values = {}

    def application(self):
        async def keep(request):
            self.values[request.path_params["name"]] = await request.body()
            return Response(status_code=204)

        def file(name):
            return Route(f"/{name}", lambda _: FileResponse(HERE / name))

        modules = Mount("/node_modules", StaticFiles(directory=ZARRITA))
        return Starlette(
            routes=[Route("/values/{name:path}", keep, methods=["PUT"]), *map(file, ("page.html", "reader.mjs")), modules]
        )  # fmt: skip

    def answers(self, jobs, run):
        """Have `run` answer the jobs, given as JSON has them."""
        self.values.clear()
        found = run([job.document() for job in jobs])
        return [Answer(each, self._values(number)) for number, each in enumerate(found)]

    def _values(self, job):
        named = (name.split("/") for name in self.values)
        return {int(read): self.values[f"{of}/{read}"] for of, read in named if int(of) == job}


def run_in_node(jobs, sink, directory):
    """Answer jobs by node, in a new `directory`, since it looks for packages beside a script."""
    directory.mkdir()
    (directory / "node_modules").symlink_to(ZARRITA)
    for name in ("reader.mjs", "run.mjs"):
        (directory / name).write_bytes((HERE / name).read_bytes())
    result = subprocess.run(
        ["node", directory / "run.mjs", sink],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
