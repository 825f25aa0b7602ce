"""Composes the search for OPERA DISP-S1 products and their build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cubegate.archives.building import Part, Plan, build_cube
from cubegate.archives.cmr import CMR, Granule
from cubegate.archives.opera import Choice, Product, Wanted, choose
from cubegate.chunks.upstream import Upstreams
from cubegate.conversions.upstreams import accepted_by, opened_upstreams
from cubegate.errors import NotFound
from cubegate.index.index import Index
from cubegate.index.progress import Progress
from cubegate.settings import Settings

SIDECAR = ".zarr.json.gz"


async def find_products(settings: Settings, wanted: Wanted, *, progress: Progress) -> Choice:
    """Search for OPERA DISP-S1 products.

    Raises:
        UpstreamError: the search fails.
    """
    found = await CMR(settings.archives.cmr).granules(
        wanted.query(), lambda done, total: progress("Searching", done, total)
    )
    return choose(found, wanted)


async def build_products(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    products: Sequence[Product],
    *,
    progress: Progress,
) -> Index:
    """Build the cube of `products`, by the references that each granule ships.

    Raises:
        NotFound: there are no products.
        InvalidReference: some ship no references that may be read, or cannot be used; see `build_cube`.
    """
    if not products:
        raise NotFound("The search found no product, so there is nothing to build.")
    async with opened_upstreams(settings, environment) as upstreams:
        parts = [_part(product, upstreams) for product in products]
        return await build_cube(plan, parts, upstreams, check_url=upstreams.check, progress=progress)


def _part(product: Product, upstreams: Upstreams) -> Part:
    references = product.granule.url_with(SIDECAR, accepted_by(upstreams))
    if references is None:
        raise NotFound(_without_references(product.granule))
    return Part(
        product.name,
        references,
        product.secondary.astype("M8[ns]"),
        {"reference_time": product.reference.astype("M8[ns]")},
    )


def _without_references(granule: Granule) -> str:
    listed = [url for url in granule.urls if url.endswith(SIDECAR)]
    if not listed:
        return f"{granule.name} ships no references ({SIDECAR})."
    return f"No upstream may read the references of {granule.name}. List one of: {', '.join(listed)}"
