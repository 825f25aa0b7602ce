"""Makes an index of what was read of the arrays and groups of one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cubegate.errors import InvalidReference
from cubegate.index.builders.hdf5_datasets import ScannedArray
from cubegate.index.documents import read_documents
from cubegate.index.index import Index
from cubegate.index.references import ReferenceCollector
from cubegate.index.table import WHOLE_OBJECT


def index_of_scanned(
    groups: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, ScannedArray],
    skipped: Mapping[str, str],
    *,
    base_url: str,
    check_url: Callable[[str], None],
    granules: Callable[[str], Sequence[str]],
) -> Index:
    """Return the index of `arrays` and `groups`, by path.

    `granules` gives the address of each chunk of an array, or a single one for all of them.
    Whatever has no `_FillValue` attribute declares no fill.

    Raises:
        InvalidReference: a chunk is in an impossible place, or a document is malformed.
        CubegateError: whatever `check_url` raises.
    """
    values: dict[str, Any] = {}
    for path, attributes in groups.items():
        prefix = f"{path}/" if path else ""
        values |= {f"{prefix}.zgroup": {"zarr_format": 2}, f"{prefix}.zattrs": dict(attributes)}
    for path, array in arrays.items():
        values |= {f"{path}/.zarray": array.document, f"{path}/.zattrs": array.attributes}
    documents = read_documents(values, "")
    collector = ReferenceCollector(base_url=base_url, check_url=check_url)
    for path, metadata in documents.metadata.items():
        array, references = arrays[path], collector.add_array(metadata)
        for number, data in array.inlined.items():
            collector.inline(references, number, data)
        if not len(array.numbers):
            continue
        possible = (array.offsets >= 0) & (array.nbytes > 0) & (array.nbytes < WHOLE_OBJECT)
        if not possible.all():
            raise InvalidReference(f"Array {path!r} has chunks in impossible places.")
        numbers = [collector.granule(url) for url in granules(path)]
        references.granule[array.numbers] = numbers if len(numbers) > 1 else numbers[0]
        references.offset[array.numbers] = array.offsets
        references.length[array.numbers] = array.nbytes
    # the file itself says what is declared
    stored = {path: replace(each, fill_declared=False) for path, each in documents.arrays.items()}
    return collector.index(groups=documents.groups, arrays=stored, skipped={**skipped, **documents.skipped})
