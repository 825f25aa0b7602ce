"""Cubes in EPSG:3413 and in UTM, mounted with a combined collection over them."""

import pytest

from .cubes import POLAR_TIMES, UTM_TIMES, Asking, Made


@pytest.fixture
def polar():
    return Made("EPSG:3413", -50.0, 65.0, 200.0, 60, POLAR_TIMES, 1)


@pytest.fixture
def utm():
    return Made("EPSG:32622", -49.75, 65.0, 120.0, 140, UTM_TIMES, 2)


@pytest.fixture
def mounted(opened, tmp_path):
    """Write cubes, mount them and a combined collection over them; gives what asks it."""

    async def mounted(*, order=None, south_first=(), **cubes):
        for name, made in cubes.items():
            made.write(tmp_path / f"{name}.zarr", south_first=name in south_first)
        files = {name: f"source: {{kind: zarr, href: ../{name}.zarr}}" for name in cubes}
        members = ", ".join(order or cubes)
        catalog = opened(**files, all=f"source: {{kind: combined, members: [{members}]}}")
        return Asking(catalog)

    return mounted
