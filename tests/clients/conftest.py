"""A real server for real clients."""

import contextlib
import itertools
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from rich.console import Console
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from tests.clients.chromium import chromium
from tests.clients.demo_cubes import Demo
from tests.clients.places import make_places
from tests.clients.programs import check_clients
from tests.s3_server import connect, new_keys

from cubegate.app import create_app
from cubegate.demo import make_demo
from cubegate.settings import load_settings


def pytest_runtest_setup(item):
    check_clients(item)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The one page of a browser, which tests of a module share: each clears what it noted before."""
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(scope="session")
def demo_cubes(tmp_path_factory):
    """What `cubegate demo` makes."""
    directory = tmp_path_factory.mktemp("demo-cubes") / "demo"
    make_demo(directory, Console(quiet=True))
    return Demo(directory)


@pytest.fixture(scope="session")
def demo_url(demo_cubes, serving):
    """The URL of a server over the demo's cubes."""
    with serving(create_app(load_settings(demo_cubes.directory / "cubegate.yaml", {}), {})) as url:
        yield url


@pytest.fixture(scope="session")
def made_places(tmp_path_factory):
    return make_places(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="session")
def places(made_places):
    """The `Place` of each id: `pole`, `south`, `seam`, `aleutians`."""
    return made_places[0]


@pytest.fixture(scope="session")
def places_url(made_places, serving):
    """The URL of a server over the cubes of `places`."""
    with serving(create_app(load_settings(made_places[1], {}), {})) as url:
        yield url


@pytest.fixture(scope="session")
def served(serving):
    """Serve the configuration file `config` while the context lasts; gives the base URL."""

    def served(config, environment=None):
        environment = environment or {}
        return serving(create_app(load_settings(config, environment), environment))

    return served


@pytest.fixture(scope="session")
def serve_configuration(served):
    """Serve a configuration file with the secrets in `environment`; returns the base URL."""
    with contextlib.ExitStack() as stack:
        yield lambda config, environment: stack.enter_context(served(config, environment))


@pytest.fixture(scope="session")
def serve_application(serving):
    """Serve an ASGI application; returns the base URL."""
    with contextlib.ExitStack() as stack:
        yield lambda application: stack.enter_context(serving(application))


@pytest.fixture(scope="session")
def serve_folder(serve_application):
    """Serve the files below a folder, with ranges and without listings; returns the base URL."""
    return lambda folder: serve_application(Starlette(routes=[Mount("/", StaticFiles(directory=folder))]))


class ObjectStores:
    """Two S3 servers: one that anybody may read, and one where each bucket opens to its own keys alone."""

    open = "stack-open"
    locked = ("stack-cubes", "stack-granules", "stack-closed")

    def __init__(self, open_url, locked_url):
        self.open_url, self.locked_url = open_url, locked_url
        connect("s3", open_url).create_bucket(Bucket=self.open)
        iam, s3 = connect("iam", locked_url), connect("s3", locked_url)
        self.keys = {}
        for bucket in self.locked:
            s3.create_bucket(Bucket=bucket)
            self.keys[bucket] = new_keys(iam, bucket)

    def upload(self, folder, pattern="*"):
        """Copy the files below `folder` that match `pattern` into every bucket."""
        targets = [(connect("s3", self.open_url), self.open)]
        targets += [(connect("s3", self.locked_url), bucket) for bucket in self.locked]

        def put(target, file):
            client, bucket = target
            key = str(file.relative_to(folder))
            client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ACL="public-read")

        files = [file for file in folder.rglob(pattern) if file.is_file()]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: put(*pair), itertools.product(targets, files)))

    def lock(self):
        """From now on the second server asks for keys."""
        url = f"{self.locked_url}/moto-api/reset-auth"
        request = urllib.request.Request(url, b"0", {"Content-Type": "text/plain"}, method="POST")  # noqa: S310 - loopback
        urllib.request.urlopen(request).close()  # noqa: S310 - loopback


@contextlib.contextmanager
def object_server():
    """An S3 server in a process of its own; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while True:
            assert process.poll() is None, "moto did not start"
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def object_stores():
    with object_server() as open_url, object_server() as locked_url:
        yield ObjectStores(open_url, locked_url)


@pytest.fixture
def serve_collections(tmp_path, served):
    """Serve collections, given as dictionaries, that may read the prefixes in `allow` and `upstreams`."""
    with contextlib.ExitStack() as stack:

        def serve(*collections, allow, upstreams=None):
            directory = tmp_path / "config"
            (directory / "collections").mkdir(parents=True)
            for collection in collections:
                file = directory / "collections" / f"{collection['id']}.yaml"
                file.write_text(yaml.safe_dump(collection))
            (directory / "cubegate.yaml").write_text(
                yaml.safe_dump({"upstreams": {prefix: {} for prefix in allow} | (upstreams or {})})
            )
            return stack.enter_context(served(directory / "cubegate.yaml"))

        yield serve
