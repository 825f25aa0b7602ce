"""The values of a constraint, read block by block and written as XDR or as text."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cubegate.dap.constraint import Part, Projection
from cubegate.dap.types import BYTE, as_typed, padding, texts, xdr_texts
from cubegate.dap.variables import Slabs
from cubegate.query.budget import Limits, Price, exceeded
from cubegate.query.in_thread import in_thread

# decoded; a client that reads slowly holds as much for as long
BLOCK = 32 * 2**20
# what one text takes in memory, when it is not known
_TEXT_NBYTES = 64


class Place(Protocol):
    """The place of a query among those that are worked at."""

    def leave_place(self) -> None:
        """Let another query in."""
        ...


Within = Callable[[int], AbstractAsyncContextManager[Place]]


def price_of(projections: Sequence[Projection]) -> Price:
    """Return what reading costs, block by block; nothing is read.

    Raises:
        CorruptIndex: the part of the index that would tell is damaged.
    """
    parts = [part for projection in projections for part in projection.parts]
    return _price(parts)


def _price(parts: Sequence[Part]) -> Price:
    reads = [part.variable.read_of(slabs) for part in parts for slabs in blocks(part)]
    costs = [read.array.cost(read.indexers) for read in reads if read is not None]
    cells = sum(part.size for part in parts)
    return Price(sum(each.chunks for each in costs), sum(each.nbytes for each in costs), cells)


def enforce(projections: Sequence[Projection], limits: Limits) -> None:
    """Refuse what costs more than the limits.

    Raises:
        BudgetExceeded: it does; the hint is a constraint that fits.
    """
    cells = sum(part.size for projection in projections for part in projection.parts)
    # blocks without end are not priced one by one
    asked = Price(0, 0, cells) if cells > limits.cells else price_of(projections)
    if not asked.within(limits):
        raise exceeded(asked, limits, _hint(projections, limits))


def _hint(projections: Sequence[Projection], limits: Limits) -> str:
    part = max((part for projection in projections for part in projection.parts), key=lambda part: part.size)
    for axis, slab in enumerate(part.slabs):
        count = part.shape[axis]
        while count > 1:
            count = (count + 1) // 2
            shorter = slice(slab.start, slab.start + (count - 1) * slab.step + 1, slab.step)
            part = Part(part.variable, (*part.slabs[:axis], shorter, *part.slabs[axis + 1 :]))
            if part.size <= limits.cells and _price([part]).within(limits):
                return f"It would fit with ?{part.text} at once."
    return "Ask for fewer variables, or the operator for higher limits."


def blocks(part: Part) -> Iterator[Slabs]:
    """Divide a part into slabs of at most about `BLOCK` bytes that follow each other in C order.

    They end where chunks end, as far as that can be, so that no chunk is read twice.
    """
    if not part.shape or not part.size:
        yield part.slabs
        return
    axis, count = _division(part)
    slabs: tuple[slice, ...] = part.slabs
    outer = itertools.product(*(range(slab.start, slab.stop, slab.step) for slab in slabs[:axis]))
    for place in outer:
        before = tuple(slice(index, index + 1, 1) for index in place)
        for along in _divided(slabs[axis], count, part.variable.chunk_shape[axis]):
            yield (*before, along, *slabs[axis + 1 :])


def _division(part: Part) -> tuple[int, int]:
    """The axis along which blocks follow each other, and how many values along it one may have.

    The first axis that can be: a chunk that is longer along it than a block is read again by each block
    that it is part of, and along a later axis that would be each value of this one.
    """
    itemsize = _itemsize(part)
    for axis in range(len(part.shape)):
        inner = max(1, math.prod(part.shape[axis + 1 :]) * itemsize)
        if inner <= BLOCK:
            break
    return axis, max(1, BLOCK // inner)


def _itemsize(part: Part) -> int:
    if part.variable.dap_type.is_text:
        return _TEXT_NBYTES
    # decoded values may be wider than those that are read
    read = part.variable.variable if part.variable.stored is None else part.variable.stored
    return int(read.dtype.itemsize)


def _divided(slab: slice, count: int, chunk: int) -> Iterator[slice]:
    start = slab.start
    while start < slab.stop:
        stop = min(slab.stop, start + count * slab.step)
        if stop < slab.stop and stop // chunk * chunk > start:
            stop = stop // chunk * chunk
        yield slice(start, stop, slab.step)
        start += -(-(stop - start) // slab.step) * slab.step


def length_of(projections: Sequence[Projection]) -> int | None:
    """Return how many bytes `write_xdr` will give; None where texts do not tell before they are read."""
    total = 0
    for part in (part for projection in projections for part in projection.parts):
        wire = part.variable.dap_type.wire
        if wire is None:
            return None
        nbytes = part.size * wire.itemsize
        total += nbytes + -nbytes % 4 + (8 if part.slabs else 0)
    return total


async def write_xdr(projections: Sequence[Projection], within: Within) -> AsyncGenerator[bytes]:
    """Read and write the values of all parts, in order; each block is read `within` its bytes.

    Raises:
        UpstreamError: a chunk could not be read.
        NotAcceptable: 64-bit integers would lose digits.
    """
    for part in (part for projection in projections for part in projection.parts):
        count = part.size.to_bytes(4, "big") if part.slabs else b""
        head = count if part.variable.dap_type.is_text else count * 2
        async for values in _read(part, within, partial(_xdr, part)):
            # with the first values, so that nothing is sent before they are there
            yield head + values
            head = b""
        if part.variable.dap_type is BYTE:
            yield padding(part.size)


def _xdr(part: Part, _: Slabs, values: NDArray[Any]) -> bytes:
    if part.variable.dap_type.is_text:
        return b"".join(xdr_texts(texts(values)))
    return as_typed(values, part.variable.dap_type, part.variable.name).tobytes()


async def write_ascii(projections: Sequence[Projection], within: Within) -> AsyncGenerator[bytes]:
    """Read and write the values of all parts as text, one line along the last dimension.

    Raises:
        UpstreamError, NotAcceptable: as `write_xdr`.
    """
    for projection in projections:
        for part in projection.parts:
            names = [projection.name] if projection.kind else []
            head = _heading(part, names).encode()
            async for lines in _read(part, within, partial(_lines, part)):
                yield head + lines
                head = b""
            yield b"\n"


def _heading(part: Part, names: list[str]) -> str:
    name = ".".join([*names, part.variable.name])
    return name + "".join(f"[{size}]" for size in part.shape) + "\n"


def _lines(part: Part, slabs: Slabs, values: NDArray[Any]) -> bytes:
    if part.variable.dap_type.is_text:
        cells = ['"' + each.decode("utf-8", "replace").replace('"', '\\"') + '"' for each in texts(values)]
        written = np.array(cells, object).reshape(values.shape)
    else:
        typed = as_typed(values, part.variable.dap_type, part.variable.name)
        written = typed.astype(typed.dtype.newbyteorder("=")).astype(str)
    shape: tuple[int, ...] = written.shape
    if len(shape) < 2:
        # the blocks of one line are joined by what parts its values
        more = bool(slabs) and slabs[0].stop < part.slabs[0].stop
        return (", ".join(written.reshape(-1).tolist()) + (", " if more else "\n")).encode()
    firsts = [
        (block.start - whole.start) // whole.step for block, whole in zip(slabs, part.slabs, strict=True)
    ]
    rows = written.reshape(-1, shape[-1])
    more = slabs[-1].stop < part.slabs[-1].stop
    lines = []
    for number, place in enumerate(np.ndindex(*shape[:-1])):
        where = "".join(f"[{first + index}]" for first, index in zip(firsts, place, strict=False))
        head = f"{where}, " if slabs[-1].start == part.slabs[-1].start else ""
        lines.append(head + ", ".join(rows[number].tolist()) + (", " if more else "\n"))
    return "".join(lines).encode()


async def _read(
    part: Part, within: Within, write: Callable[[Slabs, NDArray[Any]], bytes]
) -> AsyncGenerator[bytes]:
    for slabs in blocks(part):
        block = Part(part.variable, slabs)
        itemsize = max(8, part.variable.variable.dtype.itemsize)
        async with within(2 * block.size * itemsize) as place:
            values = await part.variable.read(slabs)
            written = await in_thread(partial(write, slabs, values))
            del values
            place.leave_place()
            yield written
