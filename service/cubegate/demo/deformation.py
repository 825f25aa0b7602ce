"""A made-up deforming landscape: what a radar would see of it, on one grid at any date."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numcodecs import BitRound
from numpy.typing import NDArray

Grid = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Real products round to ten mantissa bits too: it halves what deflate leaves.
_MANTISSA_BITS = 10


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], roughness: float) -> Grid:
    """Isotropic power-law noise of zero mean and unit variance; a larger `roughness` is smoother."""
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * frequency ** (-roughness / 2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=shape)
    return np.asarray(noise / noise.std(), dtype=np.float32)


def round_mantissa(values: Grid) -> Grid:
    """Round to the ten leading mantissa bits; NaN stays NaN."""
    return np.asarray(BitRound(_MANTISSA_BITS).encode(values)).view(np.float32).reshape(values.shape)


@dataclass(frozen=True)
class Layers:
    """The layers of one date, of the grid's shape; displacements in metres towards the radar."""

    displacement: Grid
    short_wavelength_displacement: Grid
    temporal_coherence: Grid
    recommended_mask: NDArray[np.uint8]
    connected_component_labels: NDArray[np.uint16]


@dataclass(frozen=True)
class Landscape:
    """A subsiding basin and a smaller rising one, inside a slanted swath of `shape` (rows, columns)."""

    shape: tuple[int, int]
    seed: int

    @cached_property
    def swath(self) -> Mask:
        """Where an ascending radar pass sees the ground."""
        row, column = self._pixels
        height, width = self.shape
        return (
            (column > 0.04 * width + 0.2 * row)
            & (column < 0.86 * width + 0.2 * row)
            & (row > 0.11 * height - 0.1 * column)
            & (row < 1.06 * height - 0.14 * column)
        )

    @cached_property
    def _pixels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        row, column = np.ogrid[: self.shape[0], : self.shape[1]]
        return row.astype(np.float64), column.astype(np.float64)

    def _bump(self, row: float, column: float, radius: float) -> Grid:
        rows, columns = self._pixels
        height, width = self.shape
        squared = (rows - row * height) ** 2 + (columns - column * width) ** 2
        return np.exp(-squared / (2 * (radius * height) ** 2)).astype(np.float32)

    @cached_property
    def _subsidence(self) -> Grid:
        return self._bump(0.5, 0.47, 0.13)

    @cached_property
    def _uplift(self) -> Grid:
        return self._bump(0.25, 0.76, 0.07)

    @cached_property
    def _stable_coherence(self) -> Grid:
        noise = smooth_noise(np.random.default_rng([self.seed, 1]), self.shape, 2.6)
        coherence: Grid = np.clip(np.float32(0.72) + np.float32(0.16) * noise, 0.15, 0.97)
        return coherence

    def deformation(self, years: float) -> Grid:
        """Displacement in metres since year 0: a trend and, over the basin, a seasonal swing."""
        season = np.float32(0.012 * (np.cos(2 * np.pi * years) - 1))
        trend = np.float32(-0.11 * years)
        return (trend + season) * self._subsidence + np.float32(0.045 * years) * self._uplift

    def observe(self, index: int, reference_years: float, years: float) -> Layers:
        """The layers of date number `index`: the change from one year to another, and the air between."""
        rng = np.random.default_rng([self.seed, 2, index])
        inside = self.swath
        change = self.deformation(years) - self.deformation(reference_years)
        air = 0.004 * smooth_noise(rng, self.shape, 3.4)
        coherence = np.clip(self._stable_coherence + 0.02 * smooth_noise(rng, self.shape, 1.5), 0, 1)
        speckle = 0.0008 * rng.standard_normal(self.shape, dtype=np.float32) / np.maximum(coherence, 0.2)
        return Layers(
            displacement=round_mantissa(np.where(inside, change + air + speckle, np.float32(np.nan))),
            short_wavelength_displacement=round_mantissa(
                np.where(inside, change + 0.2 * air + speckle, np.float32(np.nan))
            ),
            temporal_coherence=round_mantissa(np.where(inside, coherence, np.float32(np.nan))),
            recommended_mask=np.where(inside, coherence > 0.5, 255).astype(np.uint8),
            connected_component_labels=np.where(inside, self._components(coherence), 65535).astype(np.uint16),
        )

    def _components(self, coherence: Grid) -> NDArray[np.int64]:
        row, column = self._pixels
        far_side = row > 0.82 * self.shape[0] + 0.1 * column
        return np.where(coherence < 0.45, 0, np.where(far_side, 2, 1))
