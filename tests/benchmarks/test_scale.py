"""The subjects of the scale benchmark are what they are said to be."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cubegate.chunks.source import ChunkReference
from cubegate.index.file import open_index
from cubegate.index.location import Stored

from . import scale, scale_frames, scale_references
from .scale_frames import make_frames, name_of, place_of
from .scale_references import VARIABLES, chunk_reference, write_stack_reference


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    return write_stack_reference(tmp_path_factory.mktemp("references") / "stack.json.gz", dates=2)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(scale_frames, "DATES", 3)
        yield make_frames(tmp_path_factory.mktemp("made") / "frames", 3, lambda _: None)


def test_the_stack_reference_holds_every_chunk_of_its_grid(stack):
    text = gzip.decompress(stack.path.read_bytes())
    references = json.loads(text)["refs"]
    chunks = {
        key: value for key, value in references.items() if "/.z" not in key and not key.startswith(".z")
    }
    assert (len(text), len(chunks)) == (stack.nbytes, stack.references)
    assert stack.references * scale_references.DATES // 2 == 1_640_024
    for variable in VARIABLES:
        array = json.loads(references[f"{variable}/.zarray"])
        grid = tuple(-(-size // chunk) for size, chunk in zip(array["shape"], array["chunks"], strict=True))
        for chunk in np.ndindex(grid):
            assert chunks.pop(f"{variable}/{'.'.join(map(str, chunk))}") == [
                *chunk_reference(variable, *chunk)
            ]
    assert not chunks


def test_a_reference_that_the_index_has_wrong_is_seen(stack, tmp_path):
    figures = {name: [] for name in scale.LABELS}
    index = tmp_path / "stack.index"
    assert scale._convert(stack, index, figures) == []
    assert all(figures[name] for name in ("convert_s", "convert_peak_gb", "at_once_s", "at_once_peak_gb"))
    other = write_stack_reference(tmp_path / "other.json.gz", dates=1)
    assert "references instead of" in scale._wrong_references(index, other)[0]


def test_every_frame_is_the_whole_index_under_another_id(frames):
    assert frames.count == 3
    indexes = [open_index(frames.index(number)) for number in range(3)]
    for index in indexes:
        index.verify()
        assert len(index.hierarchy.arrays) == len(scale_frames.VARIABLES) + 4
    assert frames.references == sum(indexes[0].counts(path).total for path in indexes[0].hierarchy.arrays)
    folder = frames.file.parent / "collections"
    assert {path.stem for path in folder.iterdir()} == {name_of(number) for number in range(3)}


def test_the_right_answer_is_what_the_index_leads_to(frames, monkeypatch):
    monkeypatch.setattr(scale_frames, "DATES", 3)
    index = open_index(frames.index(0))
    row, column = 700, 1500
    located = index.locate(index.hierarchy.arrays["displacement"], [(date, 2, 5) for date in range(3)])
    for found, value in zip(located, frames.series(row, column), strict=True):
        assert isinstance(found, Stored)
        assert isinstance(found.reference, ChunkReference)
        data = Path(found.reference.url.removeprefix("file://")).read_bytes()
        end = found.reference.offset + found.reference.length
        assert scale_frames.decoded(data[found.reference.offset : end])[row % 256, column % 256] == value
    assert place_of(0, 0) == (scale_frames.LEFT + 15, scale_frames.TOP - 15)
