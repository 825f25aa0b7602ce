"""Chunks of about 1.8 kB that inflate to 2 GB are errors that cost less memory than two chunks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODECS = ("gzip", "bz2", "lzma", "zstd", "zlib", "lz4", "blosc")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("only Linux tells the peak of a process's memory")
    command = [sys.executable, Path(__file__).with_name("bombs.py"), tmp_path_factory.mktemp("bombs")]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=600).stdout)


def test_every_bomb_is_an_error_of_its_chunk_or_file(measured):
    errors = {name: one["error"] for name, one in measured.items()}
    assert {error for name, error in errors.items() if not name.startswith("references")} == {"CorruptChunk"}
    assert {error for name, error in errors.items() if name.startswith("references")} == {"InvalidReference"}
    assert all(
        "array 'v'" in one["message"] or "reference file" in one["message"] for one in measured.values()
    )


def test_memory_grows_by_less_than_two_chunks(measured):
    grown = {name: round(one["grown"] / one["chunk"], 2) for name, one in measured.items()}
    assert {name: chunks for name, chunks in grown.items() if chunks >= 2} == {}
    # the measuring itself: what decodes a chunk before it is found out takes its memory
    assert max(grown.values()) > 0.5


def test_every_compressor_is_among_them_in_every_form_and_small(measured):
    for codec in CODECS:
        for form in ("in itself, Zarr v2", "in itself, Zarr v3", "in a shard", "of texts"):
            # Blosc takes 34 kB to hold 1 GiB
            assert measured[f"{codec} {form}"]["nbytes"] < (40_000 if codec == "blosc" else 2_600)
