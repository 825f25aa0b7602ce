"""Makes a catalog of many frames, each of 3 million references.

All frames are hard links to one real index file, under ids of their own. What opening and mapping them costs is
the same as of copies; what their chunks cost is not, since the caches know them by the version that they share.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj

from cubegate.index.content import StoredArray
from cubegate.index.file import write_index
from cubegate.index.references import ReferenceCollector

DATES, HEIGHT, WIDTH = 244, 6898, 9618
CHUNK = 256
GRID = (-(-HEIGHT // CHUNK), -(-WIDTH // CHUNK))
PIXEL = 30.0
LEFT, TOP = 199_980.0, 4_300_020.0
VARIABLES = (
    "connected_component_labels", "displacement", "estimated_phase_quality", "persistent_scatterer_mask",
    "phase_similarity", "recommended_mask", "shp_counts", "short_wavelength_displacement",
    "temporal_coherence", "timeseries_inversion_residuals", "unwrapping_mask", "water_mask",
)  # fmt: skip
# A granule holds so many chunks, and those of the grid take turns with them.
CHUNKS_HELD = 4


@dataclass(frozen=True)
class Frames:
    """A configuration that mounts `count` frames, called `frame-00000` and so on."""

    file: Path
    count: int
    references: int
    index_nbytes: int

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.file.with_suffix(".log")

    def index(self, number: int) -> Path:
        """The index file of a frame."""
        return self.file.parent / "indexes" / f"{name_of(number)}.index"

    def series(self, row: int, column: int) -> np.ndarray:
        """The values at a pixel, of shape (dates,), as read from the granules."""
        place = row // CHUNK * GRID[1] + column // CHUNK
        found = []
        for date in range(DATES):
            data = _granule(self.file.parent / "granules", date).read_bytes()
            start = place % CHUNKS_HELD * (len(data) // CHUNKS_HELD)
            values = decoded(data[start : start + len(data) // CHUNKS_HELD])
            found.append(values[row % CHUNK, column % CHUNK])
        return np.array(found)


def name_of(number: int) -> str:
    """The id of a frame."""
    return f"frame-{number:05}"


def decoded(chunk: bytes) -> np.ndarray:
    """The values of an encoded chunk, of shape (CHUNK, CHUNK)."""
    planes = np.frombuffer(zlib.decompress(chunk), "u1").reshape(4, -1)
    return planes.T.copy().view("<f4").reshape(CHUNK, CHUNK)


def place_of(row: int, column: int) -> tuple[float, float]:
    """The x and y of the centre of a pixel."""
    return LEFT + PIXEL * (column + 0.5), TOP - PIXEL * (row + 0.5)


def make_frames(folder: Path, count: int, tell: Callable[[str], None]) -> Frames:
    """Write granules, one index, and a collection file for each of `count` frames into `folder`."""
    for name in ("granules", "indexes", "collections"):
        (folder / name).mkdir(parents=True)
    file = folder / "cubegate.yaml"
    file.write_text(f"upstreams: {{'{folder.as_uri()}/': {{}}}}\n", "utf-8")
    if not count:
        return Frames(file, 0, 0, 0)
    tell("writing the granules and the index of a frame")
    first = folder / "indexes" / f"{name_of(0)}.index"
    references = _write_index(first, _write_granules(folder / "granules"))
    tell("writing collection files")
    for number in range(count):
        name = name_of(number)
        if number:
            (folder / "indexes" / f"{name}.index").hardlink_to(first)
        (folder / "collections" / f"{name}.yaml").write_text(
            f"id: {name}\ntitle: OPERA DISP-S1, frame {number}\n"
            f"source: {{kind: index, href: ../indexes/{name}.index}}\ncrs: EPSG:{32601 + number % 60}\n",
            "utf-8",
        )
    return Frames(file, count, references, first.stat().st_size)


def _granule(folder: Path, date: int) -> Path:
    return folder / f"{date:03}.bin"


def _write_granules(folder: Path) -> dict[str, int]:
    """Write one file a date; returns the size of a chunk by the file's URL."""
    generator = np.random.default_rng(11116)
    written = {}
    for date in range(DATES):
        values = generator.normal(0, 0.05, (CHUNK, CHUNK)).astype("f4")
        # ten mantissa bits, as in real products
        values = (values.view("u4") & np.uint32(0xFFFFE000)).view("f4")
        chunk = zlib.compress(values.view("u1").reshape(-1, 4).T.tobytes(), 4)
        path = _granule(folder, date)
        path.write_bytes(chunk * CHUNKS_HELD)
        written[path.as_uri()] = len(chunk)
    return written


def _write_index(path: Path, granules: dict[str, int]) -> int:
    """Write the index of a frame over `granules`; returns the number of its references."""
    arrays = {name: _data_array() for name in VARIABLES}
    coordinates = {
        "time": ("f8", 12.0 * np.arange(DATES), {"units": "days since 2016-07-01", "calendar": "standard"}),
        "y": ("f8", TOP - PIXEL * (np.arange(HEIGHT) + 0.5), {"standard_name": "projection_y_coordinate"}),
        "x": ("f8", LEFT + PIXEL * (np.arange(WIDTH) + 0.5), {"standard_name": "projection_x_coordinate"}),
        "spatial_ref": ("i4", np.zeros((), "i4"), pyproj.CRS.from_epsg(32611).to_cf()),
    }
    for name, (kind, values, attributes) in coordinates.items():
        document = _document(values.shape, values.shape, kind)
        dimensions = [name] if values.shape else []
        arrays[name] = StoredArray(document, {**attributes, "_ARRAY_DIMENSIONS": dimensions})
    collector = ReferenceCollector(base_url=path.as_uri(), check_url=lambda _: None)
    numbers = np.array([collector.granule(url) for url in granules])
    lengths = np.array(list(granules.values()))
    count = 0
    for name, stored in arrays.items():
        references = collector.add_array(stored.parse(name))
        count += len(references.granule)
        if name in coordinates:
            kind, values, _ = coordinates[name]
            collector.inline(references, 0, values.astype(f"<{kind}").tobytes())
            continue
        date, chunk = np.divmod(np.arange(len(references.granule)), GRID[0] * GRID[1])
        references.granule[:] = numbers[date]
        references.offset[:] = chunk % CHUNKS_HELD * lengths[date]
        references.length[:] = lengths[date]
    write_index(collector.index(groups={"": {"Conventions": "CF-1.8"}}, arrays=arrays, skipped={}), path)
    return count


def _data_array() -> StoredArray:
    document = _document((DATES, HEIGHT, WIDTH), (1, CHUNK, CHUNK), "f4")
    document |= {"filters": [{"id": "shuffle", "elementsize": 4}], "compressor": {"id": "zlib", "level": 4}}
    attributes = {"_ARRAY_DIMENSIONS": ["time", "y", "x"], "units": "m", "grid_mapping": "spatial_ref"}
    return StoredArray({**document, "fill_value": "NaN"}, attributes)


def _document(shape: tuple[int, ...], chunks: tuple[int, ...], kind: str) -> dict[str, Any]:
    return {
        "zarr_format": 2, "shape": list(shape), "chunks": list(chunks), "dtype": f"<{kind}", "order": "C",
        "fill_value": None, "filters": None, "compressor": None,
    }  # fmt: skip
