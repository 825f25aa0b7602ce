"""Routes addresses to configured upstreams, and refuses configurations that cannot work."""

import asyncio

import pytest

from cubegate.chunks.address import parse_address
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import Upstreams, open_upstreams
from cubegate.credentials import open_credentials
from cubegate.errors import ConfigurationError, UpstreamRefused
from cubegate.settings import CredentialSettings, UpstreamSettings


@pytest.fixture
def credentials():
    settings = {
        "ours": CredentialSettings(kind="s3", access_key_id_env="KEY", secret_access_key_env="SECRET"),
        "earthdata": CredentialSettings(kind="earthdata", token_env="TOKEN"),
    }
    return open_credentials(settings, {"KEY": "k", "SECRET": "s", "TOKEN": "t"})


async def test_each_address_goes_to_the_longest_prefix(tmp_path):
    for name in ("a", "a/b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    (tmp_path / "a" / "b" / "up").symlink_to("../x")
    upstreams = open_upstreams({(tmp_path / n).as_uri(): UpstreamSettings() for n in ("a", "a/b")}, {})
    assert await upstreams.get(ChunkReference((tmp_path / "a/x").as_uri())) == b"a"
    assert await upstreams.get(ChunkReference((tmp_path / "a/b/x").as_uri())) == b"a/b"
    # The link stays within the shorter prefix, and yet leaves the one that it belongs to.
    with pytest.raises(UpstreamRefused):
        await upstreams.get(ChunkReference((tmp_path / "a/b/up").as_uri()))


async def test_unlisted_addresses_are_not_contacted(start_server, response):
    listed = await start_server(lambda _: response(200, [], b"listed"))
    unlisted = await start_server(lambda _: response(200, [], b"unlisted"))
    upstreams = open_upstreams({f"{listed.url}/data/": UpstreamSettings()}, {})
    assert await upstreams.get(ChunkReference(f"{listed.url}/data/x")) == b"listed"
    for url in (f"{unlisted.url}/data/x", f"{listed.url}/other", "file:///etc/passwd", "s3://bucket/x"):
        with pytest.raises(UpstreamRefused):
            upstreams.check(url)
        with pytest.raises(UpstreamRefused):
            await upstreams.get(ChunkReference(url))
        with pytest.raises(UpstreamRefused):
            await upstreams.list(url)
    assert len(listed.requests) == 1
    assert unlisted.requests == []
    await upstreams.aclose()


async def test_a_redirect_may_go_to_another_listed_upstream_alone(start_server, response):
    data = await start_server(lambda _: response(200, [], b"data"))
    first = await start_server(lambda r: response(302, [f"Location: {data.url}{r.target}"]))
    upstreams = open_upstreams({first.url: UpstreamSettings(), f"{data.url}/open": UpstreamSettings()}, {})
    assert await upstreams.get(ChunkReference(f"{first.url}/open/x")) == b"data"
    with pytest.raises(UpstreamRefused):
        await upstreams.get(ChunkReference(f"{first.url}/closed/x"))
    assert [request.target for request in data.requests] == ["/open/x"]
    await upstreams.aclose()


async def test_the_configured_token_is_sent(start_server, response, credentials):
    server = await start_server(lambda _: response(200, [], b"data"))
    upstreams = open_upstreams({server.url: UpstreamSettings(credentials="earthdata")}, credentials)
    await upstreams.get(ChunkReference(f"{server.url}/x"))
    assert server.requests[0].headers["authorization"] == "Bearer t"
    await upstreams.aclose()


async def test_reads_in_flight_to_one_host_are_limited():
    class Slow:
        running = most = 0

        async def get(self, reference):
            Slow.running += 1
            Slow.most = max(Slow.most, Slow.running)
            await asyncio.sleep(0.001)
            Slow.running -= 1
            return b"x"

    upstreams = Upstreams({parse_address("s3://bucket/"): Slow()}, concurrency=7)
    await asyncio.gather(*(upstreams.get(ChunkReference(f"s3://bucket/{n}", 0, 1)) for n in range(100)))
    assert Slow.most == 7


@pytest.mark.parametrize(
    ("prefix", "options", "key"),
    [
        ("gs://bucket/", {}, "upstreams.gs://bucket/"),
        ("https://host/a/../b/", {}, "upstreams.https://host/a/../b/"),
        ("https://user:hidden@host/", {}, "upstreams.https://host/"),
        ("https://host/?sig=hidden", {}, "upstreams.https://host/"),
        ("/srv/granules", {}, "upstreams./srv/granules"),
        ("s3://bucket/", {}, "upstreams.s3://bucket/"),
        ("s3://bucket/", {"credentials": "earthdata"}, "upstreams.s3://bucket/.credentials"),
        ("s3://bucket/", {"credentials": "absent"}, "upstreams.s3://bucket/.credentials"),
        ("s3://bucket/", {"credentials": "ours", "anonymous": True}, "upstreams.s3://bucket/"),
        (
            "s3://bucket/",
            {"anonymous": True, "endpoint_url": "host:9000"},
            "upstreams.s3://bucket/.endpoint_url",
        ),
        ("https://host/", {"credentials": "ours"}, "upstreams.https://host/.credentials"),
        ("http://host/", {"credentials": "earthdata"}, "upstreams.http://host/.credentials"),
        ("https://host/", {"region": "us-west-2"}, "upstreams.https://host/.region"),
        ("file:///srv/", {"endpoint_url": "http://host"}, "upstreams.file:///srv/.endpoint_url"),
        ("file:///srv/", {"credentials": "earthdata"}, "upstreams.file:///srv/.credentials"),
    ],
)
def test_configurations_that_cannot_work_are_refused_by_key(prefix, options, key, credentials):
    with pytest.raises(ConfigurationError) as caught:
        open_upstreams({prefix: UpstreamSettings(**options)}, credentials)
    assert caught.value.key == key
    assert "hidden" not in str(caught.value)


def test_one_prefix_may_not_be_written_twice():
    settings = {"https://host/a": UpstreamSettings(), "HTTPS://HOST:443/a/": UpstreamSettings()}
    with pytest.raises(ConfigurationError, match="the same as"):
        open_upstreams(settings, {})
