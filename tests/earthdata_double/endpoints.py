"""The doors of the Earthdata double: granules, temporary keys, and Earthdata Login."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from aiohttp import web
from tests.earthdata_double.objects import signed_query

if TYPE_CHECKING:
    from tests.earthdata_double.double import EarthdataDouble

_COOKIE = "asf-urs"
_LOGIN_PAGE = (
    "<!DOCTYPE html><html><head><title>Earthdata Login</title></head><body>upstream-text-value</body></html>"
)


def granules_application(double: EarthdataDouble) -> web.Application:
    """An archive's origin: `/granules/…`, `/s3credentials`, and `/login`, where the login sends back to."""
    doors = _Archive(double)
    application = web.Application()
    application.router.add_get("/granules/{name:.+}", doors.granule)
    application.router.add_get("/s3credentials", doors.s3credentials)
    application.router.add_get("/login", doors.logged_in)
    return application


def login_application(double: EarthdataDouble) -> web.Application:
    """Earthdata Login."""
    doors = _Login(double)
    application = web.Application()
    application.router.add_get("/oauth/authorize", doors.authorize)
    application.router.add_get("/api/users/tokens", doors.tokens)
    application.router.add_post("/api/users/find_or_create_token", doors.find_or_create_token)
    return application


class _Archive:
    def __init__(self, double: EarthdataDouble) -> None:
        self._double = double
        self._codes: set[str] = set()
        self._cookies: set[str] = set()

    async def granule(self, request: web.Request) -> web.Response:
        double, name = self._double, request.match_info["name"]
        refused = self._refuse(request)
        if refused is not None:
            return refused
        if name not in double.objects:
            return web.Response(status=404, text="<html>upstream-text-value</html>", content_type="text/html")
        path = f"/signed/{quote(name)}"
        location = f"{double.origins['objects']}{path}?{signed_query(double, path)}"
        headers = {"Location": location, "Cache-Control": f"private, max-age={double.signed_lifetime:g}"}
        return web.Response(status=303, headers=headers)

    async def s3credentials(self, request: web.Request) -> web.Response:
        double = self._double
        cookie = request.cookies.get(_COOKIE, "")
        if cookie not in self._cookies:
            refused = self._to_login(request) if double.redirect_flow else self._refuse(request)
            if refused is not None:
                return refused
        key, secret, session, expires = double.new_keys()
        at = datetime.fromtimestamp(expires, UTC).replace(microsecond=0)
        said = at.isoformat(sep=" ") if double.expiry_format == "space" else f"{at:%Y-%m-%dT%H:%M:%SZ}"
        body = {"accessKeyId": key, "secretAccessKey": secret, "sessionToken": session, "expiration": said}
        return web.json_response(body)

    async def logged_in(self, request: web.Request) -> web.Response:
        # any code is good here: the login gives one only to who knows the password
        if request.query.get("code") not in self._double.secrets:
            return web.Response(status=403, text="upstream-text-value")
        cookie = self._double.new_secret("cookie")
        self._cookies.add(cookie)
        response = web.Response(status=301, headers={"Location": request.query.get("state", "/")})
        response.set_cookie(_COOKIE, cookie)
        return response

    def _refuse(self, request: web.Request) -> web.Response | None:
        double = self._double
        authorization = request.headers.get("Authorization", "")
        if not double.good_token(authorization):
            if authorization and double.bad_token == "401":
                body = {"error": "invalid_token", "error_description": "upstream-text-value"}
                return web.json_response(body, status=401, headers={"WWW-Authenticate": "Bearer"})
            return self._to_login(request)
        if double.eula:
            body = {
                "status_code": 403,
                "error_description": "EULA Acceptance Failure",
                "resolution_url": f"{double.login_url}/approve_app?client_id=upstream-text-value",
            }
            if double.eula_body == "invalid_token":
                body["error"] = "invalid_token"
            return web.json_response(body, status=403)
        return None

    def _to_login(self, request: web.Request) -> web.Response:
        back = quote(f"{request.url.origin()}/login", safe="")
        location = (
            f"{self._double.login_url}/oauth/authorize?client_id=cubes&response_type=code"
            f"&redirect_uri={back}&state={quote(request.path, safe='')}&app_type=401"
        )
        return web.Response(status=302, headers={"Location": location}, content_type="application/json")


class _Login:
    def __init__(self, double: EarthdataDouble) -> None:
        self._double = double

    async def authorize(self, request: web.Request) -> web.Response:
        if not self._knows_password(request):
            return web.Response(text=_LOGIN_PAGE, content_type="text/html")
        back = request.query.get("redirect_uri", "")
        origins = self._double.origins
        if f"{urlsplit(back).scheme}://{urlsplit(back).netloc}" not in {
            origins["granules"],
            origins["s3credentials"],
        }:
            return web.Response(status=400, text="upstream-text-value")
        code = self._double.new_secret("code")
        location = f"{back}?code={code}&state={quote(request.query.get('state', ''), safe='')}"
        return web.Response(status=302, headers={"Location": location}, text=f"redirected to {location}")

    async def tokens(self, request: web.Request) -> web.Response:
        if not self._knows_password(request):
            return self._unknown()
        return web.json_response([self._shown(token) for token in self._good()])

    async def find_or_create_token(self, request: web.Request) -> web.Response:
        if not self._knows_password(request):
            return self._unknown()
        good = self._good()
        return web.json_response(self._shown(good[0] if good else self._double.new_token()))

    def _good(self) -> list[str]:
        now = self._double.clock()
        return [token for token, expires in self._double.tokens.items() if expires > now]

    def _shown(self, token: str) -> dict[str, str]:
        at = datetime.fromtimestamp(self._double.tokens[token], UTC)
        return {"access_token": token, "token_type": "Bearer", "expiration_date": f"{at:%m/%d/%Y}"}

    def _knows_password(self, request: web.Request) -> bool:
        pair = b64encode(f"{self._double.user}:{self._double.password}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {pair}"

    def _unknown(self) -> web.Response:
        body = json.dumps({"error": "invalid_credentials", "error_description": "upstream-text-value"})
        return web.Response(status=401, text=body, content_type="application/json")
