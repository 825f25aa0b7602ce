"""The jobs of a HyP3 account, by hyp3-sdk, which may ask nobody but the API itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from cubegate.archives.hyp3_names import (
    INSAR_BURST,
    INSAR_GAMMA,
    INSAR_MULTI_BURST,
    RTC_GAMMA,
    direction_of_granule,
    path_of_granule,
    time_of_granule,
)
from cubegate.chunks.address import AllowList, parse_address, shown
from cubegate.credentials import BearerToken, CredentialProvider
from cubegate.errors import (
    ConfigurationError,
    UpstreamDenied,
    UpstreamError,
    UpstreamMismatch,
    UpstreamRefused,
    UpstreamUnavailable,
)
from cubegate.settings import Settings

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from requests.adapters import HTTPAdapter

_DEADLINE = 60.0
_LARGEST_PAGE = 2**26
_MOST_PAGES = 1_000
KINDS = (INSAR_GAMMA, INSAR_BURST, INSAR_MULTI_BURST, RTC_GAMMA)


@dataclass(frozen=True)
class Job:
    """One job that succeeded: its id and kind, its granules, and where its ZIP file is, most direct first."""

    id: str
    kind: str
    granules: tuple[str, ...]
    urls: tuple[str, ...]

    @property
    def path(self) -> int | None:
        """The relative orbit, where the name of a granule tells it."""
        return next((path for path in map(path_of_granule, self.granules) if path), None)

    @property
    def direction(self) -> str | None:
        """ASCENDING or DESCENDING, where the name of a granule tells it."""
        return next((each for each in map(direction_of_granule, self.granules) if each), None)

    @property
    def time(self) -> np.datetime64 | None:
        """When the latest acquisition began, datetime64[s], where the names of granules tell it."""
        times = [time for time in map(time_of_granule, self.granules) if time is not None]
        return max(times, default=None)


async def find_jobs(
    settings: Settings, credentials: Mapping[str, CredentialProvider], project: str
) -> tuple[list[Job], dict[str, str]]:
    """Return the jobs that are called `project`, and those that are left out with the reason.

    The token is that of the `upstreams` entry that covers the API, and goes there alone.

    Raises:
        ConfigurationError: there is no such entry, or hyp3-sdk is not installed.
        UpstreamError: the API cannot be reached, refuses the token, or answers something else than jobs.
    """
    api = settings.archives.hyp3.rstrip("/")
    token = await _token(settings, credentials, f"{api}/jobs")
    documents = await asyncio.to_thread(_ask, api, token, project)
    jobs: list[Job] = []
    left_out: dict[str, str] = {}
    for document in documents:
        job_id, kind = str(document["job_id"]), str(document["job_type"])
        job = Job(job_id, kind, _granules(document), _urls(document))
        if document["status_code"] != "SUCCEEDED":
            left_out[job_id] = f"is {str(document['status_code'])[:40]}"
        elif kind not in KINDS:
            left_out[job_id] = f"is of the kind {kind[:40]}, which is not read"
        elif not job.urls or _is_past(document.get("expiration_time")):
            left_out[job_id] = "has no ZIP file any more: it expired"
        else:
            jobs.append(job)
    return jobs, left_out


async def _token(settings: Settings, credentials: Mapping[str, CredentialProvider], url: str) -> BearerToken:
    mend = "Add it to upstreams, with credentials of kind earthdata: HyP3 lists the jobs of an account."
    try:
        address = parse_address(url)
        prefixes = {parse_address(text): section for text, section in settings.upstreams.items()}
        prefix, _ = AllowList(prefixes).resolve(url)
    except UpstreamRefused:
        raise ConfigurationError(f"no upstream covers {shown(url)}", key="upstreams", mend=mend) from None
    provider = credentials.get(prefixes[prefix].credentials or "")
    # a token over plain http would be readable on the way, but not inside one machine
    scheme = "https" if address.scheme == "http" and address.loopback else address.scheme
    if provider is None or scheme not in provider.schemes:
        raise ConfigurationError("has no credentials that give a token", key=f"upstreams.{prefix}", mend=mend)
    token = await provider.for_url(url)
    assert isinstance(token, BearerToken)  # noqa: S101 - those for https give nothing else
    return token


def _ask(api: str, token: BearerToken, project: str) -> list[dict[str, Any]]:
    try:
        from hyp3_sdk import HyP3  # noqa: PLC0415 - not installed everywhere
        from hyp3_sdk.exceptions import HyP3SDKError  # noqa: PLC0415 - as above
        from requests import RequestException  # noqa: PLC0415 - comes with it
    except ImportError:
        raise ConfigurationError(
            "the package hyp3-sdk is not installed", mend="Install cubegate[hyp3]."
        ) from None
    try:
        client = HyP3(api_url=api, token=token.token)
        with client.session as session:
            # .netrc would win over the token, and proxies of the environment would see it
            session.trust_env = False
            session.max_redirects = 0
            guard = _own_origin(api)
            session.mount("https://", guard)
            session.mount("http://", guard)
            return [_checked(job.to_dict(), api) for job in client.find_jobs(name=project)]
    except UpstreamError:
        raise
    except (HyP3SDKError, RequestException, KeyError, TypeError, ValueError, AttributeError, AssertionError):
        # what it says may hold what the server said
        raise UpstreamMismatch(f"{shown(api)} does not answer as the HyP3 API does.") from None


def _checked(document: dict[str, Any], api: str) -> dict[str, Any]:
    if not all(isinstance(document.get(key), str) for key in ("job_id", "job_type", "status_code")):
        raise UpstreamMismatch(f"{shown(api)} does not answer as the HyP3 API does.")
    return document


def _is_past(expires: Any) -> bool:
    try:
        moment = datetime.fromisoformat(str(expires))
    except ValueError:
        # it does not say: reading will show
        return False
    return moment.tzinfo is not None and moment <= datetime.now(UTC)


def _granules(document: Mapping[str, Any]) -> tuple[str, ...]:
    parameters = document.get("job_parameters")
    if not isinstance(parameters, Mapping):
        return ()
    named: list[Any] = []
    for key in ("granules", "reference", "secondary"):
        value = parameters.get(key)
        named += value if isinstance(value, list) else [value]
    return tuple(name for name in named if isinstance(name, str))


def _urls(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses of the ZIP file of a job: its S3 object, and its HTTPS address."""
    files: Sequence[Any] = document.get("files") or ()
    found: list[str] = []
    for file in files:
        if not isinstance(file, Mapping) or not str(file.get("filename", "")).lower().endswith(".zip"):
            continue
        s3 = file.get("s3")
        if isinstance(s3, Mapping) and isinstance(s3.get("bucket"), str) and isinstance(s3.get("key"), str):
            found.append(f"s3://{s3['bucket']}/{s3['key']}")
        if isinstance(file.get("url"), str):
            found.append(file["url"])
    return tuple(found)


def _own_origin(api: str) -> HTTPAdapter:
    from requests import RequestException  # noqa: PLC0415 - comes with hyp3-sdk
    from requests.adapters import HTTPAdapter  # noqa: PLC0415 - as above

    origin = urlsplit(api)[:2]

    class OwnOrigin(HTTPAdapter):
        """Sends nothing to anybody but the API: the next page may be anywhere."""

        def __init__(self) -> None:
            super().__init__(max_retries=2)
            self._pages = 0

        def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
            if urlsplit(request.url or "")[:2] != origin:
                raise UpstreamMismatch(f"{shown(api)} links to another server, which is not asked.")
            self._pages += 1
            if self._pages > _MOST_PAGES:
                raise UpstreamMismatch(f"{shown(api)} lists over {_MOST_PAGES:,} pages of jobs.")
            try:
                with super().send(request, stream=True, timeout=_DEADLINE) as answer:
                    _check_status(answer.status_code, api)
                    data = bytearray()
                    for part in answer.iter_content(2**20):
                        data += part
                        if len(data) > _LARGEST_PAGE:
                            raise UpstreamMismatch(f"{shown(api)} answers over {_LARGEST_PAGE:,} bytes.")
            except RequestException:
                raise UpstreamUnavailable(f"{shown(api)} cannot be reached.") from None
            answer._content = bytes(data)  # noqa: SLF001 - as requests itself does once it has read all
            return answer

    return OwnOrigin()


def _check_status(status: int, api: str) -> None:
    if status == 200:
        return
    if status in {401, 403}:
        raise UpstreamDenied(
            f"{shown(api)} refuses the token (HTTP {status}).",
            state="bad-token",
            mend="Make a new Earthdata token, and put it where the credentials say.",
        )
    if status in {408, 429} or status >= 500:
        raise UpstreamUnavailable(f"{shown(api)} is not available (HTTP {status}).")
    raise UpstreamError(f"{shown(api)} does not take the search (HTTP {status}).")
