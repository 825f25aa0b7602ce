"""Errors as WMS's service exceptions: their codes and their documents."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from cubegate.errors import CubegateError, InvalidParameter
from cubegate.tiling.wms import NEW

MEDIA_TYPES = {NEW: "text/xml", "1.1.1": "application/vnd.ogc.se_xml"}
_ILLEGAL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CODES = {
    "layers": "LayerNotDefined",
    "layer": "LayerNotDefined",
    "query_layers": "LayerNotDefined",
    "variables": "LayerNotDefined",
    "styles": "StyleNotDefined",
    "style": "StyleNotDefined",
    "crs": "InvalidCRS",
    "srs": "InvalidCRS",
    "format": "InvalidFormat",
    "info_format": "InvalidFormat",
    "i": "InvalidPoint",
    "j": "InvalidPoint",
    "datetime": "InvalidDimensionValue",
    "time": "InvalidDimensionValue",
    "request": "OperationNotSupported",
}


def code_of(error: CubegateError, version: str) -> str:
    """Return the code of an error; empty where WMS has none for it."""
    if not isinstance(error, InvalidParameter):
        return ""
    if "is missing" in error.detail and error.parameter not in ("crs", "srs", "request"):
        return "MissingParameterValue"
    code = _CODES.get(error.parameter, "InvalidParameterValue")
    return "InvalidSRS" if code == "InvalidCRS" and version != NEW else code


def exception_report(code: str, text: str, version: str) -> bytes:
    """Return the document of one exception."""
    coded = f" code={quoteattr(code)}" if code else ""
    body = f"<ServiceException{coded}>{escape(legal(text))}</ServiceException>"
    if version == NEW:
        opening = '<ServiceExceptionReport version="1.3.0" xmlns="http://www.opengis.net/ogc">'
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}{body}</ServiceExceptionReport>\n'.encode()
    kind = (
        '<!DOCTYPE ServiceExceptionReport SYSTEM "http://schemas.opengis.net/wms/1.1.1/exception_1_1_1.dtd">'
    )
    opening = '<ServiceExceptionReport version="1.1.1">'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{kind}\n{opening}{body}</ServiceExceptionReport>\n'.encode()
    )


def legal(text: str) -> str:
    """Put question marks in the place of what XML cannot hold."""
    return _ILLEGAL.sub("?", text)
