"""Icechunk reads S3 where the configuration says, whatever AWS_* variables and AWS's own files say."""

import http.server
import subprocess
import sys
import threading
import time

import icechunk
import pytest
import zarr

from cubegate.chunks.address import parse_address
from cubegate.chunks.icechunk_upstreams import IcechunkUpstream
from cubegate.errors import UpstreamError
from cubegate.store.sources.icechunk import IcechunkAccess, open_icechunk_store

UNSIGNED = IcechunkUpstream(parse_address("s3://bucket/"))
OPEN = """
import asyncio
from cubegate.chunks.address import parse_address
from cubegate.chunks.icechunk_upstreams import IcechunkUpstream
from cubegate.store.sources.icechunk import IcechunkAccess, open_icechunk_store

access = IcechunkAccess(upstream=IcechunkUpstream(parse_address("s3://bucket/")))
allow = lambda url: None
asyncio.run(open_icechunk_store("s3://bucket/r", check_url=allow, access_for=lambda url: access))
"""


@pytest.fixture
def start_refusing():
    """Starts servers that refuse everything; gives the address and the list of what they are asked for."""
    running = []

    def start():
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def refuse(self):
                asked.append(self.path)
                self.send_response(403)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD = do_CONNECT = refuse  # noqa: N815 - as http.server calls them

            def log_message(self, *_args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def elsewhere(start_refusing, monkeypatch, tmp_path):
    """What is asked for where the environment and AWS's configuration file say that S3 and keys are."""
    url, asked = start_refusing()
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        monkeypatch.setenv(name, url)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "af-south-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "other-value")
    file = tmp_path / "aws-config"
    file.write_text(f"[default]\nendpoint_url = {url}\nregion = af-south-1\n", "utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    return asked


@pytest.fixture
def outside(start_refusing, monkeypatch):
    """What is asked for outside this machine, where nothing of it arrives."""
    url, asked = start_refusing()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, url)
    return asked


@pytest.fixture
def over_granules(tmp_path):
    """The address of a local repository whose one chunk lies in a bucket."""
    config = icechunk.RepositoryConfig.default()
    store = icechunk.s3_store(region="nowhere")
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer("s3://bucket/", store))
    folder = tmp_path / "repository"
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)), config)
    session = repository.writable_session("main")
    zarr.group(session.store).create_array("v", shape=(10,), chunks=(10,), dtype="u1", compressors=None)
    session.store.set_virtual_ref("v/c/0", "s3://bucket/key", offset=0, length=10)
    session.commit("refer")
    return folder.as_uri()


async def read(url, access):
    """Read the chunk of the repository at `url`."""
    store = await open_icechunk_store(url, check_url=lambda _url: None, access_for=lambda _url: access)
    await store.get(store.array("v"), (0,))


@pytest.mark.parametrize(
    ("region", "host"),
    [
        (None, "s3.us-east-1.amazonaws.com"),
        ("us-west-2", "s3.us-west-2.amazonaws.com"),
        ("cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
    ],
)
async def test_without_an_endpoint_granules_are_asked_of_aws_itself(
    elsewhere, outside, over_granules, *, region, host
):
    with pytest.raises(UpstreamError):
        await read(over_granules, IcechunkAccess(region=region, upstream=UNSIGNED))
    assert elsewhere == []
    assert set(outside) == {f"bucket.{host}:443"}


def test_without_an_endpoint_a_repository_is_asked_of_aws_itself(elsewhere, outside):
    # in a process of its own, since nothing ends the half minute that Icechunk tries again for
    with subprocess.Popen([sys.executable, "-c", OPEN], stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not outside and not elsewhere and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
    assert elsewhere == []
    assert set(outside) == {"bucket.s3.us-east-1.amazonaws.com:443"}


@pytest.mark.parametrize("what", ["repository", "granules"])
async def test_an_endpoint_alone_is_asked(elsewhere, outside, start_refusing, over_granules, *, what):
    endpoint, asked = start_refusing()
    url = "s3://bucket/repository" if what == "repository" else over_granules
    with pytest.raises(UpstreamError):
        await read(url, IcechunkAccess(endpoint_url=endpoint, upstream=UNSIGNED))
    assert elsewhere == outside == []
    assert asked
    assert all(path.startswith("/bucket/") for path in asked)
