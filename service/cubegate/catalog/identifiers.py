"""What a collection may be called."""

from __future__ import annotations

ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]*"
