"""Which format a client of the standards wants: by `f`, or by the Accept header."""

from __future__ import annotations

from collections.abc import Mapping

from cubegate.formats.output import OutputFormat, Shape, choose_format

# names that other servers use
_ALIASES = {
    "coveragejson": "covjson",
    "netcdf4": "netcdf",
    "nc": "netcdf",
    "tiff": "geotiff",
    "cog": "geotiff",
}


def negotiate(
    formats: Mapping[str, OutputFormat], named: str | None, accept: str, shape: Shape, default: str
) -> OutputFormat:
    """Choose the format that `f` names, else the most wanted that can write `shape`, else `default`.

    Raises:
        InvalidParameter: `f` names none, or one that cannot write `shape`.
    """
    if named is not None:
        lower = named.lower()
        return choose_format(formats, _ALIASES.get(lower, lower if lower in formats else named), shape)
    for media_type in _preferred(accept):
        for each in formats.values():
            if shape in each.shapes and each.media_type.partition(";")[0] == media_type:
                return each
    return choose_format(formats, default, shape)


def wants_html(named: str | None, accept: str) -> bool:
    """Tell whether a document is wanted as a page."""
    if named is not None:
        return named.lower() == "html"
    found = next((each for each in _preferred(accept) if each in ("text/html", "application/json")), "")
    return found == "text/html"


def _preferred(accept: str) -> list[str]:
    """The media types of an Accept header, the most wanted first; without those that are refused."""
    found: list[tuple[float, str]] = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            found.append((float(quality), media_type))
        except ValueError:
            continue
    return [media_type for quality, media_type in sorted(found, key=lambda each: -each[0]) if quality > 0]
