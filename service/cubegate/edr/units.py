"""Units as UCUM writes them, where that is known; CF leaves authors much freedom."""

from __future__ import annotations

from typing import Any

LONGEST_SYMBOL = 4
UCUM = "http://www.opengis.net/def/uom/UCUM/"

# by what stands in the units attribute; words in lower case
_SYMBOLS = {
    "1": "1", "unitless": "1", "dimensionless": "1", "m": "m", "metre": "m", "metres": "m", "meter": "m",
    "meters": "m", "mm": "mm", "cm": "cm", "km": "km", "s": "s", "second": "s", "seconds": "s", "h": "h",
    "hours": "h", "hour": "h", "day": "d", "days": "d", "d": "d", "year": "a", "years": "a", "%": "%",
    "percent": "%", "degree": "deg", "degrees": "deg", "deg": "deg", "degrees_east": "deg",
    "degrees_north": "deg", "radian": "rad", "radians": "rad", "rad": "rad", "kelvin": "K", "K": "K",
    "celsius": "Cel", "degC": "Cel", "degree_celsius": "Cel", "degrees_celsius": "Cel", "Pa": "Pa",
    "hPa": "hPa", "m/s": "m/s", "m s-1": "m/s", "m s**-1": "m/s", "m/y": "m/a", "m/yr": "m/a",
    "m/year": "m/a", "meter/year": "m/a", "metre/year": "m/a", "m yr-1": "m/a", "m/d": "m/d",
    "m/day": "m/d", "mm/yr": "mm/a", "mm/year": "mm/a", "cm/yr": "cm/a", "cm/year": "cm/a", "1/y": "1/a",
    "1/year": "1/a", "1/yr": "1/a", "kg": "kg", "kg m-2": "kg/m2", "kg/m2": "kg/m2",
    "kg m-2 s-1": "kg/(m2.s)", "w m-2": "W/m2", "w/m2": "W/m2", "dB": "dB",
}  # fmt: skip


def ucum(units: str) -> str | None:
    """Return the UCUM symbol for units as declared; None where it is unknown."""
    text = units.strip()
    # of symbols, s and S are different units
    return _SYMBOLS.get(text) or (_SYMBOLS.get(text.lower()) if len(text) > LONGEST_SYMBOL else None)


def describe_unit(units: str) -> dict[str, Any]:
    """Describe declared units as an EDR unit: with a UCUM symbol where one is known."""
    symbol = ucum(units)
    if symbol is None:
        return {"label": {"en": units}, "symbol": units}
    return {"label": {"en": units}, "symbol": {"value": symbol, "type": UCUM}}
