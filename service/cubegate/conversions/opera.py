"""Composes the search for OPERA DISP-S1 products, their build, and its update."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cubegate.archives.build_record import BuildRecord, record_file, write_record
from cubegate.archives.building import Part, Plan, make_index, write_cube
from cubegate.archives.cmr import CMR, Granule
from cubegate.archives.frame_stack import with_time_axis
from cubegate.archives.opera import Choice, Product, Wanted, choose, product_named_in
from cubegate.archives.update import Published, publish
from cubegate.chunks.upstream import Upstreams
from cubegate.conversions.upstreams import accepted_by, opened_upstreams
from cubegate.errors import NotFound
from cubegate.index.build import build_index
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.settings import Settings

KIND = "opera-disp-s1"
REFERENCES = (".zarr.json.gz", ".dmrpp", ".nc", ".h5")
"""What a granule is read by, the first of these that its archive lists."""
_DISPLACEMENTS = ("displacement", "short_wavelength_displacement")


async def find_products(settings: Settings, wanted: Wanted, *, progress: Progress) -> Choice:
    """Search for OPERA DISP-S1 products; the address of a granule is not searched for.

    Raises:
        UpstreamError: the search fails.
        NotFound: what is asked for as a granule is none.
    """
    if wanted.granule is not None and "://" in wanted.granule:
        product = product_named_in(wanted.granule)
        if product is None:
            raise NotFound(
                f"{wanted.granule.partition('?')[0]} does not end in the name of a DISP-S1 product."
            )
        return Choice([product], {})
    found = await CMR(settings.archives.cmr).granules(
        wanted.query(), lambda done, total: progress("Searching", done, total)
    )
    return choose(found, wanted)


def kind_of_references(product: Product) -> str | None:
    """Return by what `product` is read, one of `REFERENCES`; None where it is by none."""
    urls = product.granule.urls
    return next((suffix for suffix in REFERENCES if any(url.endswith(suffix) for url in urls)), None)


async def index_products(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    products: Sequence[Product],
    *,
    progress: Progress,
) -> Index:
    """Return the index of the cube of `products`, and write nothing of it.

    Raises:
        NotFound: there are no products.
        InvalidReference: some have no references that may be read, or cannot be used; see `make_index`.
    """
    if not products:
        raise NotFound("The search found no product, so there is nothing to build.")
    async with opened_upstreams(settings, environment) as upstreams:
        parts = [_part(product, upstreams) for product in products]
        return await make_index(plan, parts, upstreams, check_url=upstreams.check, progress=progress)


async def index_stack(
    settings: Settings, environment: Mapping[str, str], url: str, *, progress: Progress
) -> Index:
    """Return the index of the references at `url`, which stack the granules of a frame, with a time axis.

    Raises:
        InvalidReference, UpstreamError: see `build_index` and `with_time_axis`.
    """
    async with opened_upstreams(settings, environment) as upstreams:
        index = await build_index(
            url, upstreams, check_url=upstreams.check, validators=True, progress=progress
        )
    progress("Adding the time axis", 0, 1)
    return await asyncio.to_thread(with_time_axis, index)


async def build_products(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    wanted: Wanted,
    choice: Choice,
    *,
    progress: Progress,
) -> Index:
    """Build the cube of the products of `choice`, and keep what was `wanted` for an update.

    Raises:
        NotFound, InvalidReference: see `index_products`.
        OSError: a file cannot be written.
    """
    index = await index_products(settings, environment, plan, choice.products, progress=progress)
    names = [product.name for product in choice.products]
    # no cube without its record, which nothing mounts
    await asyncio.to_thread(_record, plan, index.version, wanted.document(), names, None)
    await write_cube(_with_continuous(plan, index), index)
    return index


async def build_stack(
    settings: Settings, environment: Mapping[str, str], plan: Plan, url: str, *, progress: Progress
) -> Index:
    """Build the cube of a frame's stack of references at `url`.

    Raises:
        InvalidReference, UpstreamError: see `index_stack`.
        OSError: a file cannot be written.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    index = await index_stack(settings, environment, url, progress=progress)
    await asyncio.to_thread(_record, plan, index.version, {}, (), url)
    await write_cube(_with_continuous(plan, index), index)
    return index


async def update_cube(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    record: BuildRecord,
    *,
    even_if_other: bool,
    progress: Progress,
) -> tuple[Published, Choice | None]:
    """Look for what is new since the build that `record` tells of, and publish it; see `publish`.

    The choice is None where the cube is of a stack of references.

    Raises:
        NotFound, InvalidReference, UpstreamError: see `find_products`, `index_products` and `index_stack`.
        CorruptIndex: the index that is mounted is damaged.
        OSError: a file cannot be written.
    """
    stack, choice = record.others.get("stack"), None
    names: Sequence[str] = ()
    if stack is not None:
        index = await index_stack(settings, environment, str(stack), progress=progress)
    else:
        choice = await find_products(settings, Wanted.of(record.wanted), progress=progress)
        names = [product.name for product in choice.products]
        index = await index_products(settings, environment, plan, choice.products, progress=progress)
    published = await asyncio.to_thread(publish, index, plan.index, replace=even_if_other)
    await asyncio.to_thread(shutil.rmtree, plan.parts, ignore_errors=True)
    if published.outcome != "new version":
        await asyncio.to_thread(_record, plan, index.version, record.wanted, names, stack)
    return published, choice


def _with_continuous(plan: Plan, index: Index) -> Plan:
    """Name the displacement that is continuous along time, where there is a series of it."""
    arrays = index.hierarchy.arrays
    if "reference_time" not in arrays or arrays["time"].shape[0] < 2:
        return plan
    name = next((name for name in _DISPLACEMENTS if name in arrays), None)
    if name is None:
        return plan
    derived = {f"{name}_continuous": {"kind": "continuous", "variable": name}}
    return replace(plan, settings={**plan.settings, "derived": derived})


def _record(
    plan: Plan, version: str, wanted: Mapping[str, Any], names: Sequence[str], stack: str | None
) -> None:
    others = {} if stack is None else {"stack": stack}
    record = BuildRecord(KIND, wanted, tuple(names), version, tuple(sorted(plan.allow_gaps)), others)
    write_record(record_file(plan.directory, plan.id), record)


def _part(product: Product, upstreams: Upstreams) -> Part:
    suffix = kind_of_references(product)
    accepts = accepted_by(upstreams)
    references = None if suffix is None else product.granule.url_with(suffix, accepts)
    if references is None:
        raise NotFound(_without_references(product.granule, suffix))
    return Part(
        product.name,
        references,
        product.secondary.astype("M8[ns]"),
        {"reference_time": product.reference.astype("M8[ns]")},
    )


def _without_references(granule: Granule, suffix: str | None) -> str:
    if suffix is None:
        return f"{granule.name} ships no references and no file to scan ({', '.join(REFERENCES)})."
    listed = [url for url in granule.urls if url.endswith(suffix)]
    return f"No upstream may read the references of {granule.name}. List one of: {', '.join(listed)}"
