"""What a dataset holds as DAP2 sees it: stored values with stored attributes, left to clients to decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubegate.dap.types import BYTE, INT16, DapType, texts, type_of
from cubegate.errors import NotAcceptable
from cubegate.query.grid_mapping import with_pole
from cubegate.query.selection import Priced, Read, load_variable
from cubegate.store.reader import EncodedArray

Slabs = tuple[slice, ...]

# values; netCDF-C 4.10 takes what it asks for together with others, which is what is small, wrongly from
# the members of grids
SMALLEST_GRID = 2**16
# values of texts whose lengths are looked up
MOST_TEXTS = 2**16


@dataclass(frozen=True, eq=False)
class DapVariable:
    """One variable.

    Attributes:
        name: as in the dataset.
        dap_type: of the values as they are sent.
        attributes: as stored, without `_FillValue`.
        fill: the stored value that means missing; None where there is none.
        maps: the coordinate variables of all its dimensions, in order; empty where one has none, or
            where this is no grid.
        variable: decoded and lazy.
        stored: what reads the values as stored; None for texts and for what is computed.
        divisor: by which the stored values are divided, all of them without remainder.
    """

    name: str
    dap_type: DapType
    attributes: Mapping[str, Any]
    fill: Any
    variable: xr.Variable
    stored: EncodedArray | None
    maps: tuple[DapVariable, ...] = ()
    divisor: int = 1

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        return tuple(map(str, self.variable.dims))

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the dimensions."""
        return self.variable.shape

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The sizes of what is stored together; those of the whole where nothing is known."""
        chunks = self.variable.encoding.get("preferred_chunks", {})
        sizes = zip(self.dims, self.shape, strict=True)
        return tuple(max(1, int(chunks.get(dim, size))) for dim, size in sizes)

    def read_of(self, slabs: Slabs) -> Read | None:
        """Return what reading a part reads, for its price; None where nothing is."""
        array: Priced | None = self.variable.encoding.get("encoded_array")
        if array is None:
            return None
        # characters are stored with a last dimension of their own
        joined = [slice(None)] * (len(array.shape) - len(slabs))
        return Read(array, (*slabs, *joined))

    @property
    def whole(self) -> Slabs:
        """All of it."""
        return tuple(slice(0, size, 1) for size in self.shape)

    async def read(self, slabs: Slabs) -> NDArray[Any]:
        """Return the values of a part, of the shape that `slabs` say, as stored.

        Raises:
            UpstreamError: a chunk could not be read.
            NotAcceptable: times have no form in DAP2.
        """
        if self.stored is not None:
            values = await self.stored.read(slabs)
            if self.divisor > 1:
                return self._divided(values)
            # signed bytes that are marked as unsigned
            return values.view(np.uint8) if self.dap_type is BYTE else values
        selected = self.variable.isel(dict(zip(self.variable.dims, slabs, strict=True)))
        await load_variable(selected)
        return np.asarray(selected.values)

    def _divided(self, values: NDArray[Any]) -> NDArray[Any]:
        missing = np.zeros(values.shape, bool) if self.fill is None else values == self.fill
        if (values[~missing] % self.divisor).any():
            raise NotAcceptable(f"Variable {self.name!r} has times that no type of DAP2 holds.")
        return np.where(missing, values, values // self.divisor)


def describe(dataset: xr.Dataset) -> dict[str, DapVariable]:
    """Return the variables of a dataset by name; those of types that DAP2 does not know are left out."""
    found = {str(name): _describe(str(name), each) for name, each in dataset.variables.items()}
    known = {name: each for name, each in found.items() if each is not None}
    return {name: _with_maps(each, known) for name, each in known.items()}


def _describe(name: str, variable: xr.Variable) -> DapVariable | None:
    array = variable.encoding.get("encoded_array")
    if not isinstance(array, EncodedArray):
        return _computed(name, variable)
    dap_type = type_of(array.dtype)
    if dap_type is None:
        return None
    attributes = with_pole(array.metadata.attributes)
    fill = array.metadata.declared_fill
    if dap_type.is_text:
        return DapVariable(name, dap_type, attributes, None, variable, None)
    unsigned = str(attributes.get("_Unsigned", "")).lower() == "true"
    if array.dtype == np.int8 and unsigned:
        dap_type, fill = BYTE, None if fill is None else int(fill) % 256
    if dap_type is BYTE and not variable.dims:
        # clients differ in which of four bytes the only one is
        dap_type = INT16
    elif array.dtype == np.uint8:
        # for clients to whom the bytes of DAP2 have a sign
        attributes.setdefault("_Unsigned", "true")
    if fill is None and array.dtype.kind == "f" and variable.dims != (name,):
        # or else some clients take NaN for 0
        fill = np.nan
    return DapVariable(name, dap_type, attributes, fill, variable, array)


def _computed(name: str, variable: xr.Variable) -> DapVariable | None:
    dap_type = type_of(variable.dtype)
    if dap_type is None:
        return None
    fill = np.nan if variable.dtype.kind == "f" and variable.dims != (name,) else None
    return DapVariable(name, dap_type, _attributes(variable), fill, variable, None)


def _attributes(variable: xr.Variable) -> dict[str, Any]:
    """The attributes of a variable that is not stored, with those that decoding moves to its encoding."""
    moved = {
        key: variable.encoding[key] for key in ("grid_mapping", "coordinates") if key in variable.encoding
    }
    return {**variable.attrs, **moved}


def _with_maps(variable: DapVariable, known: Mapping[str, DapVariable]) -> DapVariable:
    if variable.dims == (variable.name,):
        return variable
    maps = [known[dim] for dim in variable.dims if dim in known and known[dim].dims == (dim,)]
    if len(maps) != len(variable.dims) or variable.variable.size < SMALLEST_GRID:
        return variable
    if variable.dap_type.is_text or any(each.dap_type.is_text for each in maps):
        return variable
    return replace(variable, maps=tuple(maps))


async def longest_text(variable: DapVariable) -> int | None:
    """Return the bytes of the longest of the texts; None where too many would have to be read.

    Raises:
        UpstreamError: a chunk could not be read.
    """
    dtype = variable.variable.dtype
    if dtype.kind == "S":
        return int(dtype.itemsize)
    if variable.variable.size > MOST_TEXTS:
        return None
    found = texts(await variable.read(variable.whole))
    return max([len(text) for text in found], default=0)
