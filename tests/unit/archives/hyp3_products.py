"""HyP3 products as folders of GeoTIFFs, written by rasterio in the form that each kind of job gives."""

import zipfile

import numpy as np
import rasterio
from rasterio.transform import from_origin

WEST, NORTH, PIXEL = 392_680.0, 3_962_360.0, 80.0
HEIGHT, WIDTH = 90, 110
GAMMA_LAYERS = ("unw_phase", "corr", "amp", "lv_phi", "lv_theta", "dem", "water_mask")
PARAMETERS = """Reference Granule: {reference}
Secondary Granule: {secondary}
Reference Pass Direction: {direction}
Reference Orbit Number: {orbit}
Secondary Pass Direction: {direction}
Secondary Orbit Number: 30822
Baseline: {baseline}
UTC time: 5025.3
Heading: -13.2
Spacecraft height: 693000.0
Earth radius at nadir: 6371000.0
Slant range near: 799000.0
Slant range center: 879000.0
Slant range far: 959000.0
Range looks: 20
Azimuth looks: 4
INSAR phase filter: yes
Phase filter parameter: 0.6
DEM source: GLO_30
DEM resolution (m): 30
Unwrapping type: mcf
Speckle filter: no
Water mask: {masked}
"""


def gamma_name(reference, secondary, tail="1A2B", polarization="VV", spacing=80):
    """The name of an INSAR_GAMMA product; dates are such as 20200101."""
    days = (np.datetime64(f"{secondary[:4]}-{secondary[4:6]}-{secondary[6:]}")
            - np.datetime64(f"{reference[:4]}-{reference[4:6]}-{reference[6:]}")).astype(int)  # fmt: skip
    return f"S1AA_{reference}T012345_{secondary}T012346_{polarization}P{days:03}_INT{spacing}_G_ueF_{tail}"


def write_tiff(path, values, *, west=WEST, north=NORTH, crs="EPSG:32611", nodata=0, pixel=PIXEL, **options):
    """Write a GeoTIFF of `values`, of shape (rows, columns) or (bands, rows, columns)."""
    values = np.atleast_3d(values.T).T
    profile = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", **options}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=values.shape[1],
        width=values.shape[2], crs=crs, transform=from_origin(west, north, pixel, pixel), nodata=nodata,
        **profile,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def layer_values(layer, seed, height=HEIGHT, width=WIDTH):
    """The pixels of one layer of one product: some are nodata."""
    random = np.random.default_rng([seed, *layer.encode()])
    if layer in {"water_mask", "conncomp", "ls_map"}:
        return random.integers(0, 4, (height, width)).astype("u1")
    values = random.normal(3, 1, (height, width)).astype("f4")
    values[:7, :11] = 0
    return values


def write_product(folder, name, seed, *, layers=GAMMA_LAYERS, shift=(0, 0), size=(HEIGHT, WIDTH), options=None,
                  parameters=True, baseline=-23.4, direction="ASCENDING", orbit=30647, masked="no",
                  granules=None, **grid):  # fmt: skip
    """Write one product below `folder`; returns its folder and its pixels by layer.

    `shift` are the rows and columns that its grid begins from the others.
    """
    product = folder / name
    product.mkdir(parents=True)
    pixels = {layer: layer_values(layer, seed, *size) for layer in layers}
    pixel = grid.get("pixel", PIXEL)
    place = {"west": WEST + shift[1] * pixel, "north": NORTH - shift[0] * pixel, **grid}
    for layer, values in pixels.items():
        write_tiff(product / f"{name}_{layer}.tif", values, **place, **(options or {}).get(layer, {}))
    if parameters:
        parts = name.split("_")
        reference, secondary = granules or (
            f"S1A_IW_SLC__1SDV_{parts[1]}_{parts[1]}_{orbit:06}_037D0E_6B3A",
            f"S1A_IW_SLC__1SDV_{parts[2]}_{parts[2]}_030822_038000_6B3B",
        )
        said = PARAMETERS.format(reference=reference, secondary=secondary, baseline=baseline,
                                 direction=direction, orbit=orbit, masked=masked)  # fmt: skip
        (product / f"{name}.txt").write_text(said)
    (product / f"{name}.README.md.txt").write_text("About: this product\n")
    (product / f"{name}_browse.png").write_bytes(b"no picture")
    return product, pixels


def zipped(product, path, compression=zipfile.ZIP_DEFLATED):
    """Pack a product's folder as HyP3 does: its files below the folder's name."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(product.iterdir()):
            archive.write(file, f"{product.name}/{file.name}")
    return path


def shifted(values, rows, columns, shape, fill=0):
    """`values` on a grid of `shape` that begins `rows` and `columns` before them."""
    grid = np.full(shape, fill, values.dtype)
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if 0 <= row + rows < shape[0] and 0 <= column + columns < shape[1]:
                grid[row + rows, column + columns] = values[row, column]
    return grid
