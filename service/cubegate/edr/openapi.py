"""The part of the server's OpenAPI document that describes the OGC APIs, in the version that EDR asks for."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

VERSION = "3.0.3"


def edr_openapi(document: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Return the operations below `/edr` of an OpenAPI 3.1 document as one of OpenAPI 3.0."""
    paths = {
        path.removeprefix("/edr") or "/": copy.deepcopy(operations)
        for path, operations in document["paths"].items()
        if path == "/edr" or path.startswith("/edr/")
    }
    found = {
        "openapi": VERSION,
        "info": {**document["info"], "title": "cubegate: OGC API - EDR and Coverages"},
        "servers": [{"url": f"{base}/edr"}],
        "paths": paths,
    }
    _lower(found)
    return found


def _lower(node: Any) -> None:
    """Write what OpenAPI 3.1 has and 3.0 lacks in the way of 3.0."""
    if isinstance(node, list):
        for each in node:
            _lower(each)
    if not isinstance(node, dict):
        return
    if node.get("in") == "query":
        # as the standard defines its parameters, and 3.0 defaults to otherwise
        node.setdefault("style", "form")
        node.setdefault("explode", False)
    schema = node.get("schema")
    if isinstance(schema, dict) and isinstance(schema.get("examples"), list):
        schema["example"] = schema.pop("examples")[0]
    for each in node.values():
        _lower(each)
