"""Sidecars that are like each other are read as any reference file is, only sooner."""

import base64
import copy
import gzip
import json

import numpy as np
import pytest

from cubegate.errors import InvalidReference
from cubegate.index.builders import alike_json
from cubegate.index.builders.alike_json import AlikeReader
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.content import content_hash

GRID = {"a": (3, 4), "group/b": (2, 5), "narrow": (1, 7)}
BASE = "http://host/data/x.zarr.json.gz"


def references(number, *, url="http://host/data/granule{}.nc"):
    random = np.random.default_rng(number)
    found = {".zgroup": '{"zarr_format": 2}', ".zattrs": json.dumps({"number": number})}
    found["group/.zgroup"] = '{"zarr_format": 2}'
    for path, grid in GRID.items():
        array = {
            "zarr_format": 2, "shape": [8 * size for size in grid], "chunks": [8, 8], "dtype": "<f4",
            "compressor": None, "filters": None, "fill_value": "NaN", "order": "C",
        }  # fmt: skip
        found[f"{path}/.zarray"] = json.dumps(array)
        found[f"{path}/.zattrs"] = json.dumps({"_ARRAY_DIMENSIONS": ["y", "x"], "title": "[no] range, 1]"})
        for place in np.ndindex(grid):
            offset, length = random.integers(1, 10**9, 2).tolist()
            found[f"{path}/{place[0]}.{place[1]}"] = [url.format(number), offset, length]
    scalar = {"zarr_format": 2, "shape": [], "chunks": [], "dtype": "<f8", "compressor": None, "filters": None,
              "fill_value": None, "order": "C"}  # fmt: skip
    found["time/.zarray"], found["time/.zattrs"] = json.dumps(scalar), '{"_ARRAY_DIMENSIONS": []}'
    found["time/0"] = "base64:" + base64.b64encode(np.float64(number).tobytes()).decode()
    return {"version": 1, "refs": found}


def written(document, *, compact=False, zipped=True):
    separators = (",", ":") if compact else None
    text = json.dumps(document, separators=separators).encode()
    return gzip.compress(text) if zipped else text


def right(data, check_url=lambda _: None):
    return build_from_kerchunk_json(data, base_url=BASE, check_url=check_url)


def read(reader, data):
    return reader.read(data, base_url=BASE, check_url=lambda _: None)


@pytest.fixture
def slow(monkeypatch):
    """Count the files that are read as any other."""
    calls = []

    def build(data, **options):
        calls.append(data)
        return build_from_kerchunk_json(data, **options)

    monkeypatch.setattr(alike_json, "build_from_kerchunk_json", build)
    return calls


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_all_of_them_are_what_the_reader_of_any_file_makes_of_them(slow, compact, zipped):
    reader = AlikeReader()
    for number in range(5):
        data = written(references(number), compact=compact, zipped=zipped)
        index, expected = read(reader, data), right(data)
        assert content_hash(index.content) == expected.version
        assert index.hierarchy.arrays.keys() == expected.hierarchy.arrays.keys()
        assert index.hierarchy.groups == expected.hierarchy.groups
    assert len(slow) == 1


def test_numbers_of_any_size_are_read(slow):
    reader, random = AlikeReader(), np.random.default_rng(1)
    for number in range(20):
        document = references(number)
        ranges = [value for value in document["refs"].values() if isinstance(value, list)]
        for each in ranges:
            each[1:] = [
                int(random.integers(0, 10 ** random.integers(1, 19))),
                int(random.integers(1, min(10 ** random.integers(1, 11), 2**32 - 1))),
            ]
        # the smallest and the largest of them
        ranges[3][1:], ranges[5][1:] = [0, 1], [10**18 - 1, 2**32 - 2]
        data = written(document)
        index, expected = read(reader, data), right(data)
        assert content_hash(index.content) == expected.version
    assert len(slow) == 1


def with_range(offset, length):
    document = references(1)
    document["refs"]["a/1.2"][1:] = [offset, length]
    return written(document)


def test_numbers_too_large_to_be_read_at_once_are_read():
    for data in (with_range(10**18, 5), with_range(2**63 - 1, 5)):
        reader = AlikeReader()
        read(reader, written(references(0)))
        assert content_hash(read(reader, data).content) == right(data).version


def _more_of_another_object(found):
    found["a/0.1"][0] = "http://host/data/other.nc"


def _one_of_another_object_with_as_long_a_name(found):
    found["a/0.1"][0] = "http://host/data/granule7.nc"


def _one_of_another_object_at_the_end(found):
    found["narrow/0.6"][0] = "http://hast/data/granule1.nc"


def _another_grid(found):
    found["a/.zarray"] = found["a/.zarray"].replace("[24, 32]", "[24, 40]")


def _one_less(found):
    del found["group/b/1.1"]


def _one_inlined(found):
    found["a/1.1"] = "text"


def _a_whole_object(found):
    found["a/1.1"] = [found["a/1.1"][0]]


def _other_order(found):
    found["a/0.0"] = found.pop("a/0.0")


def _another_document(found):
    found["a/.zattrs"] = '{"_ARRAY_DIMENSIONS": ["y", "x"], "units": "m"}'


def _an_object(found):
    found["a/.zattrs"] = {"_ARRAY_DIMENSIONS": ["y", "x"], "nested": {"a": [1, 2]}}


def _another_name(found):
    found["a/0.2"], found["a/0.3"] = found["a/0.3"], found["a/0.2"]


CHANGES = [
    _more_of_another_object, _one_of_another_object_with_as_long_a_name, _one_of_another_object_at_the_end,
    _another_grid, _one_less, _one_inlined, _a_whole_object, _other_order,
    _another_document, _an_object, _another_name,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_in_more_than_numbers_is_read_too(change):
    reader = AlikeReader()
    read(reader, written(references(0)))
    document = references(1)
    change(document["refs"])
    data = written(document)
    assert content_hash(read(reader, data).content) == right(data).version
    # and the one after it
    data = written(references(2))
    assert content_hash(read(reader, data).content) == right(data).version


@pytest.mark.parametrize("more", range(8))
def test_each_letter_of_an_address_counts(more):
    reader, url = AlikeReader(), "http://host/data/granule{}" + "x" * more + ".nc"
    read(reader, written(references(0, url=url)))
    document = references(1, url=url)
    for place, change in {"a/0.1": (-1, "d"), "a/1.1": (12, "q"), "group/b/1.4": (24, "7")}.items():
        changed, letters = copy.deepcopy(document), list(document["refs"][place][0])
        letters[change[0]] = change[1]
        changed["refs"][place][0] = "".join(letters)
        data = written(changed)
        assert content_hash(read(reader, data).content) == right(data).version


def _texts():
    whole = json.dumps(references(1))
    first = references(1)["refs"]["a/0.0"]
    shown = json.dumps(first)
    for number in ("-1", "1.5", "1e3", "007", "9" * 30, "true", '"1"', "null", ""):
        yield whole.replace(shown, json.dumps(first[:1])[:-1] + f", {number}, 5]")
        yield whole.replace(shown, json.dumps(first[:1])[:-1] + f", 5, {number}]")
    for offset, length in [(2**63, 5), (5, 2**32 - 1), (5, 10**18), (5, 10**10), (5, 0)]:
        yield whole.replace(shown, json.dumps([*first[:1], offset, length]))
    yield whole.replace(shown, json.dumps([*first, 3]))
    yield whole.replace(shown, json.dumps(first[:2]))
    yield whole.replace(shown, json.dumps([first]))
    yield whole.replace(shown, json.dumps({"nested": first}))
    yield whole.replace(shown, "[false]")
    yield whole.replace(shown, shown[:-1] + "}")
    yield whole.replace(shown, shown.replace(", ", " ,, "))
    yield whole.replace(shown, shown[:-1])
    for stop in ("; ", " ", "  ", ": ", ". "):
        yield whole.replace(shown, stop.join(shown.rsplit(", ", 1)))
    yield whole.replace(shown, json.dumps(alike_json._MARK))
    yield whole.replace('"a/0.1"', '"a/0.0"')
    yield whole.replace('"a/0.1"', '"a/9.9"')
    yield whole.replace('"a/0.1"', '"nowhere/0"')
    yield whole.replace('"time/0"', '"a/0.0"')
    yield whole.replace('"a/0.1":', '"a/0.1"')
    yield whole.replace(', "a/0.1"', ' "a/0.1"')
    yield whole.replace('"version": 1', '"version": 2')
    yield whole.replace('"version": 1', '"version": true')
    yield whole.replace('"version": 1', '"version": 1, "gen": [1]')
    yield whole.replace('"refs"', '"others"')
    yield whole[:-1]
    yield whole + "x"
    yield whole[: whole.rindex("[http") if "[http" in whole else -40]


@pytest.mark.parametrize("text", list(_texts()))
def test_what_is_refused_of_one_is_refused_of_the_next(text):
    reader = AlikeReader()
    read(reader, written(references(0)))
    with pytest.raises(InvalidReference) as expected:
        right(text.encode())
    with pytest.raises(InvalidReference) as found:
        read(reader, text.encode())
    assert str(found.value) == str(expected.value)


def test_a_cut_or_damaged_file_is_refused():
    reader = AlikeReader()
    data = written(references(0))
    read(reader, data)
    for damaged in (data[:-9], data[: len(data) // 2], data[:40] + b"x" + data[41:], b"", data + b"more"):
        with pytest.raises(InvalidReference):
            read(reader, damaged)


def test_each_address_is_checked():
    reader, checked = AlikeReader(), []
    for number in range(3):
        document = copy.deepcopy(references(number, url="s3://bucket/{}.nc"))
        reader.read(written(document), base_url=BASE, check_url=checked.append)
    assert checked == ["s3://bucket/0.nc", "s3://bucket/1.nc", "s3://bucket/2.nc"]
