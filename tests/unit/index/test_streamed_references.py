"""References read member by member are those that the whole file, read at once, holds."""

from __future__ import annotations

import base64
import gzip
import json
from functools import partial

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cubegate.errors import InvalidReference
from cubegate.index.builders import kerchunk_json, reference_text
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.documents import METADATA_NAMES, read_documents
from cubegate.index.references import ReferenceCollector, check_range
from cubegate.index.table import WHOLE_OBJECT

BASE = "s3://references/folder/cube.json"
COMPRESSIONS = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}
TEXTS = st.one_of(
    st.sampled_from(
        ['],"', "{", '"}', "\\", '"v/0":["a",1,2],', "{{u}}", "base64", "\N{SNOWMAN}", "\U0001f30d"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
URLS = st.sampled_from(
    ["a.nc", "../b c.nc", "s3://d/e", "/srv/f", "https://host/g?x=1", "s3://d/\N{SNOWMAN}"]
)
REFERENCES = st.one_of(
    st.tuples(URLS, st.integers(0, 2**63 - 1), st.integers(1, 2**32 - 2)).map(list),
    URLS.map(lambda url: [url]),
    TEXTS,
    st.binary(max_size=8).map(lambda data: "base64:" + base64.b64encode(data).decode()),
)


def build(data, block=None, *, streamed=True):
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(kerchunk_json, "_SMALL", 0 if streamed else 10**9)
        if block is not None:
            patching.setattr(reference_text, "BLOCK_NBYTES", block)
        return build_from_kerchunk_json(data, base_url=BASE, check_url=lambda _: None)


def build_at_once(text):
    """Build the index from all of the text, as its members are after json.loads."""
    try:
        document = json.loads(text, object_pairs_hook=without_repetition)
    except (ValueError, RecursionError):
        raise InvalidReference("not JSON") from None
    if not isinstance(document, dict):
        raise InvalidReference("not a JSON object")
    if document.get("version") is not None:
        if document["version"] is True or document["version"] != 1 or isinstance(document["version"], float):
            raise InvalidReference("version")
        if document.get("templates") or document.get("gen") or not isinstance(document.get("refs"), dict):
            raise InvalidReference("no references to read as they are")
        document = document["refs"]
    metadata = {key: value for key, value in document.items() if key.rpartition("/")[2] in METADATA_NAMES}
    if not metadata and ".zmetadata" in document:
        metadata = parsed(parsed(document[".zmetadata"]).get("metadata"))
    elif any(isinstance(value, list) for value in metadata.values()):
        raise InvalidReference("elsewhere")
    documents = read_documents({key: decoded(value) for key, value in metadata.items()}, "")
    collector = ReferenceCollector(base_url=BASE, check_url=lambda _: None)
    collected = {path: collector.add_array(array) for path, array in documents.metadata.items()}
    for key, value in document.items():
        if key != ".zmetadata" and key.rpartition("/")[2] not in METADATA_NAMES:
            enter(documents, collector, collected, key, value)
    return collector.index(groups=documents.groups, arrays=documents.arrays, skipped=documents.skipped)


def without_repetition(pairs):
    if len(dict(pairs)) < len(pairs) and all(key != "nested" for key, _ in pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def parsed(value):
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise InvalidReference("not JSON") from None
    if not isinstance(value, dict):
        raise InvalidReference("not a JSON object")
    return value


def decoded(value):
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value[7:], validate=True) if value.startswith("base64:") else value.encode()
    except ValueError:
        raise InvalidReference("not base64") from None


def enter(documents, collector, collected, key, value):
    # of "a/1/2.3" an array may be called "a/1/2.3", "a/1" or "a"; an empty part is no array's name
    parts = key.split("/")
    paths = ["/".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]
    path = next((path for path in paths if path in collected or path in documents.skipped), None)
    if path is None or {"", ".", ".."} & set(parts[:-1]):
        raise InvalidReference("no array")
    if path in documents.skipped:
        return
    array = documents.metadata[path]
    keys = {name: number for number, name in enumerate(chunk_names(array))}
    chunk = key[len(path) + 1 :]
    if chunk not in keys:
        raise InvalidReference("no chunk")
    if isinstance(value, str):
        collector.inline(collected[path], keys[chunk], decoded(value))
    elif not isinstance(value, list) or len(value) not in (1, 3) or not isinstance(value[0], str):
        raise InvalidReference("no reference")
    elif len(value) == 1:
        collected[path].put(keys[chunk], collector.granule(value[0]), 0, WHOLE_OBJECT)
    else:
        check_range(value[1], value[2], key)
        collected[path].put(keys[chunk], collector.granule(value[0]), value[1], value[2])


def chunk_names(array):
    separator = array.document.get("dimension_separator", ".")
    if not array.chunk_grid:
        return ["0"]
    return [separator.join(map(str, chunk)) for chunk in np.ndindex(array.chunk_grid)]


@st.composite
def reference_sets(draw):
    """References of a few arrays, in any order, with their documents as text or as objects."""
    references = {}
    names = st.sampled_from(["v", "band1", "2020", "a/b", "a/2020", "\N{GREEK SMALL LETTER DELTA}"])
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        shape = draw(st.lists(st.integers(1, 4), max_size=3))
        separator = draw(st.sampled_from("./"))
        document = {"zarr_format": 2, "shape": shape, "chunks": [1] * len(shape), "dtype": "<f4",
                    "fill_value": draw(st.sampled_from([None, 0.0, float("nan")])), "filters": None,
                    "compressor": None, "order": "C", "dimension_separator": separator}  # fmt: skip
        if draw(st.integers(0, 9)) == 0:
            document["dtype"] = "unknown"
        attributes = {"units": draw(TEXTS), "nested": {"of": [[], {}, draw(TEXTS)]}}
        for key, value in ((f"{name}/.zarray", document), (f"{name}/.zattrs", attributes)):
            references[key] = json.dumps(value) if draw(st.booleans()) else value
        chunks = [separator.join(map(str, chunk)) for chunk in np.ndindex(*shape)] if shape else ["0"]
        for chunk in draw(st.lists(st.sampled_from(chunks), max_size=12, unique=True)):
            references[f"{name}/{chunk}"] = draw(REFERENCES)
    return dict(draw(st.permutations(list(references.items()))))


@st.composite
def reference_files(draw):
    """The text of a reference file, however a writer may put it."""
    document = draw(reference_sets())
    if draw(st.booleans()):
        members = {"version": 1, "refs": document}
        if draw(st.booleans()):
            members["templates"] = {}
        if draw(st.booleans()):
            members["nested"] = {"refs": {"v/0": 1}}
        document = dict(draw(st.permutations(list(members.items()))))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r\n :")]))
    indent = draw(st.sampled_from([None, None, 2]))
    return json.dumps(document, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))


def outcome(work, *arguments):
    try:
        return work(*arguments).version
    except InvalidReference:
        return "refused"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reference_files(), st.sampled_from(list(COMPRESSIONS)), st.sampled_from([4, 5, 17, 64, 1000]))
def test_any_file_in_any_blocks_gives_the_index_of_the_whole(text, compression, block):
    data = COMPRESSIONS[compression](text.encode())
    expected = outcome(build_at_once, text)
    event(f"refused: {expected == 'refused'}")
    assert outcome(build, data, block) == expected
    assert outcome(partial(build, streamed=False), data, block) == expected


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reference_files(), st.sampled_from([4, 7, 64, 1000]), st.data())
def test_a_damaged_file_is_refused_as_the_whole_is(text, block, data):
    start = data.draw(st.integers(0, len(text)), label="start")
    stop = data.draw(st.integers(start, min(start + 3, len(text))), label="stop")
    put = data.draw(st.text('{}[]",:\\0129ae+-. \n', max_size=3), label="put")
    damaged = text[:start] + put + text[stop:]
    expected = outcome(build_at_once, damaged)
    event(f"refused: {expected == 'refused'}")
    assert outcome(build, damaged.encode(), block) == expected
    assert outcome(partial(build, streamed=False), damaged.encode(), block) == expected


@settings(max_examples=100, deadline=None)
@given(reference_files(), st.sampled_from([4, 64]), st.data())
def test_a_cut_file_is_refused(text, block, data):
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert outcome(build, cut.encode(), block) == "refused"
    assert outcome(partial(build, streamed=False), cut.encode(), block) == "refused"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_encodings_that_json_allows_are_read(encoding):
    text = json.dumps(
        {"v/.zarray": ARRAY, "v/0": "\N{SNOWMAN}", "v/1": ["s3://d/a", 0, 1]}, ensure_ascii=False
    )
    assert build(text.encode(encoding), 4).version == build_at_once(text).version
    with pytest.raises(InvalidReference, match="not JSON"):
        build(text.encode(encoding)[:-1], 4)


ARRAY = {"zarr_format": 2, "shape": [900], "chunks": [1], "dtype": "|u1", "fill_value": None,
         "filters": None, "compressor": None, "order": "C"}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), [("text", ["s3://d/a", 0, 1]), (["s3://d/a", 0, 1], "text")])
@pytest.mark.parametrize("between", [0, 500])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_chunk_that_is_named_twice_is_refused(first, second, between, streamed):
    members = [("v/.zarray", ARRAY), ("v/899", first), *[(f"v/{n}", ["b", n, 1]) for n in range(between)]]
    document = ",".join(
        f"{json.dumps(key)}:{json.dumps(value)}" for key, value in [*members, ("v/899", second)]
    )
    with pytest.raises(InvalidReference, match=r"'v/899' twice"):
        build(f"{{{document}}}".encode(), 1000, streamed=streamed)


def test_metadata_may_come_last_and_consolidated_metadata_alone():
    chunks = {f"v/{n}": ["s3://d/a", n, 1] for n in range(900)}
    versions = {
        build(json.dumps(document).encode(), 64).version
        for document in (
            {"v/.zarray": ARRAY, **chunks},
            {**chunks, "v/.zarray": ARRAY},
            {**chunks, ".zmetadata": {"metadata": {"v/.zarray": ARRAY}}},
            {**chunks, ".zmetadata": json.dumps({"metadata": {"v/.zarray": ARRAY}})},
            {"refs": {**chunks, "v/.zarray": ARRAY}, "gen": [], "version": 1},
        )
    }
    assert len(versions) == 1


def test_a_member_longer_than_a_block_is_read_and_one_without_end_is_refused(monkeypatch):
    long = {"v/.zarray": {**ARRAY, "note": "x" * 100_000}, "v/0": "y" * 100_000, "v/1": ["a", 0, 1]}
    assert build(json.dumps(long).encode(), 64).version == build_at_once(json.dumps(long)).version
    monkeypatch.setattr("cubegate.index.builders.json_members.MAX_MEMBER_LENGTH", 50_000)
    with pytest.raises(InvalidReference, match="member over 50,000"):
        build(json.dumps(long).encode(), 64)


def test_both_readings_tell_how_far_they_are():
    text = json.dumps({"v/.zarray": ARRAY, **{f"v/{n}": ["s3://d/a", n, 1] for n in range(900)}}).encode()
    said = []
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(reference_text, "BLOCK_NBYTES", 1000)
        patching.setattr(kerchunk_json, "_SMALL", 0)
        build_from_kerchunk_json(
            text, base_url=BASE, check_url=lambda _: None, progress=lambda *what: said.append(what)
        )
    for what in ("Reading metadata", "Reading references"):
        done = [done for name, done, total in said if name == what and total == len(text)]
        assert done == sorted(done)
        assert done[-1] == len(text)
        assert len(done) > 10
