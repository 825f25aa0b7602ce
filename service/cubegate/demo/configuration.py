"""Writes the configuration that serves the demo cubes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_COLLECTIONS: dict[str, dict[str, Any]] = {
    "opera-f11116": {
        "title": "Synthetic OPERA DISP-S1 stack, through kerchunk Parquet",
        "description": "24 made-up netCDF4 granules of surface displacement. The reference date moves once.",
        "source": {"kind": "kerchunk", "href": "opera-f11116.parq"},
    },
    "opera-f11116-json": {
        "title": "Synthetic OPERA DISP-S1 stack, through kerchunk JSON",
        "description": "The same granules through the other reference format.",
        "source": {"kind": "kerchunk", "href": "opera-f11116.json"},
    },
    "its-live": {
        "title": "Synthetic ITS_LIVE cube, Zarr v2",
        "description": "Made-up glacier velocities of 410 image pairs in no order of time.",
        "source": {"kind": "zarr", "href": "its-live.zarr"},
    },
}


def write_configuration(directory: Path) -> Path:
    """Write `cubegate.yaml` and `collections/*.yaml` for the absolute `directory`; returns the former."""
    root = f"{directory.as_uri()}/"
    collections = directory / "collections"
    collections.mkdir(exist_ok=True)
    for name, collection in _COLLECTIONS.items():
        source = {**collection["source"], "href": root + collection["source"]["href"]}
        _write(collections / f"{name}.yaml", {"id": name, **collection, "source": source})
    path = directory / "cubegate.yaml"
    _write(path, {"upstreams": {root: {}}, "collections": ["collections/*.yaml"]})
    return path


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False, width=200), encoding="utf-8")
