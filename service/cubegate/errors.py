"""Every error that cubegate raises on purpose; HTTP statuses live in `cubegate.api.problems`."""

from __future__ import annotations


class CubegateError(Exception):
    """Base of all errors raised on purpose.

    The message is written for the person who reads it (a client, or the operator where the
    class says so) and never contains an upstream message, a credential or a signed URL.
    """


class ConfigurationError(CubegateError):
    """A configuration file cannot be used; for the operator.

    `file` and `key` say where, `mend` says what to write instead.
    """

    def __init__(self, problem: str, *, file: str = "", key: str = "", mend: str = "") -> None:
        where = ": ".join(part for part in (file, key) if part)
        text = f"{where}: {problem}" if where else problem
        super().__init__(f"{text}. {mend}" if mend else text)
        self.file, self.key, self.problem, self.mend = file, key, problem, mend


class NotFound(CubegateError):
    """What a client names does not exist: a dataset, a group, an array, a Zarr key."""


class NotRepresentable(NotFound):
    """The array exists, yet has no form in the asked Zarr format; the message says why."""


class InvalidParameter(CubegateError):
    """A request parameter cannot be used; `accepted` says what could be."""

    def __init__(self, parameter: str, detail: str, *, accepted: str = "") -> None:
        super().__init__(f"{detail} Accepted: {accepted}." if accepted else detail)
        self.parameter, self.detail, self.accepted = parameter, detail, accepted


class NotAcceptable(CubegateError):
    """The answer cannot be written in the asked output format; the message says why."""


class BudgetExceeded(CubegateError):
    """A query costs more than the configured limits; nothing was read upstream.

    `price` and `limits` map a unit (chunks, bytes, cells) to a number, `hint` names a query
    that would fit.
    """

    def __init__(self, price: dict[str, int], limits: dict[str, int], hint: str) -> None:
        over = [unit for unit, limit in limits.items() if price.get(unit, 0) > limit]
        said = ", ".join(f"{price[unit]:,} {unit} (limit {limits[unit]:,})" for unit in over)
        super().__init__(f"The query would cost {said}. {hint}".strip())
        self.price, self.limits, self.hint = price, limits, hint


class Overloaded(CubegateError):
    """The server has more to do than it takes on; nothing was done for this request."""


class InvalidReference(CubegateError):
    """A reference file, index or Zarr document is malformed or not allowed; for the operator."""


class InvalidMetadata(InvalidReference):
    """A Zarr metadata document cannot be read; for the operator."""


class UnsupportedCodec(InvalidReference):
    """A codec is unknown or not on the allow-list; for the operator."""


class UpstreamError(CubegateError):
    """An upstream object could not be read as it should be; the base of all read errors."""


class UpstreamRefused(UpstreamError):
    """The address is outside the configured upstreams: it was not contacted."""


class UpstreamObjectMissing(UpstreamError):
    """The upstream says definitely that the object does not exist (404, NoSuchKey)."""


class UpstreamMismatch(UpstreamError):
    """The upstream answered something other than the bytes asked for: short, long, moved, HTML."""


class UpstreamUnavailable(UpstreamError):
    """The upstream cannot be reached, throttles, or fails; trying again later may work."""


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer within the deadline."""


class UpstreamChanged(UpstreamMismatch):
    """The object was replaced since the index was built: its offsets may mean nothing any more."""


class UpstreamDenied(UpstreamError):
    """The upstream refuses the configured credentials, or there are none; for the operator.

    `state` names the kind of refusal, `mend` says what to do about it.
    """

    def __init__(self, problem: str, *, state: str = "denied", mend: str = "") -> None:
        super().__init__(f"{problem} {mend}" if mend else problem)
        self.state, self.mend = state, mend


class CorruptChunk(UpstreamError):
    """A chunk's bytes do not decode to exactly one chunk of its array."""


class CorruptIndex(UpstreamError):
    """A part of an index file is lost, cut or changed: its checksum does not match."""


class RechunkFailed(CubegateError):
    """A cube could not be written as a store of its own, or reads back differently."""
