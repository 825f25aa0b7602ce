"""Judges the answers to reads over HTTP: only what proves to be the right bytes is accepted."""

from __future__ import annotations

from collections.abc import Mapping

from cubegate.chunks.address import Address
from cubegate.chunks.connections import Answer, Head
from cubegate.chunks.limits import LARGEST_OBJECT
from cubegate.chunks.refusals import LARGEST_REFUSAL
from cubegate.chunks.retry import AskedToWait, ShortBody, parse_retry_after
from cubegate.chunks.source import ChunkReference, ObjectState
from cubegate.chunks.validators import changed, check_unchanged, precondition, validator_of
from cubegate.errors import UpstreamMismatch, UpstreamObjectMissing, UpstreamUnavailable

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSALS = frozenset({400, 401, 403})
_LARGEST_REDIRECT = 2**20


class Judge:
    """Looks at the head of an answer for `reference`, and says how long its body may be.

    `refused` is the head where that is a refusal, or a web page in place of the object: then the
    body tells which kind, and is not what was asked for.
    """

    __slots__ = ("_address", "_most", "_reference", "refused")

    def __init__(self, address: Address, reference: ChunkReference) -> None:
        self._address, self._reference = address, reference
        self._most = 0
        self.refused: Head | None = None

    def __call__(self, head: Head) -> int | None:
        """Refuse what cannot be the right bytes, before they come."""
        address, reference, headers = self._address, self._reference, head.headers
        if head.status in REDIRECTS:
            return _LARGEST_REDIRECT
        if head.status in _REFUSALS or (head.status < 300 and is_page(headers, address)):
            self.refused = head
            return LARGEST_REFUSAL
        _check_status(head, address, reference)
        check_encoding(headers, address)
        if reference.validator is not None:
            check_unchanged(headers, reference.validator, address)
        self._most = self._expected(headers)
        return self._most

    def exactly(self, answer: Answer) -> bytes:
        """Return the body of an accepted answer.

        Raises:
            UpstreamMismatch: it is not as long as it should be.
        """
        body, length = answer.body, self._reference.length
        if len(body) > self._most:
            raise UpstreamMismatch(f"{self._address} sent more than the {self._most} bytes expected.")
        if length is not None and len(body) != length:
            raise ShortBody(f"{self._address} sent {len(body)} bytes instead of {length}.")
        return body

    def _expected(self, headers: Mapping[str, str]) -> int:
        address, reference = self._address, self._reference
        announced = headers.get("content-length")
        if reference.length is None:
            return _whole(announced, headers, address)
        last = reference.offset + reference.length - 1
        unit, _, total = headers.get("content-range", "").partition("/")
        if unit.strip() != f"bytes {reference.offset}-{last}" or not _holds(total.strip(), last):
            raise UpstreamMismatch(f"{address} answered another byte range than {reference.offset}-{last}.")
        if announced is not None and announced.strip() != str(reference.length):
            raise UpstreamMismatch(
                f"{address} announced {announced[:20]} bytes instead of {reference.length}."
            )
        return reference.length


class StateJudge(Judge):
    """Looks at the answer to a read of the first byte, which an empty object does not have."""

    __slots__ = ("state",)

    def __init__(self, address: Address, reference: ChunkReference) -> None:
        super().__init__(address, reference)
        self.state = ObjectState(None, None)

    def __call__(self, head: Head) -> int | None:
        """Take from the head what the object is known by, and its size."""
        status, headers = head.status, head.headers
        if status == 416 and headers.get("content-range", "").rpartition("/")[2].strip() == "0":
            self.state = ObjectState(validator_of(headers), 0)
            return LARGEST_REFUSAL
        if status == 200:
            # the range was ignored
            self._reference = ChunkReference(self._reference.url)
        most = super().__call__(head)
        if status not in {200, 206}:
            return most
        total = headers.get("content-length", "") if status == 200 else headers["content-range"]
        total = total.rpartition("/")[2].strip()
        self.state = ObjectState(validator_of(headers), int(total) if _is_number(total) else None)
        # a whole object that nobody asked for is not read
        return most if status == 206 or self.refused is not None else 0


def headers_for(reference: ChunkReference) -> dict[str, str]:
    """Return the headers that ask for exactly what `reference` names."""
    headers = {}
    if reference.length is not None:
        headers["Range"] = f"bytes={reference.offset}-{reference.offset + reference.length - 1}"
    if reference.validator is not None:
        name, value = precondition(reference.validator)
        headers[name] = value
    return headers


def is_page(headers: Mapping[str, str], address: Address) -> bool:
    """Whether what comes is a web page, where the object is none."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type in {"text/html", "application/xhtml+xml"} and not address.path.lower().endswith(
        (".html", ".htm")
    )


def check_encoding(headers: Mapping[str, str], address: Address) -> None:
    """Refuse bytes that were encoded on the way."""
    if "content-encoding" not in headers:
        return
    encoding = headers["content-encoding"].strip().lower()
    # some servers call a stored .gz file "encoded"; any other encoding was made on the way
    if encoding != "identity" and not (
        encoding in {"gzip", "x-gzip"} and address.path.lower().endswith(".gz")
    ):
        raise UpstreamMismatch(f"{address} answered with a content encoding that was not asked for.")


def _check_status(head: Head, address: Address, reference: ChunkReference) -> None:
    status = head.status
    if status == (200 if reference.length is None else 206):
        return
    if status in {404, 410}:
        raise UpstreamObjectMissing(f"{address} does not exist.")
    if status in {408, 429} or status >= 500:
        problem = f"{address} is not available (HTTP {status})."
        wait = parse_retry_after(head.headers.get("retry-after", ""))
        raise AskedToWait(problem, wait) if wait else UpstreamUnavailable(problem)
    if status == 412 and reference.validator is not None:
        raise changed(address)
    if status == 416:
        raise UpstreamMismatch(f"{address} ends before byte {reference.offset + (reference.length or 0)}.")
    if status == 200:
        raise UpstreamMismatch(f"{address} answered the whole object (HTTP 200) to a range read.")
    raise UpstreamMismatch(f"{address} answered HTTP {status}.")


def _whole(announced: str | None, headers: Mapping[str, str], address: Address) -> int:
    if announced is None:
        if "chunked" not in headers.get("transfer-encoding", "").lower():
            raise UpstreamMismatch(f"{address} does not say how long it is.")
        return LARGEST_OBJECT
    if not _is_number(announced.strip()) or int(announced) > LARGEST_OBJECT:
        raise UpstreamMismatch(f"{address} is larger than the {LARGEST_OBJECT} bytes that are read whole.")
    return int(announced)


def _holds(total: str, last: int) -> bool:
    return total == "*" or (_is_number(total) and int(total) > last)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
