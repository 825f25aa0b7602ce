"""Holds local files to their root, and odd files to errors."""

import os

import pytest

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.chunks.source import ChunkReference
from cubegate.errors import (
    UpstreamChanged,
    UpstreamMismatch,
    UpstreamObjectMissing,
    UpstreamRefused,
    UpstreamUnavailable,
)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.bin").write_bytes(b"0123456789")
    (tmp_path / "outside.bin").write_bytes(b"outside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.bin").write_bytes(b"outside")
    return root


@pytest.fixture
def source(root):
    return LocalFiles(parse_address(root.as_uri()))


async def test_links_may_not_lead_outside_the_root(root, source):
    (root / "file").symlink_to(root.parent / "outside.bin")
    (root / "folder").symlink_to(root.parent / "outside")
    (root / "relative").symlink_to("../outside.bin")
    for name in ("file", "folder/b.bin", "relative"):
        with pytest.raises(UpstreamRefused):
            await source.get(ChunkReference(f"{root.as_uri()}/{name}", 0, 1))
    with pytest.raises(UpstreamRefused):
        await source.list(f"{root.as_uri()}/folder")


async def test_links_inside_the_root_and_to_the_root_are_followed(root, source):
    (root / "link").symlink_to("a.bin")
    assert await source.get(ChunkReference(f"{root.as_uri()}/link", 2, 3)) == b"234"
    alias = root.parent / "alias"
    alias.symlink_to(root)
    aliased = LocalFiles(parse_address(alias.as_uri()))
    assert await aliased.get(ChunkReference(f"{alias.as_uri()}/a.bin")) == b"0123456789"


async def test_a_loop_of_links_is_an_error(root, source):
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    with pytest.raises(UpstreamRefused):
        await source.get(ChunkReference(f"{root.as_uri()}/one", 0, 1))


async def test_a_listing_never_leaves_out_a_linked_folder_silently(root, source):
    (root / "real").mkdir()
    (root / "linked").symlink_to("real")
    with pytest.raises(UpstreamRefused, match="symbolic links"):
        await source.list(root.as_uri())


async def test_a_folder_is_no_object(root, source):
    (root / "folder").mkdir()
    with pytest.raises(UpstreamObjectMissing):
        await source.get(ChunkReference(f"{root.as_uri()}/folder", 0, 1))


async def test_a_named_pipe_is_refused_without_waiting(root, source):
    os.mkfifo(root / "pipe")
    with pytest.raises(UpstreamMismatch):
        await source.get(ChunkReference(f"{root.as_uri()}/pipe", 0, 1))


async def test_a_root_that_is_gone_says_nothing_about_its_files(root, source):
    (root / "a.bin").unlink()
    with pytest.raises(UpstreamObjectMissing):
        await source.get(ChunkReference(f"{root.as_uri()}/a.bin"))
    root.rmdir()
    with pytest.raises(UpstreamUnavailable):
        await source.get(ChunkReference(f"{root.as_uri()}/a.bin"))
    with pytest.raises(UpstreamUnavailable):
        await source.list(root.as_uri())


async def test_a_prefix_may_be_one_file(root):
    url = (root / "a.bin").as_uri()
    source = LocalFiles(parse_address(url))
    assert await source.get(ChunkReference(url, 0, 2)) == b"01"
    with pytest.raises(UpstreamRefused):
        await source.get(ChunkReference(f"{root.as_uri()}/b.bin"))


@pytest.mark.parametrize("name", ["a b", "100%", "50%25", "what?", "num#ber", "é", "a+b"])
async def test_names_with_special_characters_are_listed_as_they_are_read(root, source, name):
    (root / "odd").mkdir()
    (root / "odd" / name).write_bytes(name.encode())
    (listed,) = await source.list(f"{root.as_uri()}/odd")
    assert await source.get(ChunkReference(listed)) == name.encode()
    assert await source.get(ChunkReference((root / "odd" / name).as_uri())) == name.encode()


async def test_a_file_that_was_written_over_is_known_by_its_size_or_time(root, source):
    file, url = root / "a.bin", (root / "a.bin").as_uri()
    before = (await source.stat(url)).validator
    reference = ChunkReference(url, 2, 3, before)
    assert await source.get(reference) == b"234"
    # the same size at another time
    file.write_bytes(b"abcdefghij")
    os.utime(file, ns=(0, 1_000_000_000))
    with pytest.raises(UpstreamChanged):
        await source.get(reference)
    # a shorter one is not only too short
    file.write_bytes(b"ab")
    with pytest.raises(UpstreamChanged):
        await source.get(reference)
    file.write_bytes(b"abcdefghij")
    # another size at the same time
    at = file.stat()
    early = (await source.stat(url)).validator
    file.write_bytes(b"abcdefghijk")
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    with pytest.raises(UpstreamChanged):
        await source.get(ChunkReference(url, 2, 3, early))
    assert await source.get(ChunkReference(url, 2, 3, (await source.stat(url)).validator)) == b"cde"


async def test_a_file_that_is_written_over_while_it_is_read_is_an_error(root, source, monkeypatch):
    file, url = root / "a.bin", (root / "a.bin").as_uri()
    validator, pread = (await source.stat(url)).validator, os.pread

    def read_and_change(*arguments):
        data = pread(*arguments)
        file.write_bytes(b"abcdefghij")
        os.utime(file, ns=(0, 1_000_000_000))
        return data

    monkeypatch.setattr(os, "pread", read_and_change)
    with pytest.raises(UpstreamChanged):
        await source.get(ChunkReference(url, 2, 3, validator))


async def test_a_file_larger_than_any_is_meant_to_be_is_not_read_whole(root, source, monkeypatch):
    monkeypatch.setattr("cubegate.chunks.local.LARGEST_OBJECT", 9)
    with pytest.raises(UpstreamMismatch, match="larger than the 9 bytes"):
        await source.get(ChunkReference((root / "a.bin").as_uri()))
    assert await source.get(ChunkReference((root / "a.bin").as_uri(), 0, 10)) == b"0123456789"


async def test_a_folder_is_known_by_nothing(root, source):
    with pytest.raises(UpstreamObjectMissing):
        await source.stat(root.as_uri())
