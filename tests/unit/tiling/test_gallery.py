"""What is remembered of a cube's layers does not keep the cube."""

import gc
import weakref

from cubegate.api import pictures
from cubegate.settings import LimitSettings


async def test_a_cube_is_let_go_though_its_layers_are_remembered(made, source, monkeypatch):
    monkeypatch.setattr(pictures, "Datacube", source)
    cube = source(made["utm"][0])
    cube.picture_identity, cube.refresh_overviews = "one", lambda: None
    known = pictures.gallery(cube, LimitSettings())
    layer = await known.layer(cube, "", "v")
    assert layer.parts[0].source.id == "made"
    await known.style(layer)
    gone = weakref.ref(cube)
    del cube, layer, known
    gc.collect()
    assert gone() is None
