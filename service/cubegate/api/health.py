"""Whether the process lives and can serve: /healthz and /readyz."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from cubegate.api.dependencies import Services, services
from cubegate.chunks.refusals import what_to_do

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, str]:
    """Answer as long as the process lives."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether the server can serve its datasets")
async def readyz(
    found: Annotated[Services, Depends(services)],
) -> dict[str, Any]:
    """Answer once the collections are loaded; names the upstreams that refuse at the moment.

    They are those of the process that answers. What they refuse costs some datasets, which is no
    reason to send the others' clients away: the status stays 200.
    """
    await found.catalog.refresh()
    refusing = found.upstreams.refusing
    ready: dict[str, Any] = {"status": "degraded" if refusing else "ok", "datasets": len(found.catalog.ids())}
    if not refusing:
        return ready
    # the log has the operator's own mend, which may name files
    named = [
        {"upstream": one.upstream, "state": one.state, "mend": what_to_do(one.state)} for one in refusing
    ]
    return {**ready, "upstreams": named}
