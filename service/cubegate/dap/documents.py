"""The text documents of DAP2: DDS (structure), DAS (attributes), errors and versions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from cubegate import __version__
from cubegate.dap.constraint import Part, Projection
from cubegate.dap.names import escaped
from cubegate.dap.types import BYTE, EXACT, FLOAT32, FLOAT64, INT32, STRING, DapType
from cubegate.dap.variables import DapVariable

GLOBAL = "NC_GLOBAL"
EXTRA = "DODS_EXTRA"
# attributes that hold values of their variable, and so have its type
_OF_VALUES = frozenset(
    {"missing_value", "valid_min", "valid_max", "valid_range", "flag_values", "flag_masks"}
)
_RANGES = {
    "Byte": (0, 2**8),
    "Int16": (-(2**15), 2**15),
    "Int32": (-(2**31), 2**31),
}


def write_dds(name: str, projections: Iterable[Projection]) -> str:
    """Write the structure of what is asked for."""
    lines = [line for projection in projections for line in _declare(projection)]
    return "\n".join(["Dataset {", *(f"    {line}" for line in lines), f"}} {escaped(name)};", ""])


def _declare(projection: Projection) -> list[str]:
    declared = [_declare_part(part) for part in projection.parts]
    name = escaped(projection.name)
    if projection.kind == "Grid":
        maps = [f"    {line}" for line in declared[1:]]
        return ["Grid {", "  ARRAY:", f"    {declared[0]}", "  MAPS:", *maps, f"}} {name};"]
    if projection.kind == "Structure":
        return ["Structure {", *(f"    {line}" for line in declared), f"}} {name};"]
    return declared


def _declare_part(part: Part) -> str:
    dims = zip(part.variable.dims, part.shape, strict=True)
    sizes = "".join(f"[{escaped(dim)} = {size}]" for dim, size in dims)
    return f"{part.variable.dap_type.name} {escaped(part.variable.name)}{sizes};"


def write_das(
    variables: Iterable[DapVariable],
    attributes: Mapping[str, Any],
    lengths: Mapping[str, int],
    growing: str | None = None,
) -> str:
    """Write the attributes of all variables, and those of the dataset.

    `lengths` are the bytes of the longest text of a variable, without which netCDF-C cuts texts. `growing`
    is the dimension of the times: that of records, which some operators of NCO need, where it is stored so.
    """
    lines = ["Attributes {"]
    known = list(variables)
    for variable in known:
        lines += _container(variable.name, _of_variable(variable, lengths))
    lines += _container(GLOBAL, (line for each in attributes.items() for line in _attribute(*each)))
    if growing is not None and _are_records(known, growing):
        lines += _container(EXTRA, _attribute("Unlimited_Dimension", growing))
    return "\n".join([*lines, "}", ""])


def _are_records(variables: Iterable[DapVariable], dim: str) -> bool:
    """Whether each place along a dimension is stored by itself, since clients read records one by one."""
    along = [each for each in variables if dim in each.dims and len(each.dims) > 1]
    return bool(along) and all(each.chunk_shape[each.dims.index(dim)] == 1 for each in along)


def _container(name: str, attributes: Iterable[str]) -> list[str]:
    return [f"    {escaped(name)} {{", *(f"        {line}" for line in attributes), "    }"]


def _of_variable(variable: DapVariable, lengths: Mapping[str, int]) -> Iterator[str]:
    if variable.name in lengths:
        length = max(1, lengths[variable.name])
        yield f"Int32 DODS.strlen {length};"
        yield f"String DODS.dimName {_quoted(f'{variable.name}_length')};"
    if variable.fill is not None:
        yield from _attribute("_FillValue", variable.fill, variable.dap_type)
    for name, value in variable.attributes.items():
        yield from _attribute(name, value, variable.dap_type if name in _OF_VALUES else None)


def _attribute(name: str, value: Any, wanted: DapType | None = None) -> Iterator[str]:
    """Write one attribute, as `wanted` where its values fit; nothing where it has none."""
    values = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    values = list(values) if isinstance(values, list | tuple) else [values]
    if not values or any(each is None for each in values):
        return
    dap_type = _type_of(values)
    if wanted is not None and not wanted.is_text and _fit(values, wanted):
        dap_type = wanted
    yield f"{dap_type.name} {escaped(name)} {', '.join(_written(each, dap_type) for each in values)};"


def _type_of(values: list[Any]) -> DapType:
    if all(isinstance(each, bool) for each in values):
        return BYTE
    if all(isinstance(each, int) for each in values):
        return INT32 if _fit(values, INT32) else FLOAT64 if max(map(abs, values)) <= EXACT else STRING
    if all(isinstance(each, int | float) for each in values):
        return FLOAT64
    return STRING


def _fit(values: list[Any], wanted: DapType) -> bool:
    if not all(isinstance(each, int | float) for each in values):
        return False
    if wanted in (FLOAT32, FLOAT64):
        return True
    low, high = _RANGES[wanted.name]
    return all(math.isfinite(each) and each == int(each) and low <= each < high for each in values)


def _written(value: Any, dap_type: DapType) -> str:
    if dap_type is STRING:
        return _quoted(value if isinstance(value, str) else json.dumps(value, default=str))
    if dap_type in (FLOAT32, FLOAT64):
        number = float(value)
        if math.isnan(number):
            return "NaN"
        return repr(number) if math.isfinite(number) else ("inf" if number > 0 else "-inf")
    return str(int(value))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_error(code: int, message: str) -> str:
    """Write the document that stands for an answer."""
    return f"Error {{\n    code = {code};\n    message = {_quoted(message)};\n}};\n"


def write_version() -> str:
    """Write which protocol and which server this is."""
    return f"Core version: DAP/2.0\nServer version: cubegate/{__version__}\n"
