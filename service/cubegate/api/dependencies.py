"""What a route depends on, taken from the application that `create_app` composed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Path, Request

from cubegate.api.admission import QueryLimit
from cubegate.api.spool import Spool
from cubegate.catalog.catalog import Catalog
from cubegate.catalog.cube import Cube
from cubegate.chunks.upstream_states import UpstreamStates
from cubegate.formats.output import OutputFormat
from cubegate.metrics.metrics import Metrics
from cubegate.settings import LimitSettings


@dataclass(frozen=True)
class Services:
    """Everything that routes share; `create_app` puts one at `app.state.services`."""

    catalog: Catalog
    limits: LimitSettings
    queries: QueryLimit
    formats: Mapping[str, OutputFormat]
    spool: Spool
    metrics: Metrics
    upstreams: UpstreamStates


def services(request: Request) -> Services:
    """The services of the application that answers `request`."""
    found: Services = request.app.state.services
    return found


async def datacube(
    request: Request,
    dataset_id: Annotated[
        str, Path(description="A dataset's id, or `id@version`", examples=["opera-f11116"])
    ],
) -> Cube:
    """The cube that the path names.

    Raises:
        NotFound: there is none.
    """
    return await services(request).catalog.get(dataset_id)


async def collection(
    request: Request,
    collection_id: Annotated[str, Path(description="A dataset's id, or `id@version`")],
) -> Cube:
    """The cube that the path of a collection names.

    Raises:
        NotFound: there is none.
    """
    return await datacube(request, collection_id)


# coroutines, since FastAPI takes a plain function to a thread and back
async def limits(request: Request) -> LimitSettings:
    """What one query may cost."""
    return services(request).limits


async def formats(request: Request) -> Mapping[str, OutputFormat]:
    """The installed output formats by name."""
    return services(request).formats
