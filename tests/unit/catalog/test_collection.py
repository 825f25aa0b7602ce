"""Collection files: every key, and errors that name the file, the key and the mend."""

import pytest

from cubegate.catalog.collection import Collection, CollectionFiles
from cubegate.errors import ConfigurationError
from cubegate.settings import read_yaml

WHOLE = """
id: opera-f11116
title: OPERA DISP-S1, frame 11116
description: Displacement.
source:
  kind: icechunk
  href: "s3://our-references/disp.icechunk"
  group: data
  missing: error
  allow_missing_partitions: [empty]
  fill: storage
  branch: main
  tag: v1
  snapshot: abc
crs: EPSG:32611
dimensions: {x: x, y: y, time: time}
variables: [displacement, temporal_coherence]
derived: {speed: {kind: speed, x: vx, y: vy}}
overviews: {href: a.overviews}
"""


def load_collections(patterns, directory):
    return CollectionFiles(patterns, directory).read()


def write(directory, name, text):
    file = directory / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def test_every_key_is_read(tmp_path):
    file = write(tmp_path, "a.yaml", WHOLE)
    ((found_file, collection),) = load_collections(["*.yaml"], tmp_path).values()
    assert found_file == file
    assert collection.model_dump() == {
        "id": "opera-f11116",
        "title": "OPERA DISP-S1, frame 11116",
        "description": "Displacement.",
        "source": {
            "kind": "icechunk",
            "href": "s3://our-references/disp.icechunk",
            "group": "data",
            "missing": "error",
            "allow_missing_partitions": ("empty",),
            "fill": "storage",
            "branch": "main",
            "tag": "v1",
            "snapshot": "abc",
            "members": (),
        },
        "crs": "EPSG:32611",
        "dimensions": {"x": "x", "y": "y", "time": "time"},
        "variables": ("displacement", "temporal_coherence"),
        "derived": {"speed": {"kind": "speed", "x": "vx", "y": "vy", "units": None}},
        "overviews": {"href": "a.overviews"},
    }


MINIMAL = "id: a\nsource: {kind: zarr, href: a.zarr}\n"


def test_what_is_left_out_has_its_default(tmp_path):
    write(tmp_path, "a.yaml", MINIMAL + "crs:\nvariables:\ndimensions:\n")
    collection = load_collections(["a.yaml"], tmp_path)["a"][1]
    assert collection == Collection.model_validate({"id": "a", "source": {"kind": "zarr", "href": "a.zarr"}})
    assert (collection.title, collection.crs, collection.variables) == ("", None, None)
    assert (collection.source.missing, collection.source.fill) == ("fill", "auto")


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("id: a\n", "source", "Add it."),
        ("source: {kind: zarr, href: b}\n", "id", "Add it."),
        ("id: a\nsource: {kind: zarr}\n", "source.href", "Add it."),
        (
            "id: a\nsource: {kind: tar, href: b}\n",
            "source.kind",
            "'kerchunk', 'zarr', 'icechunk', 'index' or 'combined'",
        ),
        (
            MINIMAL + "dimension: {x: x}\n",
            "dimension",
            "Known keys here: id, title, description, source, crs",
        ),
        (MINIMAL + "dimensions: {z: x}\n", "dimensions.z", "Known keys here: x, y, time."),
        ("id: a\nsource: {kind: zarr, href: b, mising: error}\n", "source.mising", "missing, allow_missing"),
        (MINIMAL + "crs: EPSG:999999\n", "crs", "EPSG:999999"),
        (MINIMAL + "crs: EPSG:5773\n", "crs", "neither geographic nor projected"),
        (MINIMAL + "crs: 32611\n", "crs", "in quotes"),
        (MINIMAL + "variables: displacement\n", "variables", "Write a list"),
        ("id: a/b\nsource: {kind: zarr, href: b}\n", "id", "pattern"),
        ("id: a@1\nsource: {kind: zarr, href: b}\n", "id", "pattern"),
        ("id: ..\nsource: {kind: zarr, href: b}\n", "id", "pattern"),
        ("id: 2020-01-01\nsource: {kind: zarr, href: b}\n", "id", "in quotes"),
    ],
)
def test_errors_name_the_file_the_key_and_the_mend(tmp_path, text, key, said):
    file = write(tmp_path, "a.yaml", text)
    with pytest.raises(ConfigurationError) as caught:
        load_collections(["*.yaml"], tmp_path)
    assert (caught.value.file, caught.value.key) == (str(file), key)
    assert said in str(caught.value)


def test_an_id_that_is_taken_names_both_files(tmp_path):
    write(tmp_path, "a.yaml", MINIMAL)
    write(tmp_path, "b.yaml", MINIMAL)
    with pytest.raises(ConfigurationError, match=r"'a' is taken by a\.yaml.*another id") as caught:
        load_collections(["*.yaml"], tmp_path)
    assert caught.value.file == str(tmp_path / "b.yaml")


def test_patterns_are_relative_or_absolute_and_a_file_counts_once(tmp_path):
    here, there = tmp_path / "here[1]", tmp_path / "there"
    first = write(here, "first.yaml", MINIMAL)
    second = write(there, "second.yaml", MINIMAL.replace("id: a", "id: b"))
    patterns = [
        "*.yaml",
        "./first.yaml",
        f"{here}/first.yaml",
        f"{there}/s*.yaml",
        "../there/*.yml",
        "absent.yaml",
    ]
    assert {name: file for name, (file, _) in load_collections(patterns, here).items()} == {
        "a": first,
        "b": second,
    }


@pytest.fixture
def parsed(monkeypatch):
    """The names of the files that are parsed, in order."""
    names = []

    def read(file):
        names.append(file.name)
        return read_yaml(file)

    monkeypatch.setattr("cubegate.catalog.collection.read_yaml", read)
    return names


def test_only_files_that_changed_are_parsed_again(tmp_path, parsed):
    for name in "abc":
        write(tmp_path, f"{name}.yaml", MINIMAL.replace("id: a", f"id: {name}"))
    files = CollectionFiles(["*.yaml"], tmp_path)
    first = files.read()
    assert files.read() is first
    assert parsed == ["a.yaml", "b.yaml", "c.yaml"]
    write(tmp_path, "b.yaml", MINIMAL.replace("id: a", "id: second"))
    (tmp_path / "c.yaml").unlink()
    second = files.read()
    assert parsed[3:] == ["b.yaml"]
    assert set(second) == {"a", "second"}
    assert second["a"] is first["a"]


def test_an_invalid_file_is_told_once_and_changes_nothing(tmp_path, parsed):
    write(tmp_path, "a.yaml", MINIMAL)
    files = CollectionFiles(["*.yaml"], tmp_path)
    before = files.read()
    write(tmp_path, "a.yaml", MINIMAL + "title: Changed\n")
    write(tmp_path, "b.yaml", "id: b\n")
    with pytest.raises(ConfigurationError, match=r"b\.yaml: source"):
        files.read()
    assert files.read() is before
    write(tmp_path, "b.yaml", MINIMAL.replace("id: a", "id: b"))
    after = files.read()
    assert set(after) == {"a", "b"}
    assert after["a"].collection.title == "Changed"


def test_patterns_without_a_file_are_named(tmp_path):
    write(tmp_path, "a.yaml", MINIMAL)
    files = CollectionFiles(["*.yaml", "./b/*.yaml", f"{tmp_path}/c.yaml"], tmp_path)
    assert files.unmatched() == ["b/*.yaml", f"{tmp_path}/c.yaml"]
