"""A live server of a small cube with one more xpublish plugin, whose routes do what the tests ask for."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Annotated

import httpx
import numpy as np
import pytest
import xarray as xr
from fastapi import APIRouter, Depends, Request
from pydantic import PrivateAttr
from starlette.responses import StreamingResponse
from xpublish.plugins.hooks import Dependencies, Plugin, hookimpl

from cubegate.api import Datacube, datacube, respond
from cubegate.app import create_app
from cubegate.formats.output import Result
from cubegate.settings import load_settings

MARKER = "marker-of-a-secret"


class TrialFormat:
    """Writes as many bytes as its result asks for."""

    name, media_type, extension = "trial", "application/x-trial", "trial"
    shapes = frozenset({"cube"})

    def write(self, result):
        yield b"0123456789" * result.options["tens"]
        if result.options["failing"]:
            raise RuntimeError(MARKER)


class TrialPlugin(Plugin):
    """Routes that raise what `control.error` holds, and answers built as `control` says."""

    name: str = "trial"
    _control: SimpleNamespace = PrivateAttr()

    def __init__(self, control):
        super().__init__()
        self._control = control

    @hookimpl
    def app_router(self, deps: Dependencies):
        control, router = self._control, APIRouter()

        async def late():
            yield b"first"
            raise control.error

        router.add_api_route("/raise", self.fail, methods=["GET"])
        router.add_api_route("/late", lambda: StreamingResponse(late()), methods=["GET"])
        router.add_api_route("/number/{number}", self.number, methods=["GET"])
        router.add_api_route("/both", self.accept, methods=["POST"])
        router.add_api_route("/both", self.accept, methods=["GET"])
        router.add_api_route("/post-only", self.accept, methods=["POST"])
        return router

    @hookimpl
    def dataset_router(self, deps: Dependencies):
        router = APIRouter()

        def values(dataset: Annotated[xr.Dataset, Depends(deps.dataset)], name: str) -> list:
            return np.asarray(dataset[name].values, float).tolist()

        def attributes(dataset: Annotated[xr.Dataset, Depends(deps.dataset)]) -> dict[str, str]:
            return {name: str(value) for name, value in dataset.attrs.items()}

        router.add_api_route("/values", values, methods=["GET"])
        router.add_api_route("/attributes", attributes, methods=["GET"])
        router.add_api_route("/answer", self.answer, methods=["GET"], response_model=None)
        router.add_api_route("/answer", self.answer, methods=["POST"], response_model=None)
        return router

    def fail(self):
        raise self._control.error

    def number(self, number: int, half: float = 0.5) -> dict[str, float]:
        return {"number": number, "half": half}

    def accept(self) -> dict[str, str]:
        return {}

    async def answer(self, request: Request, cube: Annotated[Datacube, Depends(datacube)], tens: int = 1):
        control = self._control

        async def produce():
            control.produced += 1
            await asyncio.sleep(control.delay)
            if control.error is not None:
                raise control.error
            options = {"tens": tens, "failing": control.failing}
            return Result("cube", xr.Dataset(), "x", "y", None, "", {}, options)

        body = await request.body()
        return await respond(request, cube, TrialFormat(), produce, filename="trial", body=body)


def control():
    return SimpleNamespace(error=None, produced=0, delay=0.0, failing=False)


@pytest.fixture(scope="session")
def root(tmp_path_factory, make_stack, write_configuration):
    """A directory with a stack, its collection files and a cubegate.yaml."""
    root = tmp_path_factory.mktemp("api")
    make_stack(root / "stack")
    write_configuration(
        root,
        stack="source: {kind: kerchunk, href: ../stack/stack.json}",
        lost="source: {kind: kerchunk, href: ../stack/absent.json}",
    )
    return root


@pytest.fixture(scope="session")
def serve(root, serving):
    """Run a server with other settings for a while."""

    @contextlib.contextmanager
    def serve(**environment):
        trial = TrialPlugin(control())
        app = create_app(
            load_settings(root / "cubegate.yaml", environment), {}, more_plugins={"trial": trial}
        )
        with (
            serving(app) as url,
            httpx.Client(base_url=url, headers={"Origin": "https://a.example"}) as client,
        ):
            yield SimpleNamespace(url=url, http=client, app=app, control=trial._control, root=root)

    return serve


@pytest.fixture(scope="session")
def shared_server(serve):
    with serve() as server:
        yield server


@pytest.fixture
def server(shared_server):
    """The server with its trial plugin at rest."""
    vars(shared_server.control).update(vars(control()))
    return shared_server
