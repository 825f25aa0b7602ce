"""Holds local files to their root, and odd files to errors."""

import os

import pytest

from cubegate.chunks.address import parse_address
from cubegate.chunks.local import LocalFiles
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamMismatch, UpstreamObjectMissing, UpstreamRefused, UpstreamUnavailable


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
