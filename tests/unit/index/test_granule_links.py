"""A granule may link to other files: those of this machine are not for it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from cubegate.index.granule import ask_granule

PATHS = [
    "plain",
    "soft",
    "group/relative",
    "elsewhere",
    "elsewhere/v",
    "through",
    "stored",
    "loop",
    "dangling",
]


@pytest.fixture
def granule(tmp_path):
    """Every kind of link and storage, some of which name files outside of the granule."""
    secret, raw = tmp_path / "secret.h5", tmp_path / "secret.raw"
    with h5py.File(secret, "w") as file:
        file.create_dataset("v", data=np.full(4, 7.0))
    raw.write_bytes(np.full(4, 7.0).tobytes())
    path = tmp_path / "granule.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("plain", data=np.full(4, 7.0))
        file.create_dataset("group/inner", data=np.full(4, 7.0))
        file["soft"] = h5py.SoftLink("/plain")
        file["group/relative"] = h5py.SoftLink("inner")
        file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
        file["through"] = h5py.SoftLink("/elsewhere/v")
        file["loop"] = h5py.SoftLink("/loop")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file.create_dataset("stored", shape=(4,), dtype="f8", external=[(str(raw), 0, 32)])
    return path


async def test_only_what_the_granule_itself_holds_is_looked_at(granule, local_source):
    found = await ask_granule(granule.as_uri(), local_source, PATHS, contents=PATHS)
    assert set(found) == {"plain", "soft", "group/relative", "stored"}
    for path in ("plain", "soft", "group/relative"):
        assert found[path].contents.uniform.tolist() == [7.0]
    assert found["stored"].contents.uniform is None
    assert found["stored"].contents.held
