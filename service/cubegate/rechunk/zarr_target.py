"""A Zarr store to write a cube to, in format 2 or in format 3 with shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from cubegate.errors import ConfigurationError, NotRepresentable, UpstreamDenied, UpstreamUnavailable
from cubegate.index.metadata import ArrayMetadata, CodecsV2, CodecsV3, Hierarchy
from cubegate.rechunk.layout import Layout, Region, Sizes
from cubegate.store.documents import ZarrDocuments, plain_array
from cubegate.store.documents_v3 import array_document_v3

Format = Literal[2, 3]

_BLOSC = {"cname": "zstd", "clevel": 5, "blocksize": 0}


class ZarrTarget:
    """The arrays of `hierarchy`, which `cut` has made, below the root of `store`.

    `crs_wkt` gives the CRS of georeferenced arrays by path.

    Raises:
        NotRepresentable: an array has no form in this format; the message says why.
    """

    def __init__(
        self,
        store: Store,
        zarr_format: Format,
        hierarchy: Hierarchy,
        crs_wkt: Mapping[str, str] | None = None,
    ) -> None:
        self._store, self._format, self._hierarchy = store, zarr_format, hierarchy
        self._documents = ZarrDocuments(hierarchy, crs_wkt)
        for path in hierarchy.arrays:
            reason = self._documents.reasons.get((path, zarr_format))
            if reason is not None:
                raise NotRepresentable(reason)

    def prepare(self) -> None:
        """Write the documents of the arrays.

        Raises:
            ConfigurationError: there is a store already.
        """
        self.require_nothing()
        self.write_arrays()

    def require_nothing(self) -> None:
        """Raise `ConfigurationError` where there is a store already."""
        for name in ("zarr.json", ".zgroup", ".zmetadata"):
            with in_own_words():
                exists = sync(self._store.exists(name))
            if exists:
                mend = "Remove it, or choose another output."
                raise ConfigurationError("there is a store already", file=str(self._store), mend=mend)

    def write_arrays(self) -> None:
        """Write the documents of the arrays."""
        names = (".zarray", ".zattrs") if self._format == 2 else ("zarr.json",)
        self._put(f"{path}/{name}" for path in self._hierarchy.arrays for name in names)

    def finish(self) -> None:
        """Write the documents of the groups, without which nobody takes the arrays for a store."""
        names = (".zattrs", ".zgroup", ".zmetadata") if self._format == 2 else ("zarr.json",)
        # the root, which readers open first, last
        groups = sorted(self._hierarchy.groups, key=len, reverse=True)
        self._put(f"{path}/{name}".lstrip("/") for path in groups for name in names)

    def read(self, path: str, region: Region) -> NDArray[Any]:
        """Return the values of one region."""
        with in_own_words():
            return np.asarray(self._array(path)[region])

    def write(self, path: str, region: Region, values: NDArray[Any]) -> None:
        """Write one region, whole shards or chunks."""
        with in_own_words():
            self._array(path)[region] = values

    def _array(self, path: str) -> zarr.Array[Any]:
        array = zarr.open_array(self._store, path=path, mode="r+", zarr_format=self._format)
        # what equals the fill in value may differ from it in bits; zarr's own setting is of all threads
        return array.with_config({"write_empty_chunks": True})

    def _put(self, keys: Iterable[str]) -> None:
        prototype = default_buffer_prototype()
        for key in keys:
            document = self._documents.get(key)
            if document is not None:
                with in_own_words():
                    sync(self._store.set(key, prototype.buffer.from_bytes(document.body)))


@contextmanager
def in_own_words() -> Iterator[None]:
    """Raise errors of ours for those of a bucket that is written, whose text quotes it.

    Raises:
        UpstreamDenied, UpstreamUnavailable: it refuses, or fails.
        ConfigurationError: there is something already.
    """
    try:
        yield
    except AlreadyExistsError:
        mend = "Remove it, or choose another output."
        raise ConfigurationError("the output exists already", mend=mend) from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise UpstreamDenied("The output may not be written and read with its credentials.") from None
    except BaseError:
        raise UpstreamUnavailable("The output cannot be reached, or is not available.") from None


def cut(array: ArrayMetadata, layout: Layout, zarr_format: Format) -> ArrayMetadata:
    """Return the metadata of `array` as it is written: in little-endian, compressed by Blosc with Zstandard.

    Raises:
        NotRepresentable: Zarr v3 has no data type for it.
    """
    native = array.dtype if array.dtype.hasobject else array.dtype.newbyteorder("<")
    plain = dataclasses.replace(plain_array(array), dtype=native, chunk_shape=layout.chunks)
    if zarr_format == 2:
        assert isinstance(plain.codecs, CodecsV2)  # noqa: S101 - plain arrays have no others
        compressor = {"id": "blosc", **_BLOSC, "shuffle": 1}
        return dataclasses.replace(plain, codecs=CodecsV2(plain.codecs.filters, compressor))
    document = array_document_v3(plain)
    codecs = [*document["codecs"], _compressor_v3(native)]
    if layout.write != layout.chunks:
        codecs = [_sharding(layout.chunks, codecs)]
    described = {key: document[key] for key in ("data_type", "fill_value")} | {"codecs": codecs}
    return dataclasses.replace(
        plain, codecs=CodecsV3(tuple(codecs)), chunk_shape=layout.write, document=described
    )


def _compressor_v3(dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.hasobject:
        return {"name": "zstd", "configuration": {"level": 5, "checksum": False}}
    typesize = min(dtype.itemsize, 255)
    return {"name": "blosc", "configuration": {**_BLOSC, "shuffle": "shuffle", "typesize": typesize}}


def _sharding(chunks: Sizes, codecs: list[dict[str, Any]]) -> dict[str, Any]:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    configuration = {
        "chunk_shape": list(chunks), "codecs": codecs, "index_codecs": index, "index_location": "end"
    }  # fmt: skip
    return {"name": "sharding_indexed", "configuration": configuration}
