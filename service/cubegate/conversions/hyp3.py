"""Composes the build of a cube of HyP3 products."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cubegate.archives.building import Plan, write_cube
from cubegate.archives.hyp3_gathering import gather_products, read_documents
from cubegate.archives.hyp3_jobs import Job, find_jobs
from cubegate.archives.hyp3_layers import copies_of, index_layers, place_layers, remove_unused
from cubegate.archives.hyp3_products import LAYERS, Product, choose_layers, in_order, require_alike
from cubegate.archives.hyp3_regridding import Regridding, choose_grid, place_sources
from cubegate.archives.hyp3_stack import stack_products
from cubegate.chunks.upstream import open_upstreams
from cubegate.conversions.upstreams import accepted_by
from cubegate.credentials import open_credentials
from cubegate.errors import InvalidReference, NotFound
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """What to build of: addresses of folders, prefixes and ZIP files, or jobs of a project; and which of it.

    `start` and `end` are those of the (second) acquisition, datetime64[s]; `variables` are layers, all known
    ones where it is empty. With `in_place`, GeoTIFFs beside ZIP files on a server are read there.
    """

    places: Sequence[str]
    project: str | None = None
    start: np.datetime64 | None = None
    end: np.datetime64 | None = None
    path: int | None = None
    direction: str | None = None
    variables: Sequence[str] = ()
    in_place: bool = False
    regridding: Regridding = field(default_factory=Regridding)


@dataclass(frozen=True)
class Built:
    """What was built: the index, the products in the order of the cube, and what became of each.

    `copied` has the reason by layer by product; `zones` the number of products in each.
    """

    index: Index
    products: Sequence[Product]
    left_out: Mapping[str, str]
    copied: Mapping[str, Mapping[str, str]]
    layers_left_out: Mapping[str, str]
    grid: str
    zones: Mapping[str, int] = field(default_factory=dict)


async def build_hyp3(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    wanted: Wanted,
    *,
    progress: Progress,
) -> Built:
    """Build the cube of what is `wanted`.

    Raises:
        NotFound: nothing is left of it.
        InvalidReference: products cannot be read, or do not fit together; the message names them.
        InvalidParameter, ConfigurationError: what is asked for, or the configuration, cannot be used.
        UpstreamError: a place or the HyP3 API cannot be read.
        OSError: a file cannot be written.
    """
    credentials = open_credentials(settings.credentials, environment)
    upstreams = open_upstreams(settings.upstreams, credentials)
    try:
        places = list(wanted.places)
        jobs: list[Job] = []
        left_out: dict[str, str] = {}
        if wanted.project is not None:
            progress("Asking for jobs", 0, 1)
            jobs, left_out = await find_jobs(settings, credentials, wanted.project)
            jobs, others = _chosen_jobs(jobs, wanted)
            left_out |= others
            accepts = accepted_by(upstreams)
            places += [next(filter(accepts, job.urls), job.urls[-1]) for job in jobs]
        if not places:
            raise NotFound("No job that succeeded is left. " + _some(left_out))
        beside = [*LAYERS, *wanted.variables] if wanted.in_place else []
        products, repeated = await gather_products(
            places, upstreams, copies_of(plan), in_place=beside, progress=progress
        )
        products = _with_granules(products, jobs)
        products = await read_documents(products, upstreams, progress=progress)
        products, others = _chosen(products, wanted)
        left_out |= repeated | others
        if not products:
            raise NotFound("No product is left. " + _some(left_out))
        require_alike(products)
        layers, layers_left_out = choose_layers(products, wanted.variables, plan.allow_gaps)
        sources = await index_layers(plan, products, layers, upstreams, progress=progress)
        choice = choose_grid(sources, wanted.regridding)
        placements = place_sources(choice)
        indexes, copied, _ = await place_layers(plan, placements, choice.grid, upstreams, progress=progress)
    finally:
        await upstreams.aclose()
    kept = [product for product in products if product.name.name not in choice.left_out]
    progress("Stacking", 0, 1)
    index = await asyncio.to_thread(stack_products, kept, indexes, allow_gaps=plan.allow_gaps)
    await write_cube(plan, index)
    await asyncio.to_thread(remove_unused, plan, index.urls)
    by_product: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for each in copied:
        by_product[each.product][each.layer] = each.reason
    return Built(
        index,
        in_order(kept),
        {**left_out, **choice.left_out},
        dict(by_product),
        layers_left_out,
        choice.grid.text,
        choice.zones,
    )


def _chosen_jobs(jobs: Sequence[Job], wanted: Wanted) -> tuple[list[Job], dict[str, str]]:
    """Return those jobs that may be wanted by what the names of their granules tell."""
    kept, left_out = [], {}
    for job in jobs:
        if wanted.path is not None and job.path not in (None, wanted.path):
            left_out[job.id] = f"is of path {job.path}"
        elif wanted.direction is not None and job.direction not in (None, wanted.direction):
            left_out[job.id] = f"is {job.direction}"
        elif job.time is not None and (reason := _outside(job.time, wanted)):
            left_out[job.id] = reason
        else:
            kept.append(job)
    return kept, left_out


def _chosen(products: Sequence[Product], wanted: Wanted) -> tuple[list[Product], dict[str, str]]:
    kept, left_out = [], {}
    for product in products:
        name = product.name.name
        if wanted.path is not None and product.path is None:
            raise InvalidReference(f"{name} does not tell its path, so --path cannot choose it.")
        if wanted.direction is not None and product.direction is None:
            raise InvalidReference(
                f"{name} does not tell its direction, so --orbit-direction cannot choose it."
            )
        if wanted.path is not None and product.path != wanted.path:
            left_out[name] = f"is of path {product.path}"
        elif wanted.direction is not None and product.direction != wanted.direction:
            left_out[name] = f"is {product.direction}"
        elif reason := _outside(product.time, wanted):
            left_out[name] = reason
        else:
            kept.append(product)
    return kept, left_out


def _outside(time: np.datetime64, wanted: Wanted) -> str:
    early = wanted.start is not None and time < wanted.start
    late = wanted.end is not None and time > wanted.end
    return f"is of {np.datetime_as_string(time, 'D')}" if early or late else ""


def _with_granules(products: Sequence[Product], jobs: Sequence[Job]) -> list[Product]:
    """Return `products` with the granules of their jobs, of which the ZIP files have their names."""
    granules = {url.rpartition("/")[2].removesuffix(".zip"): job.granules for job in jobs for url in job.urls}
    return [replace(product, granules=granules.get(product.name.name, ())) for product in products]


def _some(left_out: Mapping[str, str]) -> str:
    said = [f"{name} {reason}" for name, reason in list(left_out.items())[:5]]
    return f"Left out: {', '.join(said)}." if said else "Nothing was found."
