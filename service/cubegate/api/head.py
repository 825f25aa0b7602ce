"""HEAD for routes that know only GET, which is how FastAPI leaves them and GDAL cannot read them."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# In the scope of a GET that stands for a HEAD: nobody will read the body.
HEADERS_ONLY = "cubegate.headers_only"


class HeadAsGet:
    """Asks again by GET where HEAD is not allowed, and sends the headers of the answer alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        refused = ended = False

        async def watch(message: Message) -> None:
            nonlocal refused
            refused = refused or message.get("status") == 405
            if not refused:
                await send(message)

        async def send_headers(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:
                ended = True
                await send({"type": "http.response.body", "body": b""})

        await self._app({**scope}, receive, watch)
        if refused:
            await self._app({**scope, "method": "GET", HEADERS_ONLY: True}, receive, send_headers)
