"""Asks an endpoint that takes no token: the login redirects back to it, and it gives a cookie."""

from __future__ import annotations

from cubegate.credentials.address import origin_of, redirect_target
from cubegate.credentials.asking import Answer, ask
from cubegate.credentials.refusal import to_login

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 4


async def ask_in_session(sent_to_login: Answer, login: str, authorization: str) -> Answer:
    """Log in where `sent_to_login` redirects to, and return what its address answers then.

    `authorization` goes to the login alone, the endpoint's cookies to the endpoint alone. The answer
    may be a refusal of either, and a redirect to anywhere else is returned as it is.

    Raises:
        UpstreamUnavailable: one of the two cannot be reached.
    """
    endpoint = sent_to_login.asked
    if not to_login(sent_to_login, login):
        return sent_to_login
    at = redirect_target(endpoint, sent_to_login.location)
    answer = await ask("GET", at, authorization=authorization, shown=login)
    cookies: dict[str, str] = {}
    for _ in range(_MOST_REDIRECTS):
        at = redirect_target(at, answer.location)
        if answer.status not in _REDIRECTS or origin_of(at) != origin_of(endpoint):
            return answer
        answer = await ask("GET", at, cookies=cookies, shown=endpoint)
        cookies |= answer.cookies
    return answer
