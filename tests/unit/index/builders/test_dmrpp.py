"""The index of a DMR++ document is that of a scan of its file, or an error that says what is wrong."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.unit.index.builders.conftest import stored_values
from tests.unit.index.builders.dmrpp_writer import describe

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.errors import InvalidReference, UpstreamRefused
from cubegate.index.build import build_index
from cubegate.index.builders.dmrpp import build_from_dmrpp
from cubegate.index.builders.hdf5 import build_from_hdf5

SIDECARS = Path(__file__).resolve().parents[4].parent / "shared/data/grids/virtual/zarr_eosdis_store"


@pytest.fixture
def read(local_source, allow_all):
    async def read(path, *, group=""):
        return await build_from_dmrpp(local_source, path.as_uri(), check_url=allow_all, group=group)

    return read


@pytest.fixture
def granule_file(tmp_path, write_kinds):
    return write_kinds(tmp_path / "granule.nc")


@pytest.fixture
def sidecar(granule_file):
    """Write the DMR++ of the granule, with `changes` made to its text."""

    def sidecar(*changes, **options):
        text = describe(granule_file, **options)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = granule_file.with_name("granule.nc.dmrpp")
        path.write_text(text, "latin-1")
        return path

    return sidecar


def rows(index, path):
    table = index.content.tables[path].all()
    urls = [index.urls[number] if number < len(index.urls) else number for number in table.granule.tolist()]
    return urls, table.offset.tolist(), table.length.tolist()


async def test_it_says_what_a_scan_of_the_file_says(granule_file, sidecar, read, local_source, same_values):
    index = await read(sidecar())
    scanned = await build_from_hdf5(local_source, granule_file.as_uri(), check_url=lambda _: None)
    assert set(index.hierarchy.arrays) == set(scanned.hierarchy.arrays)
    for path, array in scanned.hierarchy.arrays.items():
        found = index.hierarchy.arrays[path]
        for what in ("shape", "chunk_shape", "dtype", "dimension_names", "attributes", "codecs"):
            assert getattr(found, what) == getattr(array, what), (path, what)
        np.testing.assert_equal(
            (found.fill_value, found.declared_fill), (array.fill_value, array.declared_fill), err_msg=path
        )
        assert rows(index, path) == rows(scanned, path), path
    assert index.hierarchy.groups == scanned.hierarchy.groups
    assert await same_values(index, stored_values(granule_file)) > 15_000


async def test_values_in_the_document_itself_are_copied(tmp_path, read, same_values):
    path = tmp_path / "compact.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        made = h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F64BE, space, properties)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.0, 2.5, -3.0]))
        file["missing"] = np.arange(12, dtype="i4").reshape(3, 4)
    document = path.with_name("compact.h5.dmrpp")
    document.write_text(describe(path, missing=("missing",)))
    index = await read(document)
    assert index.counts("compact").inlined == index.counts("missing").inlined == 1
    assert await same_values(index, stored_values(path)) == 15


async def test_a_group_is_taken_as_the_root(sidecar, read):
    index = await read(sidecar(), group="deep")
    assert set(index.hierarchy.arrays) == {"big", "unwritten"}
    assert index.hierarchy.arrays["big"].dimension_names == ("y", "x")
    with pytest.raises(InvalidReference, match="has no group 'none'"):
        await read(sidecar(), group="none")


async def test_older_documents_name_filters_in_any_order(sidecar, read, granule_file, same_values):
    path = sidecar(('"shuffle deflate"', '"deflate shuffle"'))
    assert await same_values(await read(path), stored_values(granule_file))


async def test_the_data_are_where_the_document_says(sidecar, read, tmp_path):
    assert list((await read(sidecar())).urls) == [(tmp_path / "granule.nc").as_uri()]
    assert list((await read(sidecar(href="https://host/data/granule.nc"))).urls) == [
        "https://host/data/granule.nc"
    ]


async def test_data_at_an_address_that_is_not_allowed_are_refused(sidecar, local_source):
    def allow(url):
        if not url.startswith("file:"):
            raise UpstreamRefused("not listed")

    path = sidecar(href="http://169.254.169.254/latest")
    with pytest.raises(UpstreamRefused):
        await build_from_dmrpp(local_source, path.as_uri(), check_url=allow)


async def test_unwritten_chunks_of_unknown_fill_are_not_guessed(sidecar, read):
    index = await read(sidecar(('fillValue="-5" ', "")))
    assert "does not say what its unwritten chunks hold" in index.hierarchy.skipped["partial"]
    assert "shuffled" in index.hierarchy.arrays


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([('compressionType="deflate"', 'compressionType="zstd"')], "it is compressed as 'zstd'"),
        ([('chunkPositionInArray="[8,16]"', 'chunkPositionInArray="[8,17]"')], "not on its chunk grid"),
        ([('chunkPositionInArray="[8,16]"', 'chunkPositionInArray="[80,16]"')], "beyond its shape"),
        ([('chunkPositionInArray="[8,16]"', 'chunkPositionInArray="[0,0]"')], "it has a chunk twice"),
        ([('chunkPositionInArray="[8,16]"', 'chunkPositionInArray="[-8,16]"')], "cannot be read"),
        ([('chunkPositionInArray="[8,16]"', 'filterMask="1"')], "skip filters"),
        ([('<Dim name="/y"/>', '<Dim name="/nowhere"/>')], "'/nowhere' is nowhere"),
        (
            [("<dmrpp:chunkDimensionSizes>8 16<", "<dmrpp:chunkDimensionSizes>8<")],
            "another number of dimensions",
        ),
        ([('byteOrder="LE"', 'byteOrder="PDP"')], "byte order is unknown"),
        ([('nBytes="512"', 'nBytes="511"')], "sizes of its chunks"),
        ([('offset="', 'offset="x')], "place of a chunk cannot be read"),
    ],
)
async def test_a_variable_that_makes_no_sense_is_left_out_with_the_reason(sidecar, read, changes, reason):
    index = await read(sidecar(*changes))
    assert any(reason in said for said in index.hierarchy.skipped.values())


BOMB = '<!DOCTYPE Dataset [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>\n<Dataset xmlns'
EXTERNAL = '<!DOCTYPE Dataset [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n<Dataset xmlns'


@pytest.mark.parametrize("declaration", [BOMB, EXTERNAL])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_document_types_are_refused(sidecar, read, declaration, encoding):
    path = sidecar(("<Dataset xmlns", declaration), ("ISO-8859-1", encoding))
    path.write_bytes(path.read_text().encode(encoding))
    with pytest.raises(InvalidReference, match="document type declaration"):
        await read(path)


async def test_what_is_no_dmrpp_is_refused_by_name(sidecar, read):
    path = sidecar()
    whole = path.read_bytes()
    for data, reason in [
        (b"", "is not XML"),
        (b"<html/>", "is not DMR"),
        (whole[: len(whole) // 2], "is not XML, or cut"),
        (b"<a>" * 200, "has too many elements, or too many in one another"),
    ]:
        path.write_bytes(data)
        with pytest.raises(InvalidReference, match=rf"granule\.nc\.dmrpp {reason}"):
            await read(path)


async def test_negative_places_are_refused(sidecar, read):
    with pytest.raises(InvalidReference, match="impossible places"):
        await read(sidecar(('offset="', 'offset="-')))


async def test_a_build_knows_dmrpp_by_its_name(sidecar, allow_all, local_source, granule_file, same_values):
    path = sidecar()
    index = await build_index(path.as_uri(), local_source, check_url=allow_all, validators=True)
    state = await local_source.stat(granule_file.as_uri())
    assert list(index.content.validators) == [state.validator]
    assert await same_values(index, stored_values(granule_file)) > 15_000


@pytest.mark.skipif(not SIDECARS.is_dir(), reason="the shared real files are not beside the project")
async def test_real_documents_name_the_chunks_that_their_references_name(allow_all):
    source = LocalFiles(parse_address(SIDECARS.as_uri()))
    for path in sorted(SIDECARS.glob("*.dmrpp")):
        index = await build_from_dmrpp(source, path.as_uri(), check_url=allow_all)
        text = path.read_text("latin-1")
        stored = [index.counts(name).stored for name in index.hierarchy.arrays]
        assert sum(stored) == text.count("<dmrpp:chunk ") > 50
        for name in index.hierarchy.arrays:
            table = index.content.tables[name].all()
            place = f'offset="{table.offset[0]}" nBytes="{table.length[0]}"'
            assert place in text
