"""The hostile references: what each one tries, what becomes of it, and what the operator is told."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REFUSED, SKIPPED, UNREADABLE = "refused", "not served", "unreadable"
SECRET = "canary-outside"
CHUNK = bytes(range(16))


@dataclass(frozen=True)
class World:
    """Where a case may read (`root`, `allowed`), and where nobody may (`outside`, `forbidden`)."""

    root: Path
    outside: Path
    allowed: int
    forbidden: int


@dataclass(frozen=True)
class Store:
    """Files below a folder, to be mounted as `kind`; only `kerchunk` can be converted too."""

    kind: str
    href: str
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Case:
    """One reference file, or a store.

    `becomes` is `refused` (the whole cube), `not served` (the array) or `unreadable` (its chunk);
    `said` is a regular expression for what `cubegate index` and the log tell.
    """

    make: Callable[[World], Any]
    becomes: str
    said: str


ARRAY = {
    "zarr_format": 2, "shape": [2, 2], "chunks": [2, 2], "dtype": "<f4", "fill_value": None,
    "filters": None, "compressor": None, "order": "C",
}  # fmt: skip
CASES: dict[str, Case] = {}


def references(chunk=None, document=None, attributes=None, **more):
    """References to one array `v`, of one chunk that is `chunk`."""
    found = {
        ".zgroup": {"zarr_format": 2},
        "v/.zarray": {**ARRAY, **(document or {})},
        "v/.zattrs": {"_ARRAY_DIMENSIONS": ["y", "x"], **(attributes or {})},
        "v/0.0": "base64:" + base64.b64encode(CHUNK).decode() if chunk is None else chunk,
        **more,
    }
    return {key: value for key, value in found.items() if value is not ...}


def add(name, becomes, said, make):
    assert name not in CASES
    CASES[name] = Case(make if callable(make) else lambda _: make, becomes, said)


def add_url(name, url, said, becomes=REFUSED):
    add(name, becomes, said, lambda world: references([url.format(**_places(world)), 0, 16]))


def _places(world):
    return {
        "root": world.root,
        "outside": world.outside,
        "allowed": world.allowed,
        "forbidden": world.forbidden,
    }


OUTSIDE = "outside the configured upstreams"
CLIMBS = "climbs out"
MALFORMED = r"not an absolute URL|dot segments|plain host|not an address|neither s3|fragment|user"

for _name, _url, _said in [
    ("a template in an address", "{{{{u}}}}/secret.bin", "template"),
    ("a local file", "file://{outside}/secret.bin", OUTSIDE),
    ("a local file of the system", "file:///etc/passwd", OUTSIDE),
    ("an absolute path", "{outside}/secret.bin", OUTSIDE),
    ("an absolute path with more slashes", "///{outside}/secret.bin", f"{OUTSIDE}|{MALFORMED}"),
    ("a relative path that climbs", "../../../outside/secret.bin", OUTSIDE),
    ("a relative path that climbs from below", "a/b/../../../../../outside/secret.bin", OUTSIDE),
    ("a path with a backslash", "..\\outside\\secret.bin", f"{OUTSIDE}|{MALFORMED}"),
    ("a file address that climbs", "file://{root}/../outside/secret.bin", CLIMBS),
    ("a file address that climbs, encoded", "file://{root}/%2e%2e/outside/secret.bin", CLIMBS),
    ("a file address that climbs, encoded twice", "file://{root}/%252e%252e/outside/secret.bin", MALFORMED),
    (
        "a file address that climbs by encoded backslashes",
        "file://{root}/%5c..%5c/secret.bin",
        f"{CLIMBS}|{MALFORMED}",
    ),
    ("a file address with a host", "file://localhost{outside}/secret.bin", MALFORMED),
    ("a file address of more slashes", "file:////{outside}/secret.bin", f"{OUTSIDE}|{MALFORMED}"),
    ("a file of a name that only begins like the folder", "file://{root}-other/secret.bin", OUTSIDE),
    ("another scheme", "ftp://127.0.0.1:{forbidden}/secret.bin", MALFORMED),
    ("a scheme that needs no host", "data:text/plain,canary", "does not exist"),
    ("gopher", "gopher://127.0.0.1:{forbidden}/_secret", MALFORMED),
    ("a server that is not listed", "http://127.0.0.1:{forbidden}/secret.bin", OUTSIDE),
    ("the listed server by another name", "http://localhost:{allowed}/data/chunk.bin", OUTSIDE),
    ("the listed server at another port", "http://127.0.0.1:80/data/chunk.bin", OUTSIDE),
    ("the listed server by another scheme", "https://127.0.0.1:{allowed}/data/chunk.bin", OUTSIDE),
    ("a folder beside the listed one", "http://127.0.0.1:{allowed}/database/chunk.bin", OUTSIDE),
    ("out of the listed folder", "http://127.0.0.1:{allowed}/data/../secret.bin", CLIMBS),
    ("out of the listed folder, encoded", "http://127.0.0.1:{allowed}/data/%2E%2e/secret.bin", CLIMBS),
    (
        "out of the listed folder, encoded twice",
        "http://127.0.0.1:{allowed}/data/%252e%252e/secret.bin",
        MALFORMED,
    ),
    ("user information", "http://user:token-value@127.0.0.1:{allowed}/data/chunk.bin", MALFORMED),
    (
        "the listed server as user information",
        "http://127.0.0.1:{allowed}@127.0.0.1:{forbidden}/data/a",
        MALFORMED,
    ),
    ("a fragment that hides a host", "http://127.0.0.1:{forbidden}#@127.0.0.1:{allowed}/data/a", MALFORMED),
    ("a backslash that hides a host", "http://127.0.0.1:{forbidden}\\@127.0.0.1:{allowed}/data/a", MALFORMED),
    ("an address as one number", "http://2130706433:{forbidden}/secret.bin", OUTSIDE),
    ("an address in hexadecimal", "http://0x7f.0.0.1:{forbidden}/secret.bin", OUTSIDE),
    ("an address of IPv6", "http://[::1]:{forbidden}/secret.bin", OUTSIDE),
    ("an IPv4 address in IPv6", "http://[::ffff:127.0.0.1]:{forbidden}/secret.bin", OUTSIDE),
    ("a host that ends in a dot", "http://127.0.0.1.:{forbidden}/secret.bin", f"{OUTSIDE}|{MALFORMED}"),
    ("a host in full-width digits", "http://\uff11\uff12\uff17.0.0.1:{forbidden}/secret.bin", MALFORMED),
    ("the metadata service of a cloud", "http://169.254.169.254/latest/meta-data/", OUTSIDE),
    ("a bucket that is not listed", "s3://not-listed/secret.bin", OUTSIDE),
    ("a port that does not exist", "http://127.0.0.1:99999/data/a", "port"),
    ("a port that is no number", "http://127.0.0.1:8o/data/a", MALFORMED),
    ("no host", "http:///secret.bin", MALFORMED),
    ("a chained address", "simplecache::http://127.0.0.1:{forbidden}/secret.bin", MALFORMED),
    ("an archive in a chain", "zip://a.nc::file://{outside}/secret.zip", MALFORMED),
    ("a line in an address", "http://127.0.0.1:{allowed}/data/a\r\nX-Injected: yes", MALFORMED),
    ("a zero in a path", "file://{root}/chunk.bin\0.nc", MALFORMED),
    ("nothing for an address", "", MALFORMED),
    ("spaces for an address", "   ", f"{OUTSIDE}|{MALFORMED}|does not exist|not a"),
]:
    add_url(_name, _url, _said)
for _name, _url, _said in [
    ("a redirect to a server that is not listed", "http://127.0.0.1:{allowed}/data/redirect/host", OUTSIDE),
    (
        "a redirect to another port by user information",
        "http://127.0.0.1:{allowed}/data/redirect/user",
        MALFORMED,
    ),
    ("a redirect to a local file", "http://127.0.0.1:{allowed}/data/redirect/file", OUTSIDE),
    ("a redirect out of the listed folder", "http://127.0.0.1:{allowed}/data/redirect/folder", OUTSIDE),
    ("redirects for ever", "http://127.0.0.1:{allowed}/data/redirect/loop", "redirect"),
    ("a symbolic link that leads out", "file://{root}/link.bin", "leads outside"),
    ("a named pipe", "file://{root}/pipe", "not a regular file"),
    ("a device, through a link", "file://{root}/zero", "leads outside"),
]:
    add_url(_name, _url, _said, UNREADABLE)

GOOD = "file://{root}/chunk.bin"


def add_range(name, said, *parts, becomes=REFUSED):
    add(name, becomes, said, lambda world: references([f"file://{world.root}/chunk.bin", *parts]))


add_range("a negative offset", "byte range", -1, 16)
add_range("a negative length", "byte range", 0, -16)
add_range("a length of nothing", "byte range", 0, 0)
add_range("an offset that no file has", "byte range", 2**63, 16)
add_range("a length that no chunk has", "byte range", 0, 2**32 - 1)
add_range("a length beyond numbers", "byte range", 0, 10**400)
add_range("an offset that is no whole number", "whole numbers", 0.5, 16)
add_range("an offset that is a text", "whole numbers", "0", 16)
add_range("an offset that is a truth value", "whole numbers", False, 16)
add_range("a length that is nothing", "whole numbers", 0, None)
add_range("a range of two", r"not text, \[url\]", 0)
add_range("a range beyond the end", r"up to 1,016, and it has 4,096|ends before", 4080, 1016 - 4080 + 4080)
add_range("fewer bytes than a chunk", "ends before|decode|bytes", 0, 15, becomes=UNREADABLE)
del CASES["a range beyond the end"]
add_range("bytes beyond the end of the granule", r"up to 4,112, and it has 4,096", 4096, 16)


def add_document(name, said, becomes=SKIPPED, **document):
    add(name, becomes, said, references(document=document))


add_document("a shape of text", "not a shape", shape="22")
add_document("a shape of fractions", "not a shape", shape=[2.0, 2])
add_document("a shape of truth values", "not a shape", shape=[True, True])
add_document("a shape of nothing", "not a shape", shape=None)
add_document("a shape of objects", "not a shape", shape=[{}, []])
add_document("a negative shape", "not a shape", shape=[-2, 2])
add_document("a shape beyond numbers", "not a shape", shape=[10**400, 2])
add_document("a shape of a thousand dimensions", "not a shape", shape=[2] * 1000, chunks=[2] * 1000)
add_document("chunks of text", "not a shape", chunks="22")
add_document("more chunks than an index holds", "chunks, more than", shape=[10**6, 10**6])
add_document("a chunk of terabytes", "over 2 GiB", shape=[10**6, 10**6], chunks=[10**6, 10**6])
add_document("a chunk of long texts", "over 2 GiB", shape=[100, 100], chunks=[100, 100], dtype="|S999999999")
add_document("values of no size", "have no size", dtype="|S0")
add_document("a type that is code", "dtype|type string", dtype="f4; __import__('os').system('id')")
add_document("a type of Python objects", "no filter says", dtype="|O")
add_document("a type of nothing", "dtype|type string|cannot be read", dtype=None)
add_document("a type nested in itself", "cannot be read|dtype", dtype=[["a", [["b", [["c", "<Q99"]]]]]])
add_document("another format", "not Zarr format 2", zarr_format=9)
add_document("an order that is none", "order", order="X")
add_document("a fill value beyond numbers", "cannot be read", fill_value=10**400)
add_document("a fill value of another type", "cannot be read", fill_value={"a": 1})
add_document(
    "a codec that runs what it is given", "'pickle' is not one", filters=[{"id": "pickle"}], dtype="|O"
)
add_document("a codec that nobody knows", "'msgpack2' is not one", compressor={"id": "msgpack2"})
add_document("a codec without a name", "'None' is not one", compressor={"level": 1})
add_document("a codec named by an object", "is not one", compressor={"id": {"a": 1}})
add_document("a codec that is a text", "is not one", compressor="zlib")
add_document("a hundred codecs", "more than 16", filters=[{"id": "zlib"}] * 100)
add_document("a parameter that a codec does not have", "parameters", filters=[{"id": "crc32", "run": "id"}])
add_document("a shuffle of no bytes", "parameters", filters=[{"id": "shuffle", "elementsize": 0}])
add_document("a shuffle of a billion bytes", "parameters", filters=[{"id": "shuffle", "elementsize": 10**9}])
add_document("a type that makes each value a gigabyte", "parameters",
             filters=[{"id": "astype", "encode_dtype": "|S1", "decode_dtype": "|S1000000000"}])  # fmt: skip
add_document("a delta of objects", "parameters", filters=[{"id": "delta", "dtype": "|O"}])
add_document("a dictionary of gigabytes", "parameters",
             compressor={"id": "lzma", "format": 3, "filters": [{"id": 33, "dict_size": 2**31}]})  # fmt: skip
add_document("a format of lzma that does not exist", "parameters", compressor={"id": "lzma", "format": 77})
add_document("code for the type of strings", "parameters", dtype="|O",
             filters=[{"id": "fill_hdf_strings", "dtype": "[__import__('os').system('id')]"}])  # fmt: skip
add_document("brackets for the type of strings", "parameters", dtype="|O",
             filters=[{"id": "fill_hdf_strings", "dtype": "[" * 60_000}])  # fmt: skip
add_document("JSON in an encoding of its own", "parameters", dtype="|O",
             filters=[{"id": "json2", "encoding": "unicode_escape"}])  # fmt: skip
add_document("the addresses of objects as values", "something else|no filter says", dtype="|O",
             filters=[{"id": "shuffle", "elementsize": 8}, {"id": "vlen-utf8"}])  # fmt: skip
add_document("texts as numbers", "something else", dtype="<f8", filters=[{"id": "vlen-utf8"}])
add("JSON of objects that are no chunk", UNREADABLE, "does not decode", references(
    json.dumps(["a", "|O", [10**12]]), {"dtype": "|O", "filters": [{"id": "json2"}]}))  # fmt: skip
add("a name for a dimension that is two lines", SKIPPED, "control characters",
    references(attributes={"_ARRAY_DIMENSIONS": ["y\r\nSet-Cookie: a=b", "x"]}))  # fmt: skip
add("names for dimensions that are none", SKIPPED, "not a list of names|names",
    references(attributes={"_ARRAY_DIMENSIONS": [["y"], {}]}))  # fmt: skip


def add_key(name, key, said="not a Zarr key"):
    add(name, REFUSED, said, references(**{f"{key}/.zarray": ARRAY}))


add_key("a name that climbs", "../v2")
add_key("a name that climbs, encoded", "%2e%2e/v2")
add_key("a name that climbs, encoded twice", "a/%252e%252e/v2")
add_key("a name with a backslash", "a\\..\\v2")
add_key("a name of nothing", "a//v2")
add_key("a name of two lines", "a\r\nSet-Cookie: b=c")
add_key("a name with a zero", "v\0")
add_key("a name that turns the text around", "v\u202egnp.exe")
add_key("a name that is no text", "\ud800")
add_key("a name of a megabyte", "a" * 2**20)
add_key("names nested ten thousand deep", "/".join("a" * 10_000))
add_key("a document for a name", "v2/.zarray")
add("an address of megabytes", REFUSED, MALFORMED, references(["file:///" + "a/" * 2**20, 0, 16]))
add("an absolute key", REFUSED, "not a Zarr key|no array", references(**{"/etc/passwd": ["/etc/passwd"]}))
add("a key of no array", REFUSED, "belongs to no array", references(**{"w/0.0": "abcd"}))
add("a chunk outside of the grid", REFUSED, "not a chunk key", references(**{"v/9.9": "abcd"}))
add("a chunk of a negative number", REFUSED, "not a chunk key", references(**{"v/-1.0": "abcd"}))
add("a chunk that is an object", REFUSED, "not text", references({"url": "file:///etc/passwd"}))
add("a chunk that is a number", REFUSED, "not text", references(7))
add("inlined data that are not base64", REFUSED, "not base64", references("base64:****"))
add("more inlined data than is allowed", REFUSED, "more inlined data", references("a" * (2**24 + 1)))
add("metadata in another file", REFUSED, "not in the reference file itself",
    references(**{"w/.zattrs": ["file:///etc/passwd", 0, 100]}))  # fmt: skip
add(
    "attributes of 20 MB",
    REFUSED,
    "over 16,777,216 characters",
    references(attributes={"a": "b" * 20_000_000}),
)
add("attributes nested ninety deep", REFUSED, "nested over 64",
    lambda _: references(attributes={"a": json.loads("[" * 90 + "]" * 90)}))  # fmt: skip
add("attributes in a text, nested deeper than any stack", REFUSED, "not JSON",
    references(**{"w/.zattrs": '{"a":' * 200_000}))  # fmt: skip
add("an array for attributes", REFUSED, "not a JSON object", references(**{"v/.zattrs": "[1]"}))
add("a number for a document", REFUSED, "not a JSON object", references(**{"v/.zarray": 7}))
add(
    "templates",
    REFUSED,
    "'templates'",
    {"version": 1, "templates": {"u": "file:///etc"}, "refs": references()},
)
add("generated references", REFUSED, "'gen'",
    {"version": 1, "gen": [{"key": "v/{{i}}", "url": "file:///etc/{{i}}", "dimensions": {"i": {"stop": 10**9}}}],
     "refs": references()})  # fmt: skip
add("a version that nobody knows", REFUSED, "version", {"version": 7, "refs": references()})
add("a list for references", REFUSED, "no 'refs'", {"version": 1, "refs": [1]})

RAW = {
    "the same key twice": (b'{"v/.zarray": {}, "v/.zarray": {}}', "twice"),
    "the same chunk twice": (json.dumps(references()).encode()[:-1] + b', "v/0.0": "abcd"}', "twice"),
    "brackets without an end": (b'{"a": ' + b"[" * 1_000_000, "not JSON"),
    "a login page": (b"<!DOCTYPE html><title>Log in</title>", "not JSON"),
    "half of a file": (json.dumps(references()).encode()[:-9], "not JSON"),
    "a compressed file that is cut": (gzip.compress(json.dumps(references()).encode())[:-9], "damaged"),
    "a number of a million digits": (b'{"a": ' + b"9" * 1_000_000 + b"}", "not JSON"),
    "a text without an end": (gzip.compress(b'{"a": "' + b"a" * (2**27), 1), "over 67,108,864"),
}  # fmt: skip
for _name, (_content, _said) in RAW.items():
    add(_name, REFUSED, _said, _content)


def v3(codecs, **more):
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [2, 2], "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0.0, "codecs": codecs, "attributes": {}, **more,
    }  # fmt: skip
    return references(..., **{"v/.zarray": ..., "v/.zattrs": ..., ".zgroup": ..., "v/zarr.json": document,
                              "zarr.json": {"zarr_format": 3, "node_type": "group"},
                              "v/c/0/0": "base64:" + base64.b64encode(CHUNK).decode()})  # fmt: skip


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def sharding(inner, **more):
    return [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1], "codecs": inner, **more}}]


for _name, _said, _codecs, _more in [
    ("a codec of v3 that nobody knows", "is not one", [BYTES, {"name": "numcodecs.pickle"}], {}),
    ("a codec of v3 inside of a shard", "is not one", sharding([BYTES, {"name": "numcodecs.pickle"}]), {}),
    ("a codec for the index of a shard", "shard's index",
     sharding([BYTES], index_codecs=[BYTES, {"name": "gzip", "configuration": {"level": 1}}]), {}),
    ("no codecs", "no codec says|cannot be", [], {}),
    ("codecs that are no objects", "is not one", ["bytes", 7], {}),
    ("codecs that are a text", "is not one", "bytes", {}),
    ("a chunk grid that is none", "cannot be read|not regular", [BYTES], {"chunk_grid": {"name": "evil"}}),
    ("a chunk of v3 of terabytes", "over 2 GiB", [BYTES], {
        "shape": [10**6] * 2,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**6] * 2}}}),
    ("a shape of v3 that is none", "not a shape", [BYTES], {"shape": ["2", 2]}),
    ("a type of v3 that is none", "cannot be read", [BYTES], {"data_type": "../evil"}),
    ("an extension that must be understood", "cannot be read", [BYTES], {"evil": {"must_understand": True}}),
    ("shards in shards of another size", "cannot be read|shard", sharding([BYTES], chunk_shape=[3, 3]), {}),
    ("inner chunks of no size", "cannot be read", sharding([BYTES], chunk_shape=[0, 0]), {}),
]:  # fmt: skip
    add(_name, SKIPPED, _said, v3(_codecs, **_more))
add(
    "a shard whose index names what is not there",
    UNREADABLE,
    "does not decode",
    lambda _: {
        **v3(sharding([BYTES], index_codecs=[BYTES])),
        "v/c/0/0": "base64:" + base64.b64encode(b"\x07" * 64).decode(),
    },
)


def partition(path=None, raw=None, *, offset=0, size=16, rows=1, compression="snappy"):
    table = pa.table({
        "path": pa.array([path] * rows, pa.string()), "offset": pa.array([offset] * rows),
        "size": pa.array([size] * rows), "raw": pa.array([raw] * rows, pa.binary()),
    })  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression)
    return buffer.getvalue()


def parquet(part, record_size=1, more=(), **metadata):
    """A Parquet store of references to one array of one chunk."""
    document = {key: value for key, value in references().items() if not key.startswith("v/0")}
    consolidated = {"metadata": {**document, **metadata}, "record_size": record_size}
    files = {".zmetadata": json.dumps(consolidated).encode(), **dict(more)}
    return Store("kerchunk", "r.parq", files if part is None else {**files, "v/refs.0.parq": part})


for _name, _said, _path in [
    ("a local file, by Parquet", OUTSIDE, "/etc/passwd"),
    ("a file address that climbs, by Parquet", MALFORMED, "file:///a/%252e%252e/b"),
    ("a relative path that climbs, by Parquet", OUTSIDE, "../../../../outside/secret.bin"),
    ("a template, by Parquet", "template", "{{u}}/a"),
    ("a server that is not listed, by Parquet", OUTSIDE, "http://127.0.0.1:9/a"),
    ("a chained address, by Parquet", MALFORMED, "simplecache::file:///etc/passwd"),
]:
    add(_name, REFUSED, _said, parquet(partition(_path)))
add("a partition that is lost", REFUSED, "lack partition 0 of array 'v'", parquet(None))
add(
    "a partition that is a login page",
    REFUSED,
    "partition 0 of array 'v' is not a whole",
    parquet(b"<html>Log in</html>"),
)
add("a partition that is cut", REFUSED, "is not a whole Parquet file", parquet(partition("chunk.bin")[:-9]))
add("a partition of other rows", REFUSED, "larger than|instead of", parquet(partition("chunk.bin", rows=7)))
add("a partition of a negative range", REFUSED, "byte range", parquet(partition("chunk.bin", offset=-1)))
add("a partition that inflates to a gigabyte", REFUSED, "larger than",
    lambda _: parquet(partition("a" * (2**29 + 1), compression="zstd")))  # fmt: skip
add("an address of megabytes, by Parquet", REFUSED, MALFORMED, lambda _: parquet(partition("a" * 2**22)))
add("more inlined data than is allowed, by Parquet", REFUSED, "more inlined data",
    lambda _: parquet(partition(raw=b"a" * (2**24 + 1))))  # fmt: skip
add("a record size that is none", REFUSED, "record_size", parquet(partition("chunk.bin"), record_size=10**12))
add("a codec that runs what it is given, by Parquet", SKIPPED, "'pickle' is not one", parquet(
    partition("chunk.bin"), **{"v/.zarray": {**ARRAY, "filters": [{"id": "pickle"}]}}))  # fmt: skip
add("a name that climbs, by Parquet", REFUSED, "not a Zarr key",
    parquet(partition("chunk.bin"), **{"../w/.zarray": ARRAY}))  # fmt: skip


def zarr_v2(document=None, chunk=CHUNK, **more):
    metadata = {key: value for key, value in references(None, document).items() if not key.startswith("v/0")}
    consolidated = {"zarr_consolidated_format": 1, "metadata": {**metadata, **more}}
    files = {key: json.dumps(value).encode() for key, value in metadata.items()}
    return Store("zarr", "v.zarr", {**files, ".zmetadata": json.dumps(consolidated).encode(), "v/0.0": chunk})


NATIVE = "a native store: "
add(NATIVE + "a codec that runs what it is given", SKIPPED, "'pickle' is not one",
    zarr_v2({"filters": [{"id": "pickle"}], "dtype": "|O"}))  # fmt: skip
add(
    NATIVE + "a chunk of terabytes",
    SKIPPED,
    "over 2 GiB",
    zarr_v2({"shape": [10**6] * 2, "chunks": [10**6] * 2}),
)
add(NATIVE + "a shape of text", SKIPPED, "not a shape", zarr_v2({"shape": "22"}))
add(NATIVE + "the addresses of objects as values", SKIPPED, "something else|no filter says",
    zarr_v2({"dtype": "|O", "filters": [{"id": "shuffle", "elementsize": 8}, {"id": "vlen-utf8"}]}))  # fmt: skip
add(NATIVE + "a name that climbs", REFUSED, "Zarr|path|name", zarr_v2(**{"../w/.zarray": ARRAY}))
add(NATIVE + "fewer bytes than a chunk", UNREADABLE, "", zarr_v2(chunk=CHUNK[:-1]))
