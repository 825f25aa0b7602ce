"""Whether the process lives and can serve: /healthz and /readyz."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from cubegate.api.dependencies import Services, services

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, str]:
    """Answer as long as the process lives."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether the server can serve its datasets")
async def readyz(found: Annotated[Services, Depends(services)]) -> dict[str, str | int]:
    """Answer once the collections are loaded."""
    await found.catalog.refresh()
    return {"status": "ok", "datasets": len(found.catalog.ids())}
