from __future__ import annotations

import gzip
import json

import pytest
import zstandard

from cubegate.errors import InvalidReference
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.builders.reference_text import read_text
from cubegate.index.references import resolve_url

BASE = "s3://references/folder/cube.json"
ARRAY = {"zarr_format": 2, "shape": [4, 6], "chunks": [2, 2], "dtype": "<f4", "fill_value": None,
         "filters": None, "compressor": None, "order": "C"}  # fmt: skip


def build(references, **options):
    data = references if isinstance(references, bytes) else json.dumps(references).encode()
    return build_from_kerchunk_json(data, **({"base_url": BASE, "check_url": lambda _: None} | options))


def one_array(chunks, document=ARRAY, attributes=None):
    return {
        ".zgroup": {"zarr_format": 2},
        "v/.zarray": document,
        "v/.zattrs": attributes or {"_ARRAY_DIMENSIONS": ["y", "x"]},
        **chunks,
    }


@pytest.mark.parametrize(
    ("chunks", "match"),
    [
        ({"v/2.0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/0.0.0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/-1.0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/00.0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/+0.0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/\N{ARABIC-INDIC DIGIT ONE}.0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({f"v/{'9' * 5000}.0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/0/0": ["s3://d/a", 0, 1]}, "chunk key"),
        ({"v/": "abcd"}, "chunk key"),
        ({"v/.zchunkstore": {}}, "chunk key"),
        ({"w/0.0": ["s3://d/a", 0, 1]}, "no array"),
        ({"../v/0.0": ["s3://d/a", 0, 1]}, "not a Zarr key"),
        ({"v//0.0": ["s3://d/a", 0, 1]}, "not a Zarr key"),
        ({"v/0.0": ["s3://d/a", -1, 1]}, "byte range"),
        ({"v/0.0": ["s3://d/a", 2**63, 1]}, "byte range"),
        ({"v/0.0": ["s3://d/a", 0, 2**32 - 1]}, "byte range"),
        ({"v/0.0": ["s3://d/a", 0, 0]}, "byte range"),
        ({"v/0.0": ["s3://d/a", 0.5, 1]}, "whole numbers"),
        ({"v/0.0": ["s3://d/a", "0", 1]}, "whole numbers"),
        ({"v/0.0": ["s3://d/a", True, 1]}, "whole numbers"),
        ({"v/0.0": ["s3://d/a", 1]}, "neither|not text"),
        ({"v/0.0": [None, 0, 1]}, "not text"),
        ({"v/0.0": {"url": "s3://d/a"}}, "not text"),
        ({"v/0.0": None}, "not text"),
        ({"v/0.0": 3}, "not text"),
        ({"v/0.0": "base64:*"}, "base64"),
        ({"v/0.0": ["{{a}}/b", 0, 1]}, "template"),
        ({"v/0.0": ["", 0, 1]}, "address"),
        ({"v/0.0": ["s3://d/\ud800", 0, 1]}, "address"),
        ({"v/0.0": ["simplecache::s3://d/a", 0, 1]}, "address"),
        ({"v/0.0": ["zip://a.nc::s3://d/a.zip", 0, 1]}, "address"),
        ({"v/0.0": ["s3://d/a\nb", 0, 1]}, "address"),
        ({"v/0.0": ["s3://d/../a", 0, 1]}, "climbs"),
        ({"v/0.0": ["https://host/a/%2e%2e/b", 0, 1]}, "climbs"),
        ({"v/0.0": ["file:///srv/../etc/passwd", 0, 1]}, "climbs"),
        ({"w/.zattrs": ["s3://d/a", 0, 1]}, "not in the reference file"),
        ({"w/.zattrs": "{"}, "not JSON"),
        ({"w/.zattrs": "\udfff"}, "not text"),
        ({"\ud800/.zarray": ARRAY}, "not a Zarr key"),
        ({"v/0.0": "\ud800"}, "not text"),
        ({"w/.zattrs": "[" * 100_000}, "not JSON"),
        ({"w/.zattrs": "[]"}, "not a JSON object"),
        ({".zarray": ARRAY}, "root"),
    ],
)
def test_hostile_references_are_refused(chunks, match):
    with pytest.raises(InvalidReference, match=match):
        build(one_array(chunks))


@pytest.mark.parametrize(
    ("document", "match"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 10_000, "not JSON"),
        (b"[{}]", "not a JSON object"),
        (b"{}", "no Zarr metadata"),
        (b"{} {}", "not JSON"),
        (b'{"v/.zattrs": "{}",}', "not JSON"),
        (b'{"v/.zattrs": "{}" "v/0.0": "a"}', "not JSON"),
        (b'{"v/.zattrs" "{}"}', "not JSON"),
        (b'{"v/.zattrs": 01}', "not JSON"),
        (b'{"v/.zattrs": "{}", 1: 2}', "not JSON"),
        (b'{"v/.zattrs": "\n"}', "not JSON"),
        (b'{"v/.zattrs": "{}", "v/0.0": ' + b"[" * 100_000, "not JSON"),
        (b'{"v/.zattrs": "{}", "v/.zattrs": "{}"}', "twice"),
        (b'{"version": 1, "version": 1, "refs": {}}', "twice"),
        (b'{"version": 1, "refs": {}, "refs": {}}', "twice"),
        (b'{"version": 2, "refs": {}}', "version"),
        (b'{"version": true, "refs": {}}', "version"),
        (b'{"version": "1", "refs": {}}', "version"),
        (b'{"version": 1}', "no 'refs'"),
        (b'{"version": 1, "refs": []}', "no 'refs'"),
        (b'{"version": 1, "templates": {"u": "s3://a"}, "refs": {}}', "templates"),
        (b'{"version": 1, "gen": [{"key": "a"}], "refs": {}}', "gen"),
        (gzip.compress(b'{"version": 1}', mtime=0)[:-4], "damaged"),
        (gzip.compress(bytes(100), mtime=0)[:20], "damaged"),
        (zstandard.compress(b'{"version": 1}')[:-4], "not JSON|damaged"),
        (b"\x28\xb5\x2f\xfdnonsense", "damaged"),
        (b"\x1f\x8bnonsense", "damaged"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(document, match):
    with pytest.raises(InvalidReference, match=match):
        build(document)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bytes])
def test_bombs_are_refused(compress):
    def text(nbytes):
        return "".join(read_text(compress(b" " * nbytes), report=lambda *_: None, max_nbytes=1000))

    with pytest.raises(InvalidReference, match="larger than 1,000"):
        text(1001)
    assert text(1000) == " " * 1000


def test_inlined_data_are_bounded(monkeypatch):
    monkeypatch.setattr("cubegate.index.references.MAX_INLINE_NBYTES", 10)
    monkeypatch.setattr("cubegate.index.references.MAX_TOTAL_INLINE_NBYTES", 25)
    build(one_array({"v/0.0": "a" * 10, "v/0.1": "a" * 10}))
    for chunks in ({"v/0.0": "a" * 11}, {f"v/0.{x}": "a" * 9 for x in range(3)}):
        with pytest.raises(InvalidReference, match="inlined"):
            build(one_array(chunks))


def test_messages_hide_the_query_of_an_address():
    with pytest.raises(InvalidReference) as raised:
        resolve_url("https://host/../a?signature=abc", BASE)
    assert "abc" not in str(raised.value)
