"""Names as DAP2 writes them: whatever else than letters, digits and a few signs is percent-encoded."""

from __future__ import annotations

from urllib.parse import quote


def escaped(name: str) -> str:
    """Return a name for a document; dots are encoded too, since they part the members of a structure."""
    return quote(name, safe="_!~*'-").replace(".", "%2E")
