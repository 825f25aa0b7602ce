"""Reference files and addresses that nobody thought of: refused, or within what is allowed."""

from __future__ import annotations

import asyncio
import json
import posixpath
import socket
import sys
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubegate.chunks.coalesced import Coalesced
from cubegate.chunks.upstream import open_upstreams
from cubegate.errors import CubegateError, UpstreamRefused
from cubegate.index.build import build_index
from cubegate.index.references import resolve_url
from cubegate.settings import UpstreamSettings
from cubegate.store.decoder import Decoder
from cubegate.store.encoded import EncodedStore

from .cases import CHUNK, references

seen = {"watching": False, "files": [], "connections": []}


def _watch(event, arguments):
    if not seen["watching"]:
        return
    if event == "open" and isinstance(arguments[0], str):
        seen["files"].append(arguments[0])
    elif event in ("socket.connect", "socket.getaddrinfo"):
        seen["connections"].append(arguments[-1])


sys.addaudithook(_watch)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that may be read, with upstreams for it alone, and a port that nobody may come to."""
    base = tmp_path_factory.mktemp("anything")
    root = base / "root"
    root.mkdir()
    (base / "secret.bin").write_bytes(b"secret" * 100)
    (root / "chunk.bin").write_bytes(CHUNK * 4)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        upstreams = open_upstreams(
            {f"{root.as_uri()}/": UpstreamSettings(), f"http://127.0.0.1:{port}/data/": UpstreamSettings(),
             "s3://bucket/data/": UpstreamSettings(anonymous=True)}, {},
        )  # fmt: skip
        yield root, port, upstreams
        with pytest.raises(BlockingIOError):
            server.accept()


FRAGMENTS = [
    "file://", "http://", "https://", "s3://", "HTTP://", "ftp://", "/", "//", "\\", "..", ".", "%2e", "%2E%2e",
    "%252e", "%2f", "%5c", "@", ":", "#", "?", "&", "a", "127.0.0.1", "localhost", "[::1]", "0x7f.1", "::",
    "ROOT", "PORT", "data", "secret.bin", "chunk.bin", "bucket", "{{u}}", "\0", "\n", "\uff0f", "\ud800", " ", "%", "%00",
]  # fmt: skip
ADDRESSES = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=12).map("".join)
LIKELY = st.tuples(
    st.sampled_from(["file://ROOT/", "http://127.0.0.1:PORT/data/", "s3://bucket/data/", "", "/", "ROOT/"]),
    ADDRESSES,
).map("".join)


def is_within(url, root, port):
    """An own opinion on whether `url` is below one of the prefixes, whoever decodes it how often."""
    parts = urlsplit(url)
    prefix = {"file": str(root), "http": "/data", "s3": "/data"}.get(parts.scheme)
    place = {"file": "", "http": f"127.0.0.1:{port}", "s3": "bucket"}.get(parts.scheme)
    path, within = parts.path, prefix is not None and parts.netloc == place and not parts.fragment
    for _ in range(4):
        normal = posixpath.normpath(path.replace("\\", "/"))
        within = within and f"{normal}/".startswith(f"{prefix}/")
        path = unquote(path)
    return within


@given(written=LIKELY | ADDRESSES)
@settings(max_examples=1500, deadline=None)
def test_an_address_that_is_accepted_is_within_what_is_allowed(place, written):
    root, port, upstreams = place
    written = written.replace("ROOT", str(root)).replace("PORT", str(port))
    url, refusal = "", ""
    try:
        url = resolve_url(written, f"{root.as_uri()}/references.json")
        upstreams.check(url)
    except CubegateError as error:
        refusal = str(error)
    assert not {"\n", "\r", "\0"} & set(refusal)
    # what stands behind a question mark goes to the server that was chosen before it
    assert refusal or is_within(url.partition("?")[0], root, port), url


def test_the_own_opinion_knows_what_is_outside(place):
    root, port, _ = place
    good = [f"file://{root}/a", f"http://127.0.0.1:{port}/data/a", "s3://bucket/data/a/b"]
    assert all(is_within(url, root, port) for url in good)
    bad = [f"file://{root}/../a", f"file://{root}/%2e%2e/a", f"file://{root}-b/a", "s3://bucket/database",
           f"http://127.0.0.1:{port}/data/%252e%252e/%2e%2e/a", f"http://a@127.0.0.1:{port}/data/a"]  # fmt: skip
    assert not any(is_within(url, root, port) for url in bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | LIKELY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    ["shape", "chunks", "dtype", "filters", "compressor", "fill_value", "order", "dimension_separator", "id",
     "zarr_format", "_ARRAY_DIMENSIONS", "_FillValue", "version", "templates", "gen", "refs", ".zmetadata", "0.0"]
)  # fmt: skip


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(inner):
        yield from places(one, (*path, key))


@st.composite
def mutated(draw):
    """References of which some values are others, some are gone and some are more."""
    codecs = {"compressor": {"id": "zlib"}, "filters": [{"id": "shuffle"}]}
    document = json.loads(json.dumps(references(["chunk.bin", 0, 16], codecs)))
    if draw(st.booleans()):
        document = {"version": 1, "refs": document}
    for _ in range(draw(st.integers(1, 3))):
        *inner, last = draw(st.sampled_from(list(places(document))[1:]))
        part = document
        for key in inner:
            part = part[key]
        action = draw(st.sampled_from(["change", "remove", "add"]))
        if action == "add" and isinstance(part, dict):
            part[draw(WORDS | st.text(max_size=8))] = draw(JSON)
        elif action == "remove":
            part.pop(last)
        else:
            part[last] = draw(JSON)
        if not document:
            break
    return json.dumps(document).encode()


@given(text=mutated())
@settings(max_examples=400, deadline=None)
def test_any_reference_file_is_refused_or_read_within_what_is_allowed(place, text):
    root, *_ = place
    (root / "references.json").write_bytes(text)
    upstreams = open_upstreams({f"{root.as_uri()}/": UpstreamSettings()}, {})

    async def use():
        index = await build_index(
            (root / "references.json").as_uri(),
            upstreams,
            check_url=upstreams.check,
            require_coordinates=False,
        )
        store = EncodedStore(index.hierarchy, index, Coalesced(upstreams), version=index.version)
        for array in index.hierarchy.arrays.values():
            if array.chunk_count and array.chunk_nbytes < 2**20:
                with suppress(CubegateError):
                    data = await store.get(array, (0,) * len(array.shape))
                    if data is not None:
                        Decoder(array).decode(data)

    seen.update(files=[], connections=[], watching=True)
    with suppress(CubegateError):
        asyncio.run(use())
    seen["watching"] = False
    own = (str(root), sys.prefix, sys.base_prefix, str(Path(__file__).parents[4]))
    assert [file for file in seen["files"] if not file.startswith(own)] == []
    assert seen["connections"] == []


def test_a_refusal_names_what_and_where(place):
    root, port, _ = place
    upstreams = open_upstreams({f"{root.as_uri()}/": UpstreamSettings()}, {})
    url = resolve_url(f"http://127.0.0.1:{port}/a.nc?X-Amz-Signature=token-value", f"{root.as_uri()}/r.json")
    with pytest.raises(UpstreamRefused, match=rf"http://127\.0\.0\.1:{port}/a\.nc is outside") as caught:
        upstreams.check(url)
    assert "token-value" not in str(caught.value)
