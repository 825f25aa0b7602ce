"""The conformance classes that are kept, by their addresses."""

from __future__ import annotations

_EDR = ("core", "collections", "queries", "json", "edr-geojson", "covjson", "html", "oas30")
# the test suite for 1.0 takes that for locations: docs/decisions/2026-11-22-claim-geojson-of-edr-1-1-only.md
_EDR_1_1 = ("geojson",)
_COVERAGES = (
    "core", "oas30", "html", "geodata-coverage",
    "coverage-subset", "coverage-rangesubset", "coverage-bbox", "coverage-datetime",
)  # fmt: skip

CONFORMS_TO = (
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/collections",
    *(
        f"http://www.opengis.net/spec/ogcapi-edr-1/{version}/conf/{name}"
        for version, more in (("1.0", ()), ("1.1", _EDR_1_1))
        for name in (*_EDR, *more)
    ),
    *(f"http://www.opengis.net/spec/ogcapi-coverages-1/1.0/conf/{name}" for name in _COVERAGES),
)
