from __future__ import annotations

import itertools
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubegate.errors import CorruptIndex
from cubegate.index import file as index_file
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.file import open_index, read_version, write_index
from cubegate.index.index import Index
from cubegate.index.table import Column, TextTable


def build(references):
    return build_from_kerchunk_json(
        json.dumps(references).encode(), base_url="s3://refs/r.json", check_url=lambda _: None
    )


@pytest.fixture
def plain_index():
    """Several pages of tables, URLs and inlined data."""
    document = {
        "zarr_format": 2,
        "shape": [40, 30, 30],
        "chunks": [1, 1, 1],
        "dtype": "<f4",
        "fill_value": None,
    }
    references = {
        ".zattrs": {"title": "\N{SNOWMAN}", "limit": float("inf")},
        "v/.zarray": document,
        "v/.zattrs": {"_ARRAY_DIMENSIONS": ["time", "y", "x"]},
        "empty/.zarray": {**document, "shape": [0], "chunks": [1]},
        "scalar/.zarray": {**document, "shape": [], "chunks": []},
        "scalar/0": "abcd",
        "bad/.zarray": {**document, "dtype": "bad"},
        "inlined/.zarray": {**document, "shape": [20], "chunks": [1]},
    }
    references |= {f"inlined/{x}": f"{x:09000}" for x in range(20)}
    for time, y, x in itertools.product(range(40), range(30), range(30)):
        if (time + y + x) % 5:
            url = f"s3://data/{'long' * 30}/{time}/{y}.nc"
            references[f"v/{time}.{y}.{x}"] = [url] if x == 7 else [url, 100 * y + x, 9 + time]
    return build(references)


@pytest.fixture(params=["plain", "with checksums and validators"])
def index(request, plain_index):
    if request.param == "plain":
        return plain_index
    content = plain_index.content
    tables = {
        path: replace(table, crc32=Column(np.arange(len(table.granule), dtype="<u4") * 7919))
        for path, table in content.tables.items()
    }
    validators = TextTable.of(f'"{n:08x}"' if n % 5 else "" for n in range(plain_index.granules))
    return Index(replace(content, tables=tables, validators=validators))


@pytest.fixture
def file(index, tmp_path):
    path = tmp_path / "cube.index"
    write_index(index, path)
    return path


def everything(index):
    found = {}
    for path, array in index.hierarchy.arrays.items():
        chunks = list(itertools.product(*map(range, array.chunk_grid)))
        found[path] = index.locate(array, chunks)
        assert [index.locate(array, [chunk])[0] for chunk in chunks[::7]] == found[path][::7]
    return found


def test_an_index_comes_back_from_its_file(index, file):
    opened = open_index(file)
    assert everything(opened) == everything(index)
    assert opened.version == index.version == read_version(file)
    assert opened.hierarchy == index.hierarchy
    assert opened.hierarchy.skipped.keys() == {"bad"}
    assert list(opened.urls) == list(index.urls)
    assert opened.granules == 1200
    for path in index.hierarchy.arrays:
        assert opened.counts(path) == index.counts(path)
    chunks = np.array([(3, 1, 2), (4, 1, 2)])
    array = opened.hierarchy.arrays["v"]
    assert opened.stored_nbytes(array, chunks) == index.stored_nbytes(array, chunks)
    opened.verify()
    index.verify()


def test_a_former_cubegate_reads_what_it_knows_and_nothing_else(index, file):
    held = index.content.validators is not None
    assert index_file._PREAMBLE.unpack(file.read_bytes()[:64])[1] == (2 if held else 1)


def test_checksums_and_validators_come_back(index, file):
    content = open_index(file).content
    assert (content.validators is None) == (index.content.validators is None)
    if index.content.validators is not None:
        assert list(content.validators) == list(index.content.validators)
        assert content.validators.empty().tolist() == list(range(0, 1200, 5))
    for path, table in index.content.tables.items():
        assert len(table.columns) == len(content.tables[path].columns)
        for one, other in zip(table.columns, content.tables[path].columns, strict=True):
            np.testing.assert_array_equal(one.all(), other.all())


def test_writing_twice_gives_the_same_bytes(index, file, tmp_path):
    write_index(open_index(file), tmp_path / "again.index")
    assert (tmp_path / "again.index").read_bytes() == file.read_bytes()


def test_parts_are_aligned(file):
    preamble = index_file._PREAMBLE.unpack(file.read_bytes()[:64])
    assert preamble[4] % 64 == 0
    header = json.loads(file.read_bytes()[64 : 64 + preamble[5]])
    parts = [header["url_ends"], header["url_text"], header["inline"]]
    parts += [part for entry in header["arrays"].values() for part in entry["parts"].values()]
    assert all(offset % 64 == 0 for offset, _ in parts)


def test_a_flipped_byte_anywhere_is_found(file):
    whole = file.read_bytes()
    generator = np.random.default_rng(3)
    pages = range(0, len(whole), 2**16)
    positions = {*range(64), len(whole) - 1}
    for start in pages:
        positions.update(generator.integers(start, min(start + 2**16, len(whole)), size=4).tolist())
    assert len(pages) >= 10
    for position in sorted(positions):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(generator.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(CorruptIndex):
            open_index(file).verify()


@pytest.mark.parametrize("times", [1, 2])
def test_a_damaged_page_is_found_when_it_is_first_touched(index, file, times):
    body = index_file._PREAMBLE.unpack(file.read_bytes()[:64])[4]
    whole = file.read_bytes()
    expected = everything(index)["v"]
    array = index.hierarchy.arrays["v"]
    chunks = list(itertools.product(*map(range, array.chunk_grid)))
    for start in range(body, len(whole), 2**16):
        damaged = bytearray(whole)
        damaged[start + 40] ^= 255
        file.write_bytes(damaged)
        opened = open_index(file)
        right, problems = 0, set()
        for chunk, location in zip(chunks[::50], expected[::50], strict=True):
            try:
                assert opened.locate(array, [chunk] * times) == [location] * times
                right += 1
            except CorruptIndex as error:
                problems.add(str(error))
        assert right or problems
        assert all("is damaged at byte" in problem and file.name in problem for problem in problems)
        if start < body + 2**17:
            assert problems


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_cut_or_longer_file_is_refused(file, data):
    whole = file.with_suffix(".whole")
    if not whole.exists():
        whole.write_bytes(file.read_bytes())
    size = whole.stat().st_size
    length = data.draw(st.integers(0, 200) | st.integers(0, size + 200).filter(lambda n: n != size))
    file.write_bytes(whole.read_bytes().ljust(length, b"\0")[:length])
    with pytest.raises(CorruptIndex):
        open_index(file)
    with pytest.raises(CorruptIndex):
        read_version(file)


@given(
    damage=st.lists(
        st.tuples(st.integers(0, 2**13), st.integers(1, 255)),
        min_size=1,
        max_size=4,
        unique_by=lambda d: d[0],
    )
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_small_file_is_refused(tmp_path, damage):
    path = tmp_path / "small.index"
    write_index(build({".zgroup": {}, "v/.zarray": _SMALL, "v/0": ["a", 1, 2], "v/1": "inline"}), path)
    content = bytearray(path.read_bytes())
    for position, change in damage:
        content[position % len(content)] ^= change
    if bytes(content) == path.read_bytes():
        return
    path.write_bytes(content)
    with pytest.raises(CorruptIndex):
        open_index(path).verify()


_SMALL = {"zarr_format": 2, "shape": [3], "chunks": [1], "dtype": "<f4", "fill_value": None}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"cubegate", "is cut"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not an index file"),
        (b'{"version": 1}' + bytes(100), "is not an index file"),
        (b"cubegate" + (3).to_bytes(4, "little") + bytes(100), "format 3"),
    ],
)
def test_other_files_are_refused(tmp_path, content, match):
    path = tmp_path / "other.index"
    path.write_bytes(content)
    with pytest.raises(CorruptIndex, match=match):
        open_index(path)


def test_a_file_that_is_cut_after_it_was_opened_is_an_error(index, file):
    opened = open_index(file)
    array = index.hierarchy.arrays["v"]
    os.truncate(file, 4096)
    for times in (1, 2):
        with pytest.raises(CorruptIndex, match="cut"):
            opened.locate(array, [(1, 1, 2)] * times)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_processes_share_what_they_map(file):
    opened = open_index(file)
    lines = Path("/proc/self/maps").read_text().splitlines()
    (mapping,) = [line for line in lines if line.endswith(f" {file}")]
    assert mapping.split()[1] == "r--s"
    # no part of it was copied
    array = opened.hierarchy.arrays["v"]
    assert not opened.content.tables[array.path].offset.slice(0, 10).flags.owndata
    assert not opened.content.tables[array.path].offset.slice(0, 10).flags.writeable


def test_a_replaced_file_does_not_disturb_those_who_hold_the_old_one(index, file):
    opened = open_index(file)
    write_index(build({".zgroup": {}, "v/.zarray": _SMALL}), file)
    assert everything(opened) == everything(index)
    assert read_version(file) != opened.version


def test_a_failed_write_leaves_the_old_file_and_nothing_else(index, file, monkeypatch):
    before = file.read_bytes()

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_index(index, file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_another_chunk_count_than_the_metadata_ask_for_is_refused(tmp_path):
    path = tmp_path / "cube.index"
    index = build({".zgroup": {}, "v/.zarray": _SMALL, "v/0": ["a", 1, 2]})
    stored = index.content.arrays["v"]
    longer = type(stored)({**stored.document, "shape": [4]}, stored.attributes)
    content = type(index.content)(**{**vars(index.content), "arrays": {"v": longer}})
    with pytest.raises(CorruptIndex, match="chunk grid"):
        Index(content)
    write_index(_Unchecked(content), path)
    with pytest.raises(CorruptIndex, match="chunk grid"):
        open_index(path)


class _Unchecked:
    def __init__(self, content):
        self.content, self.version = content, "0" * 16


def test_a_table_that_names_what_is_not_there_is_refused(tmp_path):
    path = tmp_path / "cube.index"
    for column, value in (("granule", 5), ("offset", 2**40)):
        index = build({".zgroup": {}, "v/.zarray": _SMALL, "v/0": ["a", 1, 2], "v/1": "inline"})
        row = 0 if column == "granule" else 1
        getattr(index.content.tables["v"], column).all()[row] = value
        write_index(Index(index.content), path)
        opened = open_index(path)
        with pytest.raises(CorruptIndex, match="does not exist"):
            opened.verify()
        with pytest.raises(CorruptIndex, match="does not hold"):
            opened.locate(opened.hierarchy.arrays["v"], [(row,)])
        with pytest.raises(CorruptIndex, match="does not hold"):
            opened.locate(opened.hierarchy.arrays["v"], [(row,), (row,)])


def test_opening_reads_no_table(file, monkeypatch):
    body = index_file._PREAMBLE.unpack(file.read_bytes()[:64])[4]
    damaged = bytearray(file.read_bytes())
    damaged[body:] = bytes(len(damaged) - body)
    file.write_bytes(damaged)
    assert open_index(file).version == read_version(file)


def test_threads_share_an_index(index, file):
    opened = open_index(file)
    expected = everything(index)["v"]
    array = index.hierarchy.arrays["v"]
    chunks = list(itertools.product(*map(range, array.chunk_grid)))
    results = []

    def read(step):
        results.append(opened.locate(array, chunks[step::7]) == expected[step::7])

    threads = [threading.Thread(target=read, args=(step,)) for step in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 7
