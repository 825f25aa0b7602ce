"""What the commands for archives take alike: the configuration, boxes, dates, where a cube goes."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import numpy as np

from cubegate.errors import InvalidParameter
from cubegate.settings import Settings, load_settings

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and `--json`."""
    parser.add_argument(
        "--config",
        type=Path,
        help="the cubegate.yaml to use (default: config/cubegate.yaml where there is one)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def add_output(parser: argparse.ArgumentParser, *, default_id: str) -> None:
    """Add `--output` and `--id`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="the directory for the cube's files")
    parser.add_argument("--id", help=f"the cube's id (default: {default_id})")


def read_settings(parsed: argparse.Namespace) -> Settings:
    """Return the settings that `--config` names.

    Raises:
        ConfigurationError: the file cannot be read, or is invalid.
    """
    default = Path("config/cubegate.yaml")
    # without any file, which a search can do without, there are the variables of the environment
    return load_settings(parsed.config or (default if default.exists() else Path(os.devnull)), os.environ)


def parse_date(name: str, text: str) -> np.datetime64:
    """Return the first second of a date, datetime64[s].

    Raises:
        InvalidParameter: `text` is no date.
    """
    try:
        if _DATE.fullmatch(text):
            return np.datetime64(text, "s")
    except ValueError:
        pass
    raise InvalidParameter(name, f"{text[:40]!r} is no date.", accepted="dates such as 2020-01-31")


def parse_bbox(text: str) -> tuple[float, float, float, float]:
    """Return west, south, east and north in degrees; west is beyond east across the antimeridian.

    Raises:
        InvalidParameter: `text` is no box.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        west = south = east = north = float("nan")
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise InvalidParameter(
            "bbox", f"{text[:80]!r} is no box.", accepted="west,south,east,north in degrees"
        )
    return west, south, east, north


def parse_point(text: str) -> tuple[float, float]:
    """Return the longitude and latitude of a point, degrees.

    Raises:
        InvalidParameter: `text` is no point.
    """
    try:
        lon, lat = (float(part) for part in text.split(","))
    except ValueError:
        lon = lat = float("nan")
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise InvalidParameter("point", f"{text[:80]!r} is no point.", accepted="lon,lat in degrees")
    return lon, lat
