"""Settles, by asking a granule, what the fill values and the absent chunks of references mean.

kerchunk writes HDF5's storage fill as `fill_value` where the granule declares no `_FillValue`,
and drops `_FillValue` from the attributes where it does, so that references cannot tell; for
netCDF4 variables it leaves the storage fill out. Where its scan of an array fails, it by default
leaves the array with a document and no chunk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cubegate.chunks.source import ChunkSource
from cubegate.errors import UpstreamError
from cubegate.index.content import StoredArray
from cubegate.index.granule import GranuleArray, UnreadableGranuleError, ask_granule
from cubegate.index.index import Index
from cubegate.index.metadata import ArrayMetadata
from cubegate.index.progress import Progress, silent
from cubegate.index.table import INLINED

Policy = Literal["auto", "declared", "storage"]

NO_CHUNK = (
    "its references name no chunk, yet the granule holds its data: build the references again "
    '(kerchunk: with error="raise" and a larger inline_threshold)'
)
_NETCDF_FILLS = {
    "i1": -127, "u1": 255, "i2": -32767, "u2": 65535, "i4": -2147483647, "u4": 4294967295,
    "i8": -9223372036854775806, "u8": 18446744073709551614,
    "f4": 9.969209968386869e36, "f8": 9.969209968386869e36,
}  # fmt: skip

_log = logging.getLogger(__name__)

_Answers = Mapping[str, GranuleArray]


@dataclass(frozen=True)
class _Question:
    """What the references leave open of one array, and which granule to ask for what.

    `fill`: whether its fill value means missing. `absent`: whether the granule holds chunks that
    they lack; `allocated` is the number of those that they name.
    """

    array: ArrayMetadata
    url: str
    path_in_granule: str
    fill: bool
    absent: bool
    allocated: int

    def is_answered(self, answer: GranuleArray | None) -> bool:
        """Whether nothing has to be assumed."""
        if self.absent and not self.allocated and (answer is None or answer.contents is None):
            return False
        return answer is not None or not (self.fill and _looks_like_storage(self.array))


async def settle_references(
    index: Index, source: ChunkSource, *, policy: Policy, group: str = "", progress: Progress = silent
) -> Index:
    """Return `index` with the fill settled of arrays that have no `_FillValue` attribute.

    `group` is the path that the index's root has in the references.

    `declared` leaves `fill_value` to mean missing, as xarray reads it. `storage` says that it
    does not where it is zero, empty or netCDF's default. `auto` asks a granule: in HDF5 a
    `_FillValue` attribute declares it, and of netCDF3 kerchunk copies only what is declared.
    HDF5 also tells the storage fill, where chunks are unallocated and the references do not.

    `auto` also moves an array to `skipped` whose references name no chunk though HDF5 holds data,
    or fewer chunks than its only granule.

    Where no granule tells, a zero, empty or default fill stays declared, absent chunks count as
    unwritten, and the path of the array is in `assumed_fill`.

    Raises:
        UpstreamError: a granule that is to be asked cannot be read.
    """
    if policy == "declared":
        return index
    if policy == "storage":
        merely_storage = GranuleArray(declared=False)
        arrays = index.hierarchy.arrays.items()
        return _settled(
            index,
            {p: merely_storage for p, a in arrays if _is_fill_open(index, a) and _looks_like_storage(a)},
        )
    questions = _questions(index, group)
    answers = await _ask_all(questions, source, progress)
    unanswered = [q.array.path for q in questions if not q.is_answered(answers.get(q.array.path))]
    fills = {q.array.path: answers[q.array.path] for q in questions if q.fill and q.array.path in answers}
    settled = _settled(index, fills, unanswered)
    reasons = {q.array.path: _why_lost(settled, q, answers.get(q.array.path)) for q in questions}
    lost = {path: reason for path, reason in reasons.items() if reason}
    for path, reason in lost.items():
        _log.warning("array %r is not served: %s", path, reason)
    return settled.without(lost) if lost else settled


def _is_fill_open(index: Index, array: ArrayMetadata) -> bool:
    stored = index.content.arrays[array.path]
    if array.zarr_format != 2 or "_FillValue" in stored.attributes or not stored.fill_declared:
        return False
    if index.counts(array.path).unallocated:
        return True
    fill = array.fill_value
    # NaN and NaT are missing whatever is declared
    return fill is not None and not (array.dtype.kind in "fcmM" and bool(np.isnan(fill)))


def _looks_like_storage(array: ArrayMetadata) -> bool:
    fill = array.fill_value
    if fill is None or array.dtype.kind == "O":
        return not fill
    if array.dtype.kind in "SUV":
        return not np.asarray(fill).tobytes().strip(b"\0 ")
    if array.dtype.kind in "mM":
        return bool(fill.view("i8") == 0)
    default = _NETCDF_FILLS.get(array.dtype.str[1:])
    return bool(fill == 0) or (default is not None and bool(fill == array.dtype.type(default)))


def _questions(index: Index, group: str) -> list[_Question]:
    found = []
    for path, array in index.hierarchy.arrays.items():
        counts = index.counts(path)
        rows = index.content.tables[path].granule.all()
        granules = np.unique(rows[rows < INLINED]).tolist()
        fill = _is_fill_open(index, array)
        # scanners that inline values leave chunks of nothing but fill out
        absent = counts.unallocated > 0 and (not counts.allocated or len(granules) == 1)
        if fill or absent:
            # an array that is inlined as a whole came from the granules of the others
            first = granules[0] if granules else 0
            url = index.urls[first] if index.granules else ""
            path_in_granule = f"{group}/{path}".strip("/")
            found.append(_Question(array, url, path_in_granule, fill, absent, counts.allocated))
    return found


async def _ask_all(
    questions: Iterable[_Question], source: ChunkSource, progress: Progress
) -> dict[str, GranuleArray]:
    by_granule: dict[str, list[_Question]] = {}
    for question in questions:
        by_granule.setdefault(question.url, []).append(question)
    answers: dict[str, GranuleArray] = {}
    for number, (url, asked) in enumerate(by_granule.items()):
        progress("Asking granules", number, len(by_granule))
        if url:
            answers.update(await _ask(url, source, asked))
    return answers


async def _ask(url: str, source: ChunkSource, questions: Iterable[_Question]) -> dict[str, GranuleArray]:
    paths = {question.path_in_granule: question.array.path for question in questions}
    absent = [question.path_in_granule for question in questions if question.absent]
    try:
        answers = await ask_granule(url, source, paths, contents=absent)
        return {paths[path]: answer for path, answer in answers.items()}
    except UpstreamError:
        # a guess would last as long as the cube is open, whatever the granule says a moment later
        _log.warning(
            "the first granule of %s cannot be asked about its fill; fill: declared or storage asks nothing",
            ", ".join(paths),
        )
        raise
    except UnreadableGranuleError as error:
        _log.warning("the first granule of %s cannot be asked about its fill: %s", ", ".join(paths), error)
        return {}


def _settled(index: Index, answers: _Answers, assumed: Iterable[str] = ()) -> Index:
    arrays = dict(index.content.arrays)
    for path, answer in answers.items():
        arrays[path] = _with_answer(index, path, answer)
    return Index(replace(index.content, arrays=arrays, assumed_fill=tuple(sorted(assumed))))


def _with_answer(index: Index, path: str, answer: GranuleArray) -> StoredArray:
    stored = index.content.arrays[path]
    fill = stored.document.get("fill_value")
    settled = replace(stored, fill_declared=stored.fill_declared and answer.declared)
    # in a stack, an unallocated chunk may also belong to a date that has no granule: that one is missing
    told = fill is not None and answer.shape != index.hierarchy.arrays[path].shape
    if answer.storage is None or told or not index.counts(path).unallocated:
        return settled
    document = {**stored.document, "fill_value": answer.storage}
    if fill is None or not answer.declared:
        return StoredArray(document, stored.attributes, fill_declared=False)
    return StoredArray(document, {**stored.attributes, "_FillValue": fill})


def _why_lost(settled: Index, question: _Question, answer: GranuleArray | None) -> str | None:
    if answer is None or answer.contents is None or not question.absent or not answer.contents.held:
        return None
    array, contents = settled.hierarchy.arrays[question.array.path], answer.contents
    if not question.allocated:
        return None if _is_fill(array, contents.uniform) else NO_CHUNK
    same_grid = (answer.shape, answer.chunk_shape) == (array.shape, array.chunk_shape)
    if same_grid and contents.chunks is not None and contents.chunks > question.allocated:
        return (
            f"its references name {question.allocated:,} chunks, yet the granule holds {contents.chunks:,}: "
            "build the references again"
        )
    return None


def _is_fill(array: ArrayMetadata, value: str | NDArray[Any] | None) -> bool:
    fill = array.fill_value
    if value is None or isinstance(value, str):
        return value is not None and array.dtype.hasobject and value == (fill or "")
    if value.dtype.newbyteorder("=") != array.dtype.newbyteorder("="):
        return False
    served = np.full(1, 0 if fill is None else fill, array.dtype)
    return bool(np.array_equal(value, served, equal_nan=array.dtype.kind in "fc"))
