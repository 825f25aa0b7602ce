"""xpublish's overrides are dropped where nothing needs them, and kept where a plugin does, however deep."""

from typing import Annotated

import httpx
import pytest
import xarray as xr
from fastapi import APIRouter, Depends, FastAPI
from starlette.routing import BaseRoute, Mount
from xpublish.dependencies import get_dataset, get_dataset_ids
from xpublish.plugins.hooks import Plugin, hookimpl

from cubegate.api.overrides import drop_overrides
from cubegate.app import create_app
from cubegate.settings import load_settings


def variables_of(dataset: Annotated[xr.Dataset, Depends(get_dataset)]) -> list[str]:
    return sorted(dataset.data_vars)


def same(variables: Annotated[list, Depends(variables_of)]) -> list[str]:
    return variables


class RoutedPlugin(Plugin):
    name: str = "routed"

    def __init__(self, router):
        super().__init__()
        self._router = router

    @hookimpl
    def dataset_router(self, deps):
        return self._router


class ListingPlugin(Plugin):
    name: str = "listing"

    @hookimpl
    def app_router(self, deps):
        router = APIRouter()

        def read(ids: Annotated[list, Depends(get_dataset_ids)]) -> list[str]:
            return ids

        router.add_api_route("/ids", read)
        return router


def direct():
    router = APIRouter()
    router.add_api_route("/variables", variables_of)
    return router


def nested():
    router = APIRouter()
    router.add_api_route("/variables", same)
    return router


def included():
    router = APIRouter()
    router.include_router(nested())
    return router


def required():
    router = APIRouter(dependencies=[Depends(get_dataset)])
    router.add_api_route("/variables", lambda: ["coherence", "displacement", "spatial_ref"])
    return router


@pytest.fixture
async def compose(root):
    """Compose a server with more plugins; gives it and a way to ask it."""
    closing = []

    async def compose(**plugins):
        app = create_app(load_settings(root / "cubegate.yaml", {}), {}, more_plugins=plugins)
        closing.append(app.router.lifespan_context(app))
        await closing[-1].__aenter__()

        async def get(path):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                return await client.get(path)

        return app, get

    yield compose
    for context in closing:
        await context.__aexit__(None, None, None)


async def test_our_own_plugins_need_none(compose):
    app, get = await compose()
    assert app.fastapi.dependency_overrides == {}
    assert (await get("/datasets")).json() == ["lost", "stack"]
    assert list((await get("/openapi.json")).json()["paths"]).count("/datasets") == 1


@pytest.mark.parametrize("router", [direct, nested, included, required])
async def test_a_plugin_that_depends_on_a_dataset_of_the_module_gets_it(compose, root, router):
    app, get = await compose(routed=RoutedPlugin(router()))
    assert get_dataset in app.fastapi.dependency_overrides
    answer = await get("/datasets/stack/variables")
    assert (answer.status_code, answer.json()) == (200, ["coherence", "displacement", "spatial_ref"])
    assert (await get("/datasets")).json() == ["lost", "stack"]


async def test_a_plugin_that_depends_on_the_ids_gets_them(compose):
    _, get = await compose(listing=ListingPlugin())
    assert (await get("/ids")).json() == ["lost", "stack"]


class UnknownRoute(BaseRoute):
    pass


@pytest.mark.parametrize(("route", "kept"), [(UnknownRoute(), True), (Mount("/mounted", FastAPI()), False)])
def test_a_route_of_a_kind_that_is_not_known_keeps_them(route, kept):
    app = FastAPI()
    app.dependency_overrides[get_dataset] = xr.Dataset
    app.router.routes.append(route)
    drop_overrides(app, list)
    assert (get_dataset in app.dependency_overrides) == kept
