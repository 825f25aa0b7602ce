"""The price of a query over HTTP, before asking for it: nothing is read upstream."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, LimitSettings, datacube, formats, limits
from cubegate.formats.output import OutputFormat, choose_format
from cubegate.query import parameters
from cubegate.query.budget import Price

DESCRIPTION = """What a query would cost: chunks and bytes to read at most, cells in the answer. It takes the
query string of `/timeseries` (with a point) or of `/subset` (without one). Where the query is too large,
`hint` names one that would fit."""
POINT_NAMES = frozenset({"lon", "lat", "x", "y", "coords"})


class EstimatePlugin(Plugin):
    """Serves `/estimate` below every dataset."""

    name: str = "estimate"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("estimate",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the route."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        known = {each.name: each for each in (*parameters.POSITION_PARAMETERS, *parameters.CUBE_PARAMETERS)}
        router.add_api_route(
            "/estimate",
            read_price,
            methods=["GET"],
            summary="The price of a query",
            description=DESCRIPTION,
            responses=PROBLEM_RESPONSES,
            openapi_extra={"parameters": [each.as_openapi() for each in known.values()]},
        )
        return router


async def read_price(
    request: Request,
    cube: Annotated[Cube, Depends(datacube)],
    limits: Annotated[LimitSettings, Depends(limits)],
    formats: Annotated[Mapping[str, OutputFormat], Depends(formats)],
) -> dict[str, Any]:
    """Answer the price of the query that the query string names."""
    items = request.query_params.multi_items()
    is_point = any(name in POINT_NAMES for name, _ in items)
    asked = parameters.read_position(items) if is_point else parameters.read_cube(items)
    if asked.format is not None:
        choose_format(formats, asked.format, "series" if is_point else "cube")
    plan = await cube.plan(asked.group, asked.query, limits)
    hint = await plan.hint()
    return _as_json(plan.price, limits, hint)


def _as_json(price: Price, limits: LimitSettings, hint: str) -> dict[str, Any]:
    known = {"chunks": limits.chunks, "bytes": limits.bytes, "cells": limits.cells}
    answer = {**dataclasses.asdict(price), "limits": known, "fits": not hint}
    return {**answer, "hint": hint} if hint else answer
