"""Describes an HDF5 file in DMR++, in the form in which Hyrax's build_dmrpp does."""

import base64
import zlib
from xml.sax.saxutils import escape, quoteattr

import h5py
import numpy as np

_TYPES = {
    "i1": "Int8", "u1": "UInt8", "i2": "Int16", "u2": "UInt16", "i4": "Int32", "u4": "UInt32", "i8": "Int64",
    "u8": "UInt64", "f4": "Float32", "f8": "Float64",
}  # fmt: skip
_HIDDEN = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates")


def describe(path, *, href="OPeNDAP_DMRpp_DATA_ACCESS_URL", missing=()):
    """Return the DMR++ of the file at `path`; the values of `missing` are in the document itself."""
    with h5py.File(path, "r") as file:
        inner = "".join(_group(file, missing))
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n'
        '<Dataset xmlns="http://xml.opendap.org/ns/DAP/4.0#" '
        'xmlns:dmrpp="http://xml.opendap.org/dap/dmrpp/1.0.0#" dapVersion="4.0" dmrVersion="1.0" '
        f'name="{path.name}" dmrpp:href={quoteattr(href)} dmrpp:version="3.21.1">\n{inner}</Dataset>\n'
    )


def _group(group, missing):
    for name, item in group.items():
        if isinstance(item, h5py.Dataset) and h5py.h5ds.is_scale(item.id):
            yield f'<Dimension name="{name}" size="{item.shape[0]}"/>\n'
    for item in group.values():
        if isinstance(item, h5py.Dataset):
            yield from _variable(item, missing)
    yield from _attributes(group)
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield f'<Group name="{name}">\n'
            yield from _group(item, missing)
            yield "</Group>\n"


def _attributes(item):
    for name, value in item.attrs.items():
        if name in _HIDDEN:
            continue
        values = np.asarray(value).reshape(-1)
        kind = _TYPES.get(values.dtype.str[1:], "String")
        written = "".join(f"<Value>{escape(_text(one))}</Value>" for one in values)
        yield f'<Attribute name="{name}" type="{kind}">{written}</Attribute>\n'


def _text(value):
    return f"{value:.17g}" if isinstance(value, np.floating) else str(value)


def _variable(dataset, missing):
    kind = _TYPES.get(dataset.dtype.str[1:], "String")
    yield f'<{kind} name="{dataset.name.rpartition("/")[2]}">\n'
    for axis, size in enumerate(dataset.shape):
        if h5py.h5ds.is_scale(dataset.id):
            yield f'<Dim name="{dataset.name}"/>\n'
        elif len(dataset.dims[axis]):
            yield f'<Dim name="{dataset.dims[axis][0].name}"/>\n'
        else:
            yield f'<Dim size="{size}"/>\n'
    yield from _attributes(dataset)
    if dataset.name.strip("/") in missing:
        values = np.ascontiguousarray(dataset[()], dataset.dtype.newbyteorder("<"))
        packed = base64.b64encode(zlib.compress(values.tobytes())).decode()
        yield f"<dmrpp:missingdata>{packed}</dmrpp:missingdata>\n"
    elif dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT:
        values = np.ascontiguousarray(dataset[()], dataset.dtype.newbyteorder("<"))
        yield f"<dmrpp:compact>{base64.b64encode(values.tobytes()).decode()}</dmrpp:compact>\n"
    else:
        yield from _chunks(dataset)
    yield f"</{kind}>\n"


def _chunks(dataset):
    filters = [dataset.id.get_create_plist().get_filter(n) for n in range(len(dataset._filters))]
    names = " ".join({1: "deflate", 2: "shuffle", 3: "fletcher32"}[code] for code, *_ in filters)
    levels = " ".join(str(values[0]) for code, _, values, _ in filters if code == 1)
    fill = str(dataset.fillvalue) if dataset.dtype.kind in "iuf" else ""
    order = "BE" if dataset.dtype.str[0] == ">" else "LE"
    yield f'<dmrpp:chunks fillValue="{fill}" byteOrder="{order}"'
    yield f' compressionType="{names}"' if names else ""
    yield f' deflateLevel="{levels}">\n' if levels else ">\n"
    if dataset.chunks is None:
        if dataset.id.get_offset() is not None:
            place = f'offset="{dataset.id.get_offset()}" nBytes="{dataset.id.get_storage_size()}"'
            yield f"<dmrpp:chunk {place}/>\n"
    else:
        yield f"<dmrpp:chunkDimensionSizes>{' '.join(map(str, dataset.chunks))}</dmrpp:chunkDimensionSizes>\n"
        for number in range(dataset.id.get_num_chunks()):
            chunk = dataset.id.get_chunk_info(number)
            at = ",".join(map(str, chunk.chunk_offset))
            place = f'offset="{chunk.byte_offset}" nBytes="{chunk.size}"'
            yield f'<dmrpp:chunk {place} chunkPositionInArray="[{at}]"/>\n'
    yield "</dmrpp:chunks>\n"
