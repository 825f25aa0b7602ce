"""The server as one ASGI application: FastAPI, and around it what is busy and can do without it."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send


class Gateway:
    """Answers by `stack`, which passes on to `fastapi` what it does not answer itself.

    FastAPI wraps layers of its own around all middleware that it is given, and they cost about as
    much as the answer to a request for a cached chunk.
    """

    def __init__(self, fastapi: FastAPI, stack: ASGIApp) -> None:
        self.fastapi = fastapi
        self._stack = stack

    @property
    def state(self) -> State:
        """What `create_app` put there for the routes."""
        return self.fastapi.state

    @property
    def router(self) -> APIRouter:
        """The routes, and the lifespan."""
        return self.fastapi.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's life."""
        await self._stack(scope, receive, send)
