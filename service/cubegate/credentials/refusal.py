"""Names what is wrong where an answer holds no credentials, and what the operator does about it."""

from __future__ import annotations

from cubegate.credentials.address import is_login_page, origin_of, redirect_target
from cubegate.credentials.asking import Answer
from cubegate.errors import UpstreamDenied, UpstreamError, UpstreamUnavailable

_WEB_PAGES = {"text/html", "application/xhtml+xml"}
_REDIRECTS = range(300, 400)


def to_login(answer: Answer, login: str) -> bool:
    """Whether `answer` redirects to the page where one logs in at `login`, Earthdata Login's address."""
    target = redirect_target(answer.asked, answer.location)
    return answer.status in _REDIRECTS and is_login_page(target) and origin_of(target) == origin_of(login)


def not_accepted(answer: Answer, login: str) -> bool:
    """Whether `answer` says that the token or password is no good."""
    if to_login(answer, login):
        return True
    # some archives call a missing EULA an invalid token too
    if answer.status in {400, 401, 403} and not _speaks_of_eula(answer):
        return answer.status == 401 or b"invalid_token" in answer.body
    return False


def refusal(answer: Answer, *, login: str, mend: str) -> UpstreamError:
    """Return the error of an answer without credentials; `mend` is for what is not accepted.

    Nothing that the answer says is in it.
    """
    asked = answer.asked
    if not_accepted(answer, login):
        return UpstreamDenied(f"{asked} does not accept who asks.", state="bad-token", mend=mend)
    if answer.status in _REDIRECTS:
        return _redirected(answer)
    if answer.status == 403 and _speaks_of_eula(answer):
        return UpstreamDenied(
            f"{asked} asks for an agreement that this account has not accepted.",
            state="eula",
            mend=f"Sign in at {login}/profile, accept the EULA of this data and approve its application.",
        )
    if answer.status == 200 and answer.media_type in _WEB_PAGES:
        return UpstreamDenied(
            f"{asked} answered a web page.",
            state="login-page",
            mend=f"Sign in at {login}/profile and approve the application of this archive."
            if asked == login
            else "Check that this address is right.",
        )
    if answer.status in range(400, 500):
        return UpstreamDenied(
            f"{asked} refuses (HTTP {answer.status}).",
            mend="Check that this address is right, and that the account may use it.",
        )
    return UpstreamUnavailable(f"{asked} answered without credentials (HTTP {answer.status}).")


def _redirected(answer: Answer) -> UpstreamDenied:
    if is_login_page(redirect_target(answer.asked, answer.location)):
        return UpstreamDenied(
            f"{answer.asked} belongs to another login than the configured one.",
            state="login-page",
            mend="Name its Earthdata Login as login.",
        )
    return UpstreamDenied(
        f"{answer.asked} redirects elsewhere, where nothing was sent to.",
        state="login-page",
        mend="Write the address that answers by itself.",
    )


def _speaks_of_eula(answer: Answer) -> bool:
    return b"eula" in answer.body.lower()
