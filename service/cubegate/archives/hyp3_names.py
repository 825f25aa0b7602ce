"""What the names of HyP3 products say: their kind, dates, polarization, and how they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cubegate.query.nanoseconds import moment

INSAR_GAMMA, INSAR_BURST, INSAR_MULTI_BURST, RTC_GAMMA = (
    "INSAR_GAMMA",
    "INSAR_ISCE_BURST",
    "INSAR_ISCE_MULTI_BURST",
    "RTC_GAMMA",
)
_MOMENT, _DAY, _ID = r"\d{8}T\d{6}", r"\d{8}", r"[0-9A-F]{4}"
_POLARIZATION = r"(?P<polarization>VV|VH|HH|HV)"
_INSAR_GAMMA = re.compile(
    rf"S1[A-D]{{2}}_(?P<reference>{_MOMENT})_(?P<time>{_MOMENT})_{_POLARIZATION}(?P<orbit>[PRO])\d{{3}}"
    rf"_INT(?P<spacing>\d{{1,4}})_G_(?P<masked>[uw])(?P<clipped>[ec])(?P<swath>[F123])_{_ID}"
)
_BURST = re.compile(
    rf"S1_(?P<burst>\d{{6}})_(?P<swath>(?:IW|EW)\d)_(?P<reference>{_DAY})_(?P<time>{_DAY})"
    rf"_{_POLARIZATION}_INT(?P<spacing>\d{{1,4}})_{_ID}"
)
_CORNER = r"[EW]\d{3}_\d_[NS]\d{2}_\d"
_MULTI_BURST = re.compile(
    rf"S1[A-D]?_(?P<path>\d{{3}})_(?:(?P<bursts>\d{{6}}s\dn\d{{2}}(?:-\d{{6}}s\dn\d{{2}})*)_IW|{_CORNER}_{_CORNER})"
    rf"_(?P<reference>{_DAY})_(?P<time>{_DAY})_{_POLARIZATION}_INT(?P<spacing>\d{{1,4}})_{_ID}"
)
_RTC = re.compile(
    rf"S1[A-D]_(?P<mode>IW|EW|S\d)_(?P<time>{_MOMENT})_(?P<polarization>[SD][VH])(?P<orbit>[PRO])"
    rf"_RTC(?P<spacing>\d{{1,3}})_G_(?P<radiometry>[gs])(?P<scale>[pad])(?P<masked>[uw])(?P<filtered>[nf])"
    rf"(?P<clipped>[ec])(?P<matched>[dm])_{_ID}"
)
_PATTERNS = {
    INSAR_GAMMA: _INSAR_GAMMA,
    INSAR_BURST: _BURST,
    INSAR_MULTI_BURST: _MULTI_BURST,
    RTC_GAMMA: _RTC,
}
# what ESA's identifiers of bursts count: seconds a burst, before the first one, and an orbit
_BURST_SECONDS, _PREAMBLE_SECONDS, _ORBIT_SECONDS = 2.758273, 2.299849, 12 * 86_400 / 175
_LETTERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "orbit": ("card4l_orbit_data_source", {"P": "precise", "R": "restituted", "O": "predicted"}),
    "radiometry": ("card4l_measurement_type", {"g": "gamma0", "s": "sigma0"}),
    "scale": (
        "card4l_measurement_convention",
        {"p": "linear power", "a": "linear amplitude", "d": "logarithmic decibel"},
    ),
    "filtered": ("card4l_speckle_filtering", {"n": "none", "f": "enhanced Lee"}),
    "matched": ("coregistration", {"d": "dead reckoning", "m": "DEM matching"}),
    "masked": ("water_masked", {"u": "no", "w": "yes"}),
    "clipped": ("clipped", {"e": "no", "c": "yes"}),
}


@dataclass(frozen=True)
class ProductName:
    """One product's name, taken apart.

    Attributes:
        kind: that of the job.
        reference: the first date of a pair, None where there is no pair; datetime64[s].
        time: the second date of a pair, or that of the acquisition; datetime64[s].
        exact: whether both are to the second, or mean days.
        alike: what products of one cube have in common.
        path: the relative orbit, where the name tells it.
        direction: ASCENDING or DESCENDING, where the name tells it.
        traits: what the letters of the name mean, by the name of an attribute.
    """

    name: str
    kind: str
    reference: np.datetime64 | None
    time: np.datetime64
    exact: bool
    alike: str
    path: int | None = None
    direction: str | None = None
    traits: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_pair(self) -> bool:
        """Whether it is of two acquisitions."""
        return self.reference is not None


def split_file_name(file_name: str) -> tuple[ProductName, str] | None:
    """Return the product that a file belongs to, and the rest of its name; None where it is of none.

    `S1_136231_IW2_20200604_20200616_VV_INT80_12E3_unw_phase.tif` gives the rest `_unw_phase.tif`.
    """
    for kind, pattern in _PATTERNS.items():
        found = pattern.match(file_name)
        rest = "" if found is None else file_name[found.end() :]
        if found is not None and (not rest or rest[0] in "_."):
            try:
                return _product(kind, found), rest
            except ValueError:
                # digits that are no date
                return None
    return None


def _product(kind: str, found: re.Match[str]) -> ProductName:
    said = found.groupdict()
    reference = said.get("reference")
    path, direction = _orbit(said)
    traits = {
        name: meanings[said[letter]]
        for letter, (name, meanings) in _LETTERS.items()
        if said.get(letter) is not None
    }
    traits["polarization"] = said["polarization"]
    if said.get("mode"):
        traits["instrument_mode"] = said["mode"]
    alike = f"{kind}, {int(said['spacing'])} m"
    if kind == RTC_GAMMA:
        alike += f", {traits['card4l_measurement_type']} as {traits['card4l_measurement_convention']}"
    else:
        alike += f", {said['polarization']}"
    return ProductName(
        found[0],
        kind,
        None if reference is None else _moment(reference),
        _moment(said["time"]),
        "T" in said["time"],
        alike,
        path,
        direction,
        traits,
    )


def _moment(text: str) -> np.datetime64:
    day = f"{text[:4]}-{text[4:6]}-{text[6:8]}"
    clock = f"T{text[9:11]}:{text[11:13]}:{text[13:15]}" if "T" in text else ""
    read: np.datetime64 = moment(f"{day}{clock}").astype("M8[s]")
    return read


def _orbit(said: Mapping[str, str | None]) -> tuple[int | None, str | None]:
    """Return the path and the direction that the number of a burst tells."""
    numbers = re.findall(r"\d{6}", said.get("burst") or said.get("bursts") or "")
    number = next((int(number) for number in numbers if int(number)), None)
    path = said.get("path")
    if number is None:
        return (None if path is None else int(path)), None
    seconds = (number - 0.5) * _BURST_SECONDS + _PREAMBLE_SECONDS
    orbits, part = divmod(seconds / _ORBIT_SECONDS, 1)
    # an orbit begins where it crosses the equator northwards
    ascending = part < 0.25 or part >= 0.75
    return int(path or orbits + 1), "ASCENDING" if ascending else "DESCENDING"


def path_of_granule(granule: str) -> int | None:
    """Return the relative orbit of a Sentinel-1 granule, whose name has its absolute one or its burst."""
    scene = re.match(
        rf"S1([A-C])_(?:IW|EW|S\d)_[A-Z_]{{4,5}}[0-9A-Z]{{4}}_{_MOMENT}_{_MOMENT}_(\d{{6}})_", granule
    )
    if scene is not None:
        return (int(scene[2]) - {"A": 73, "B": 27, "C": 172}[scene[1]]) % 175 + 1
    burst = re.match(r"S1_(\d{6})_(?:IW|EW)\d_", granule)
    return None if burst is None else _orbit({"burst": burst[1]})[0]


def direction_of_granule(granule: str) -> str | None:
    """Return ASCENDING or DESCENDING for a burst's name, None for others, which do not tell it."""
    burst = re.match(r"S1_(\d{6})_(?:IW|EW)\d_", granule)
    return None if burst is None else _orbit({"burst": burst[1]})[1]


def time_of_granule(granule: str) -> np.datetime64 | None:
    """Return when an acquisition began, datetime64[s], None where its name does not tell it."""
    found = re.match(rf"S1[A-D]?_.*?_({_MOMENT})(?:_|$)", granule)
    try:
        return None if found is None else _moment(found[1])
    except ValueError:
        return None
