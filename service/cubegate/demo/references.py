"""Describes the granules by kerchunk references, as JSON and as a Parquet store."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.reference import LazyReferenceMapper
from kerchunk.combine import MultiZarrToZarr
from kerchunk.hdf import SingleHdf5ToZarr

# Small enough that every array needs several partitions, as the arrays of real stacks do.
_REFERENCES_PER_PARTITION = 100


def combine_granules(granules: Sequence[Path]) -> dict[str, Any]:
    """Scan the granules and concatenate them on `time`; the references name absolute `file://` URLs."""
    with _collecting_no_garbage():
        single = [
            SingleHdf5ToZarr(str(path), str(path.resolve()), inline_threshold=500, error="raise").translate()
            for path in granules
        ]
    combined = MultiZarrToZarr(
        single,
        remote_protocol="file",
        coo_map={"time": "data:time"},
        concat_dims=["time"],
        identical_dims=["y", "x", "spatial_ref"],
    ).translate()
    # kerchunk takes the scheme off local URLs, and leaves the order of keys to chance
    references = {key: _with_scheme(reference) for key, reference in sorted(combined["refs"].items())}
    return {"version": combined["version"], "refs": references}


@contextmanager
def _collecting_no_garbage() -> Iterator[None]:
    # kerchunk holds HDF5's lock while zarr's thread works for it: if that thread collected a
    # forgotten HDF5 object, both would wait for ever
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _with_scheme(reference: Any) -> Any:
    if not isinstance(reference, list):
        return reference
    path, *part = reference
    return [Path(path).as_uri(), *part]


def write_json(path: Path, references: dict[str, Any]) -> None:
    """Write the references as one JSON document."""
    path.write_text(json.dumps(references), encoding="utf-8")


def write_parquet(path: Path, references: dict[str, Any]) -> None:
    """Write the references as a Parquet store: a directory with one folder an array."""
    path.mkdir()
    mapper = LazyReferenceMapper.create(str(path), record_size=_REFERENCES_PER_PARTITION, engine="pyarrow")
    keys = [key for key in references["refs"] if key != ".zmetadata"]
    # the mapper numbers a chunk by its array's shape, so it must know all metadata first
    for key in sorted(keys, key=lambda key: ".z" not in key):
        mapper[key] = references["refs"][key]
    mapper.flush()
