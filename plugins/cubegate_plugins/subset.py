"""Subsets over HTTP: a box of a cube as a file, on its own grid or reprojected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import PROBLEM_RESPONSES, Cube, LimitSettings, datacube, formats, limits, respond
from cubegate.formats.output import OutputFormat, Result, choose_format
from cubegate.query import parameters

DESCRIPTION = """The cells whose centre lies inside `bbox`, at the times inside `datetime`. A bbox in
another CRS than the dataset's is transformed with its edges densified; one with its west in the east crosses
the antimeridian. Without `crs` nothing is resampled.

A dimension beyond x, y and time is selected by a parameter of its own name, such as `level=500`: by
a value of its coordinate, or by an index from 0 where it has none."""
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The box, in the format that `f` names"},
    206: {"description": "The asked byte range"},
    304: {"description": "The client's copy is still right"},
    416: {"description": "The range is outside the answer"},
    **PROBLEM_RESPONSES,
}


class SubsetPlugin(Plugin):
    """Serves `/subset` below every dataset."""

    name: str = "subset"
    dataset_router_prefix: str = ""
    dataset_router_tags: tuple[str, ...] = ("subset",)

    @hookimpl
    def dataset_router(self, deps: Dependencies) -> APIRouter:  # noqa: ARG002 - given by the hook
        """Return the route."""
        router = APIRouter(prefix=self.dataset_router_prefix, tags=list(self.dataset_router_tags))
        router.add_api_route(
            "/subset",
            read_box,
            methods=["GET"],
            summary="One box of the cube",
            description=DESCRIPTION,
            response_class=Response,
            responses=RESPONSES,
            openapi_extra={"parameters": [each.as_openapi() for each in parameters.CUBE_PARAMETERS]},
        )
        return router


async def read_box(
    request: Request,
    cube: Annotated[Cube, Depends(datacube)],
    limits: Annotated[LimitSettings, Depends(limits)],
    formats: Annotated[Mapping[str, OutputFormat], Depends(formats)],
) -> Response:
    """Answer the box that the query string names."""
    asked = parameters.read_cube(request.query_params.multi_items())
    output_format = choose_format(formats, asked.format or "netcdf", "cube")
    plan = await cube.plan(asked.group, asked.query, limits)
    selection = await plan.enforce()
    about = {"title": cube.title, "dataset": cube.id, "version": cube.version, **asked.conditions}

    async def produce() -> Result:
        loaded = await selection.load()
        facts = {**about, **loaded.facts}
        return Result(
            "cube", loaded.dataset, loaded.x, loaded.y, loaded.time, loaded.crs, facts, asked.options
        )

    return await respond(
        request, cube, output_format, produce, filename=f"{cube.id}-subset", nbytes=selection.nbytes
    )
