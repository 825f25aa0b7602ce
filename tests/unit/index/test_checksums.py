"""What is indexed with checksums was read, is one chunk, and is known by its bytes from then on."""

import json
import re
import zlib

import pytest

from cubegate.chunks.source import ChunkReference
from cubegate.errors import CorruptChunk, UpstreamError, UpstreamObjectMissing
from cubegate.index import checksums as checksums_module
from cubegate.index.builders.kerchunk_json import build_from_kerchunk_json
from cubegate.index.checksums import take_checksums
from cubegate.index.file import open_index, read_version, write_index
from cubegate.index.location import Inlined, Stored

GRID = [5, 4, 6]
DOCUMENT = {
    "zarr_format": 2, "shape": GRID, "chunks": [1, 1, 1], "dtype": "<u4", "fill_value": None,
    "filters": None, "compressor": None, "order": "C",
}  # fmt: skip


class Objects:
    """Objects in memory, which counts what is held by those who read."""

    def __init__(self, objects):
        self.objects = objects
        self.requests = []

    async def get(self, reference):
        self.requests.append(reference)
        try:
            data = self.objects[reference.url]
        except KeyError:
            raise UpstreamObjectMissing("it does not exist") from None
        if reference.length is None:
            return data
        return data[reference.offset : reference.offset + reference.length]


def decoder_of(array):
    def decode(data):
        if len(data) != array.chunk_nbytes:
            raise CorruptChunk("not one chunk")

    return decode


def build(references):
    return build_from_kerchunk_json(
        json.dumps(references).encode(), base_url="s3://refs/r.json", check_url=lambda _: None
    )


@pytest.fixture
def objects():
    granules = {f"s3://data/{t}.nc": bytes((t * 7 + n) % 251 for n in range(4 * 4 * 6)) for t in range(5)}
    return Objects({**granules, "s3://data/whole": b"abcd"})


@pytest.fixture
def index():
    references = {
        ".zgroup": {"zarr_format": 2},
        "v/.zarray": DOCUMENT,
        "v/.zattrs": {"_ARRAY_DIMENSIONS": ["time", "y", "x"]},
        "w/.zarray": {**DOCUMENT, "shape": [3], "chunks": [1]},
        "w/0": ["s3://data/whole"],
        "w/1": "efgh",
    }
    for t in range(5):
        for y in range(4):
            for x in range(6):
                if (t, y, x) != (2, 2, 2):
                    references[f"v/{t}.{y}.{x}"] = [f"s3://data/{t}.nc", 4 * (6 * y + x), 4]
    return build(references)


def stored(index, path):
    array = index.hierarchy.arrays[path]
    table = index.content.tables[path]
    chunks = [
        tuple(chunk) for chunk in table.chunks_of(checksums_module.np.arange(len(table.granule))).tolist()
    ]
    located = index.locate(array, chunks)
    assert [index.locate(array, [chunk])[0] for chunk in chunks] == located
    return dict(zip(chunks, located, strict=True))


@pytest.mark.parametrize("batch", [1, 7, 1024])
async def test_every_stored_chunk_has_the_checksum_of_its_bytes(index, objects, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(checksums_module, "_BATCH_CHUNKS", batch)
    made = await take_checksums(index, objects, decoder_of)
    write_index(made, tmp_path / "cube.index")
    opened = open_index(tmp_path / "cube.index")
    opened.verify()
    assert opened.version == made.version == read_version(tmp_path / "cube.index") != index.version
    count = 0
    for held in (made, opened):
        for path in ("v", "w"):
            before = stored(index, path)
            for chunk, location in stored(held, path).items():
                if not isinstance(location, Stored):
                    assert location == before[chunk]
                    continue
                reference = location.reference
                data = objects.objects[reference.url]
                if reference.length is not None:
                    data = data[reference.offset : reference.offset + reference.length]
                assert reference.crc32 == zlib.crc32(data)
                assert before[chunk].reference == ChunkReference(
                    reference.url, reference.offset, reference.length
                )
                count += 1
    assert count == 2 * (5 * 4 * 6 - 1 + 1)


async def test_neighbours_are_read_together_and_nothing_twice(index, objects):
    await take_checksums(index, objects, decoder_of)
    # the hole in granule 2 is small enough to be read over
    assert sorted(request.url for request in objects.requests) == sorted(objects.objects)


async def test_little_is_held_at_a_time(index, objects, monkeypatch):
    monkeypatch.setattr(checksums_module, "_BATCH_NBYTES", 16)
    monkeypatch.setattr(checksums_module, "_BATCHES_IN_FLIGHT", 1)
    told = []
    await take_checksums(index, objects, decoder_of, progress=lambda *step: told.append(step))
    # one of them reads over the hole
    assert all((request.length or 0) <= 20 for request in objects.requests)
    steps = [(done, total) for what, done, total in told if what == "Reading chunks of v"]
    assert steps[0] == (4, 119)
    assert steps[-1] == (119, 119)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})


async def test_the_error_names_chunk_array_and_granule(index, objects):
    del objects.objects["s3://data/3.nc"]
    with pytest.raises(
        UpstreamError, match=r"chunk \(3, \d, \d\) of array 'v' in s3://data/3.nc cannot be read"
    ):
        await take_checksums(index, objects, decoder_of)
    objects.objects["s3://data/3.nc"] = bytes(4 * 4 * 6)
    objects.objects["s3://data/whole"] = b"abc"
    with pytest.raises(
        CorruptChunk, match=re.escape("chunk (0,) of array 'w' in s3://data/whole: not one chunk")
    ):
        await take_checksums(index, objects, decoder_of)


async def test_a_defect_is_not_taken_for_a_damaged_chunk(index, objects):
    def broken(array):
        def decode(data):
            raise KeyError("a defect")

        return decode

    with pytest.raises(KeyError):
        await take_checksums(index, objects, broken)


async def test_equal_content_has_one_version_and_other_bytes_another(index, objects):
    versions = [(await take_checksums(index, objects, decoder_of)).version for _ in range(2)]
    objects.objects["s3://data/0.nc"] = bytes(4 * 4 * 6)
    versions.append((await take_checksums(index, objects, decoder_of)).version)
    assert versions[0] == versions[1] != versions[2]


async def test_inlined_chunks_are_proved_too(objects):
    index = build({".zgroup": {}, "w/.zarray": {**DOCUMENT, "shape": [3], "chunks": [1]}, "w/1": "efg"})
    with pytest.raises(CorruptChunk, match=r"chunk \(1,\) of array 'w', inlined in the references: not one"):
        await take_checksums(index, objects, decoder_of)


async def test_inlined_chunks_stay_as_they_are(index, objects):
    made = await take_checksums(index, objects, decoder_of)
    assert stored(made, "w")[(1,)] == Inlined(b"efgh")
