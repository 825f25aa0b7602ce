"""xpublish's dependency overrides, which cost every request, dropped where no route needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Host, Mount, Route, WebSocketRoute
from xpublish.routers.common import get_dataset_collection_keys


def drop_overrides(app: FastAPI, dataset_ids: Callable[[], list[str]]) -> None:
    """Clear the overrides of `app`, unless a route of a plugin depends on what they override.

    While there is any, FastAPI parses the signatures of all dependencies anew at every request.
    xpublish sets them for plugins that use the dependencies of its module rather than those that
    the hook hands over, and for its own `/datasets`, which is answered by `dataset_ids` here.
    """
    overridden = frozenset(app.dependency_overrides)
    if any(_needs(route, overridden) for route in app.routes):
        return

    def list_datasets(_: Request) -> Response:
        return JSONResponse(dataset_ids())

    # what stands first answers; xpublish's own route behind it is what OpenAPI describes
    app.router.routes.insert(0, Route("/datasets", list_datasets))
    app.dependency_overrides.clear()


def _needs(route: Any, overridden: frozenset[Any]) -> bool:
    if getattr(route, "endpoint", None) is get_dataset_collection_keys:
        return False
    if hasattr(route, "effective_candidates"):
        # newer FastAPI keeps an included router whole, where older ones copy its routes
        return any(_needs(inner, overridden) for inner in route.effective_candidates())
    if hasattr(route, "dependant"):
        return route.dependant is not None and not overridden.isdisjoint(_dependencies(route.dependant))
    # of a kind that is not known here it cannot be told
    return not isinstance(route, Route | WebSocketRoute | Mount | Host)


def _dependencies(dependant: Any) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _dependencies(dependency)
