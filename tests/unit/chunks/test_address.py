"""Holds upstream addresses to the allow-list, whatever form they take."""

import pytest

from cubegate.chunks.address import AllowList, parse_address, shown
from cubegate.errors import UpstreamRefused


def allow(*prefixes):
    return AllowList([parse_address(prefix) for prefix in prefixes])


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Host.Example:443/a", "https://host.example/a"),
        ("http://host:080", "http://host/"),
        ("http://host:8080/a b/é", "http://host:8080/a%20b/%C3%A9"),
        ("https://[::1]:443/a", "https://[::1]/a"),
        ("s3://Bucket.name/key with spaces/é%20+.nc", "s3://Bucket.name/key with spaces/é%20+.nc"),
        ("file:///srv/a%20b/c.nc", "file:///srv/a b/c.nc"),
        ("https://host/a?token=secret", "https://host/a"),
    ],
)
def test_normal_form(url, normal):
    assert str(parse_address(url)) == normal


def test_a_query_is_kept_for_the_request_alone():
    address = parse_address("https://host/a?sig=1%2F2")
    assert address.url == "https://host/a?sig=1%2F2"
    assert "sig" not in f"{address} {address!r}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/etc/passwd",
        "relative/path",
        "file:/etc/passwd",
        "file://host/etc/passwd",
        "file:///srv/%ff",
        "file:///srv/a?b",
        "gopher://host/a",
        "gs://bucket/a",
        "data:text/plain,hello",
        "javascript:alert(1)",
        "http:///a",
        "http://user@host/a",
        "http://user:password@host/a",
        "http://host@evil/a",
        "http://host:/a:b@evil",
        "http://host:99999/a",
        "http://host:0/a",
        "http://host..evil/a",
        "http://.host/a",
        "http://hôst/a",
        "http://host%2eevil/a",
        "http://ho st/a",
        "http://host\\@evil/a",
        "http://host/a\\b",
        "http://host/a%5cb",
        "http://host/a\nb",
        "http://host/a%0d%0aHost:evil",
        "http://host/a\x00",
        "http://host/a%00",
        "http://host/a#b",
        "http://host/a#",
        " http://host/a",
        "http://host/../a",
        "http://host/a/..",
        "http://host/a/./b",
        "http://host/a/%2e%2e/b",
        "http://host/a/.%2E/b",
        "http://host/a/%252e%252e/b",
        "http://host/a%2f..%2fb",
        "http://host/a/%2e%2e%2fb",
        "http://host/a/..%5cb",
        "s3://bucket/a/../b",
        "s3://bucket/%2e%2e/b",
        "s3://bucket//a",
        "s3://bucket/a//b",
        "s3://bucket:80/a",
        "s3://user@bucket/a",
        "s3:///a",
        "s3://bucket/a?versionId=1",
        "file:///srv/../etc/passwd",
        "file:///srv/%2e%2e/etc/passwd",
        "file:///srv/..",
    ],
)
def test_refuses(url):
    with pytest.raises(UpstreamRefused):
        parse_address(url)
    with pytest.raises(UpstreamRefused):
        allow("http://host/", "s3://bucket/", "file:///").resolve(url)


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        (
            "https://host/data/",
            ["https://host/data/a", "https://HOST:443/data/a/b?q=../..", "https://host/data/", "https://host/data"],
            [
                "https://host/database/a",
                "https://host/dat",
                "https://host/DATA/a",
                "https://host/data%2fa",
                "https://host/%64ata/a",
                "http://host/data/a",
                "https://host:8443/data/a",
                "https://host.evil/data/a",
                "https://evil.host/data/a",
                "https://host./data/a",
                "https://evil/data/a",
                "https://evil/https://host/data/a",
            ],
        ),
        ("https://host", ["https://host", "https://host/", "https://host/a"], ["https://hosts/a", "https://host:80/a"]),
        ("http://127.0.0.1:8080/", ["http://127.0.0.1:8080/a"], ["http://127.0.0.1/a", "http://2130706433:8080/a",
                                                               "http://127.1:8080/a", "http://localhost:8080/a"]),
        ("s3://bucket/a", ["s3://bucket/a", "s3://bucket/a/b"], ["s3://bucket/ab", "s3://Bucket/a/b", "s3://bucket.evil/a/b"]),
        ("file:///srv/granules", ["file:///srv/granules/a.nc"], ["file:///srv/granules-private/a.nc", "file:///srv", "file:///etc/passwd"]),
        ("file:///srv/a b", ["file:///srv/a b/c", "file:///srv/a%20b/c"], ["file:///srv/a/c"]),
    ],
)  # fmt: skip
def test_prefixes_match_whole_segments(prefix, inside, outside):
    allowed = allow(prefix)
    for url in inside:
        assert allowed.resolve(url)[0] == parse_address(prefix)
    for url in outside:
        with pytest.raises(UpstreamRefused, match=r"outside|host"):
            allowed.resolve(url)


def test_the_longest_prefix_wins():
    allowed = allow("s3://bucket/", "s3://bucket/a/b/", "s3://bucket/a/")
    for url, prefix in [("s3://bucket/x", "/"), ("s3://bucket/a/x", "/a/"), ("s3://bucket/a/b/x", "/a/b/")]:
        assert allowed.resolve(url)[0].path == prefix


def test_nothing_is_allowed_by_default():
    with pytest.raises(UpstreamRefused):
        allow().resolve("https://host/")


@pytest.mark.parametrize(
    "url",
    [
        "https://name:hidden@host/a",
        "https://host/a?sig=hidden",
        "https://host/a#hidden",
        "https://h/\\?hidden",
    ],
)
def test_messages_hide_queries_and_user_information(url):
    assert "hidden" not in shown(url)
    with pytest.raises(UpstreamRefused) as caught:
        allow("https://other/").resolve(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [("http://localhost/", True), ("http://127.0.0.1:81/", True), ("http://[::1]:81/", True), ("http://[::1]/", True),
     ("http://localhost.evil/", False), ("http://127.0.0.1.evil/", False), ("http://host:81/", False)],
)  # fmt: skip
def test_loopback(url, loopback):
    assert parse_address(url).loopback is loopback
