"""What the upstreams section says to Icechunk, and what the operator hears of it."""

import http.server
import threading

import icechunk
import pytest
import zarr

from cubegate.app import open_catalog
from cubegate.catalog.icechunk_access import icechunk_access
from cubegate.credentials import open_credentials
from cubegate.errors import UpstreamDenied, UpstreamRefused
from cubegate.settings import CredentialSettings, UpstreamSettings, load_settings

ENVIRONMENT = {"KEY": "key-value", "SECRET": "secret-value"}
OURS = CredentialSettings(kind="s3", access_key_id_env="KEY", secret_access_key_env="SECRET")


def test_the_longest_prefix_says_how_to_read():
    access_for = icechunk_access(
        {
            "s3://bucket/": UpstreamSettings(credentials="ours", region="us-west-2"),
            "s3://bucket/open/": UpstreamSettings(anonymous=True, endpoint_url="https://127.0.0.1:9"),
            "s3://bucket/unsaid/": UpstreamSettings(),
            "file:///srv/": UpstreamSettings(),
        },
        open_credentials({"ours": OURS}, ENVIRONMENT),
    )
    access = access_for("s3://bucket/opened/x")
    assert (access.region, access.endpoint_url) == ("us-west-2", None)
    assert access.upstream.signed
    assert str(access.upstream.prefix) == "s3://bucket/"
    access = access_for("s3://bucket/open/x")
    assert (access.region, access.endpoint_url) == (None, "https://127.0.0.1:9")
    assert not access.upstream.signed
    assert access_for("s3://bucket/unsaid/x").upstream is None
    assert access_for("file:///srv/x").upstream is None
    assert access_for("s3://bucket/a").upstream is access_for("s3://bucket/b").upstream
    with pytest.raises(UpstreamRefused):
        access_for("s3://elsewhere/x")


def _write_repository(folder):
    config = icechunk.RepositoryConfig.default()
    container = icechunk.VirtualChunkContainer("s3://granules/", icechunk.s3_store(region="nowhere"))
    config.set_virtual_chunk_container(container)
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)), config)
    session = repository.writable_session("main")
    zarr.group(session.store).create_array("v", shape=(4,), chunks=(4,), dtype="u1", compressors=None)
    session.store.set_virtual_ref("v/c/0", "s3://granules/v.bin", offset=0, length=4)
    session.commit("refer")


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<Error><Code>AccessDenied</Code><Message>upstream-text-value</Message></Error>"
        if self.server.open:
            self.send_response(206)
            self.send_header("Content-Range", "bytes 0-3/4")
            body = bytes(4)
        else:
            self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


@pytest.fixture
def endpoint():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    server.open = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_the_operator_sees_which_prefix_refuses_and_that_it_gives_again(
    tmp_path, write_configuration, endpoint
):
    _write_repository(tmp_path / "repository")
    file = write_configuration(tmp_path, cube="source: {kind: icechunk, href: ../repository}")
    lines = [
        "credentials: {ours: {kind: s3, access_key_id_env: KEY, secret_access_key_env: SECRET}}",
        "upstreams:",
        f"  '{tmp_path.as_uri()}/': {{}}",
        f"  's3://granules/': {{credentials: ours, endpoint_url: 'http://127.0.0.1:{endpoint.server_port}'}}",
    ]
    file.write_text("\n".join(lines), "utf-8")
    catalog, upstreams, bridge, cache = open_catalog(load_settings(file, {}), ENVIRONMENT)
    try:
        store = (await catalog.get("cube")).store
        assert upstreams.states.refusing == ()
        with pytest.raises(UpstreamDenied) as caught:
            await store.get(store.array("v"), (0,))
        assert "-value" not in str(caught.value)
        assert [(one.upstream, one.state) for one in upstreams.states.refusing] == [
            ("s3://granules/", "denied")
        ]
        endpoint.open = True
        assert await store.get(store.array("v"), (0,)) == bytes(4)
        assert upstreams.states.refusing == ()
    finally:
        bridge.close()
        await cache.aclose()
        await upstreams.aclose()
