"""Conditions on variables as a query writes them: a small grammar that is matched, never evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cubegate.errors import InvalidParameter

MAX_LENGTH = 1000
MAX_COUNT = 20
ACCEPTED = (
    "NAME, or NAME OP VALUE with OP one of = != < <= > >= and VALUE a number, a duration (60d, 12h, 30m, "
    "10s), a date or 'a text'; several are separated by commas"
)
_WORD = r"[^\s,=!<>'\"]+"
_CONDITION = re.compile(
    rf"\s*(?P<variable>{_WORD})\s*"
    rf"(?:(?P<operator>!=|<=|>=|=|<|>)\s*(?P<value>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|{_WORD})\s*)?"
    r"(?P<more>,|\Z)"
)


@dataclass(frozen=True)
class Condition:
    """One condition on the values of a variable.

    Attributes:
        variable: its name.
        operator: one of `= != < <= > >=`; empty where the variable shall be true, or not zero.
        value: what it is compared with, as written but for its quotes; empty without an operator.
        quoted: whether the value was in quotes, and so is a text or a time.
        parameter: the name of the request parameter that it came from.
    """

    variable: str
    operator: str
    value: str
    quoted: bool
    parameter: str

    def __str__(self) -> str:
        value = self.value.replace("'", "''")
        return f"{self.variable}{self.operator}" + (f"'{value}'" if self.quoted else value)

    def refused(self, detail: str, accepted: str = "") -> InvalidParameter:
        """Return the error that says why this condition cannot be used."""
        return InvalidParameter(self.parameter, f"{self}: {detail}", accepted=accepted)


def parse_conditions(texts: Iterable[str], parameter: str) -> tuple[Condition, ...]:
    """Read the conditions of all occurrences of one parameter, in order.

    Raises:
        InvalidParameter: a text is no condition, or there are too many.
    """
    found: list[Condition] = []
    for text in texts:
        if len(text) > MAX_LENGTH:
            raise InvalidParameter(
                parameter, f"The conditions are longer than {MAX_LENGTH:,} characters.", accepted=ACCEPTED
            )
        if not text.isprintable():
            raise InvalidParameter(
                parameter, "The conditions hold characters that cannot be printed.", accepted=ACCEPTED
            )
        found += _parse(text, parameter)
    if len(found) > MAX_COUNT:
        raise InvalidParameter(
            parameter, f"There are {len(found)} conditions.", accepted=f"up to {MAX_COUNT} conditions"
        )
    return tuple(found)


def _parse(text: str, parameter: str) -> list[Condition]:
    found = []
    place, more = 0, True
    while more:
        match = _CONDITION.match(text, place)
        if match is None:
            rest = text[place:].strip()
            raise InvalidParameter(parameter, f"{rest[:80]!r} is no condition.", accepted=ACCEPTED)
        value = match["value"] or ""
        quote = value[0] if value[:1] in ("'", '"') else ""
        if quote:
            value = value[1:-1].replace(quote * 2, quote)
        found.append(Condition(match["variable"], match["operator"] or "", value, bool(quote), parameter))
        place, more = match.end(), match["more"] == ","
    return found
