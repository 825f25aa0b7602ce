"""Where a layer lies in the CRS of maps."""

from pyproj import Transformer

from cubegate.tiling.layers import find_layers
from cubegate.tiling.map_crs import bounds_of, known_crs


async def test_the_boxes_of_a_layer_of_many_cubes_hold_them_all(made, source):
    dataset = made["utm"][0].isel(x=slice(0, 3), y=slice(0, 3), time=[0])
    moved = [dataset.x.values + 2_000 * number for number in range(100)]
    cubes = [dataset.assign_coords(x=("x", x, dataset.x.attrs)) for x in moved]
    layers = await find_layers([source(cube, f"cube{number}") for number, cube in enumerate(cubes)], "")
    known = known_crs(layers["v"])
    assert len(known) >= 4
    for crs in known.values():
        box = bounds_of(layers["v"], crs)
        if box is None:
            continue
        west, south, east, north = box
        for x in (moved[0][0], moved[50][1], moved[-1][-1]):
            there = Transformer.from_crs(32611, crs, always_xy=True).transform(x, dataset.y.values[1])
            assert west < there[0] < east
            assert south < there[1] < north
    own = bounds_of(layers["v"], known["EPSG:32611"])
    assert abs(own[2] - moved[-1][-1]) < abs(dataset.x.values[1] - dataset.x.values[0])
