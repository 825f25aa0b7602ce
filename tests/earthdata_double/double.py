"""Earthdata as small local servers: granules behind a login, signed URLs, tokens, temporary keys.

    with running_double({"granule.nc": data}) as double:
        double.granules_url  # http://127.0.0.1:…/granules/: 303 to a signed URL for who brings a good token
        double.objects_url   # where signed URLs point to: another origin, which must never see a token
        double.login_url     # Earthdata Login: its login page and its token API
        double.s3credentials_url
        double.s3_url        # an S3 endpoint_url that takes those keys; its bucket is `double.bucket`

Shaped as recorded answers are. The servers run in a thread with an event loop of their own, each on a
free port, so that each is an origin of its own. Switches are plain attributes, read at each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from aiohttp import web
from tests.earthdata_double.endpoints import granules_application, login_application
from tests.earthdata_double.objects import objects_application, s3_application


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names are in lower case, `origin` is a name of `EarthdataDouble.origins`."""

    origin: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int


@dataclass
class EarthdataDouble:
    """What the servers share: their addresses, their switches, and what arrived.

    Lifetimes and expiry times are in seconds by `clock`, which gives seconds since 1970.
    """

    objects: dict[str, bytes]
    clock: Callable[[], float] = time.time

    # switches
    eula: bool = False
    """Granules, S3 keys: 403 with the body that asks to accept the EULA."""
    eula_body: Literal["plain", "invalid_token"] = "plain"
    """The second one calls itself `invalid_token` too, as that of some archives does."""
    bad_token: Literal["login", "401"] = "login"
    """How a token that is no good is answered: a redirect to the login, or 401."""
    out_of_region: bool = False
    """S3: 403 AccessDenied to keys that are good, as outside us-west-2."""
    failing: dict[str, int] = field(default_factory=dict)
    """Origin name -> the status that it answers everything with, say `{"s3credentials": 503}`."""
    html: set[str] = field(default_factory=set)
    """Origin names that answer everything with a web page and 200."""
    delay: dict[str, float] = field(default_factory=dict)
    """Origin name -> seconds to wait before each answer."""
    signed_lifetime: float = 3600.0
    keys_lifetime: float = 3600.0
    token_lifetime: float = 60 * 86400.0
    expiry_format: Literal["space", "iso"] = "space"
    """`2025-04-08 14:22:33+00:00`, or `2025-04-08T14:22:33Z`."""
    redirect_flow: bool = False
    """`/s3credentials` takes no bearer token, only the cookie that the login gives."""

    # what is good now
    user: str = "user-value"
    password: str = "password-value"
    tokens: dict[str, float] = field(default_factory=dict)
    """Good token -> when it expires."""
    keys: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    """Access key id -> secret, session token, when it expires."""
    generation: int = 0
    """Part of each signature: one more, and the signed URLs given so far are refused."""
    bucket: str = "granules"

    # what arrived
    requests: list[Seen] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    """All tokens, keys, cookies, codes and signatures that were ever given, and the password."""
    origins: dict[str, str] = field(default_factory=dict)
    """`granules`, `objects`, `login`, `s3credentials`, `s3` -> scheme, host and port."""
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.token = self.new_token()
        self.secrets.add(self.password)

    @property
    def granules_url(self) -> str:
        """The folder of all objects, ending in a slash."""
        return f"{self.origins['granules']}/granules/"

    @property
    def objects_url(self) -> str:
        """The folder that signed URLs are below, ending in a slash."""
        return f"{self.origins['objects']}/signed/"

    @property
    def login_url(self) -> str:
        """Earthdata Login, without a slash at its end."""
        return self.origins["login"]

    @property
    def s3credentials_url(self) -> str:
        """The endpoint that gives temporary keys."""
        return f"{self.origins['s3credentials']}/s3credentials"

    @property
    def s3_url(self) -> str:
        """An endpoint_url for S3 clients, with the bucket in the path."""
        return self.origins["s3"]

    def new_secret(self, kind: str) -> str:
        """Return a new word that is remembered in `secrets`."""
        secret = f"{kind}-{next(self._numbers)}-value"
        self.secrets.add(secret)
        return secret

    def new_token(self) -> str:
        """Return another good token."""
        token = self.new_secret("token")
        self.tokens[token] = self.clock() + self.token_lifetime
        return token

    def new_keys(self) -> tuple[str, str, str, float]:
        """Return new temporary keys: id, secret, session token, when they expire."""
        key = self.new_secret("key")
        self.keys[key] = (
            self.new_secret("secret"),
            self.new_secret("session"),
            self.clock() + self.keys_lifetime,
        )
        return key, *self.keys[key]

    def good_token(self, authorization: str) -> bool:
        """Whether the header names a token that is good now."""
        kind, _, token = authorization.partition(" ")
        return kind == "Bearer" and self.tokens.get(token, 0.0) > self.clock()

    def good_key(self, access_key_id: str, session_token: str) -> bool:
        """Whether these keys are good now."""
        _, session, expires = self.keys.get(access_key_id, ("", "", 0.0))
        return expires > self.clock() and session == session_token

    def expire_tokens(self) -> None:
        """Make all tokens given so far bad, before their time."""
        self.tokens.clear()

    def expire_keys(self) -> None:
        """Make all temporary keys given so far bad, before their time."""
        self.keys.clear()

    def expire_signatures(self) -> None:
        """Make all signed URLs given so far bad, before their time."""
        self.generation += 1

    def count(self, origin: str, path: str = "", *, method: str | None = None) -> int:
        """How many requests for paths that begin with `path` arrived at an origin."""
        return sum(
            seen.origin == origin and seen.path.startswith(path) and method in {None, seen.method}
            for seen in list(self.requests)
        )

    def statuses(self, origin: str) -> Counter[int]:
        """How often an origin answered which status."""
        return Counter(seen.status for seen in list(self.requests) if seen.origin == origin)

    def authorized(self, origin: str) -> list[Seen]:
        """The requests that arrived at an origin with an Authorization or Cookie header."""
        return [
            seen
            for seen in list(self.requests)
            if seen.origin == origin and seen.headers.keys() & {"authorization", "cookie"}
        ]

    def forget(self) -> None:
        """Count anew."""
        self.requests.clear()


@contextlib.contextmanager
def running_double(
    objects: Mapping[str, bytes] | None = None, *, clock: Callable[[], float] = time.time
) -> Iterator[EarthdataDouble]:
    """Serve `objects` (name -> content; may be changed meanwhile in `double.objects`) while the context lasts."""
    double = EarthdataDouble(dict(objects or {}), clock)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="earthdata-double", daemon=True)
    thread.start()
    runners = asyncio.run_coroutine_threadsafe(_start(double), loop).result(30)
    try:
        yield double
    finally:
        asyncio.run_coroutine_threadsafe(_stop(runners), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(double: EarthdataDouble) -> list[web.AppRunner]:
    login, granules = login_application(double), granules_application(double)
    applications = {
        "login": login,
        "granules": granules,
        "s3credentials": granules_application(double),
        "objects": objects_application(double),
        "s3": s3_application(double),
    }
    runners = []
    for name, application in applications.items():
        application.middlewares.append(_recorder(double, name))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        double.origins[name] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
    return runners


async def _stop(runners: list[web.AppRunner]) -> None:
    for runner in runners:
        await runner.cleanup()


def _recorder(double: EarthdataDouble, origin: str) -> Callable[..., object]:
    @web.middleware
    async def record(request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
        status = 500
        try:
            response = await _answer(double, origin, request, handler)
            status = response.status
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            headers = {name.lower(): value for name, value in request.headers.items()}
            seen = Seen(origin, request.method, request.path, dict(request.query), headers, status)
            double.requests.append(seen)
        return response

    return record


async def _answer(
    double: EarthdataDouble, origin: str, request: web.Request, handler: Callable[..., object]
) -> web.StreamResponse:
    if origin in double.delay:
        await asyncio.sleep(double.delay[origin])
    if origin in double.failing:
        return web.Response(status=double.failing[origin], text="upstream-text-value")
    if origin in double.html:
        return web.Response(text="<html>upstream-text-value</html>", content_type="text/html")
    return await handler(request)
