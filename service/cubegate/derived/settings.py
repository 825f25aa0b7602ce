"""The settings of derived variables: what a collection file says below `derived`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cubegate.settings import Duration, Section

Component = Literal["effective", "longitudinal", "transverse", "shear", "first-principal", "second-principal"]


class PointSettings(Section):
    """A place, in degrees (WGS 84), whose value is subtracted at every time."""

    kind: Literal["point"]
    lon: float = Field(ge=-180, le=360)
    lat: float = Field(ge=-90, le=90)


class ContinuousSettings(Section):
    """A variable relative to reference dates that move, made continuous along time.

    `variable`, `reference_time` and `time` name variables of the same group; `time` None is the time
    coordinate of the grid. Dates that differ by up to `tolerance` seconds are of one acquisition.
    """

    kind: Literal["continuous"]
    variable: str
    reference_time: str = "reference_time"
    time: str | None = None
    missing: Literal["propagate", "omit"] = "propagate"
    tolerance: Duration = 3600.0
    reference: PointSettings | None = None


class VelocitySettings(Section):
    """The components of a velocity along x and y; `units` counts where neither has such an attribute."""

    x: str
    y: str
    units: str | None = None


class SpeedSettings(VelocitySettings):
    """The length of a velocity."""

    kind: Literal["speed"]


class DirectionSettings(VelocitySettings):
    """Where a velocity points to."""

    kind: Literal["direction"]


class StrainSettings(VelocitySettings):
    """One component of the strain rate of a velocity."""

    kind: Literal["strain"]
    component: Component


DerivedSettings = Annotated[
    ContinuousSettings | SpeedSettings | DirectionSettings | StrainSettings, Field(discriminator="kind")
]
