"""The masks of real OPERA DISP-S1 layers, applied over HTTP, against rasterio and numpy."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from pyproj import CRS

from cubegate.app import create_app
from cubegate.settings import load_settings

LAYERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "opera" / "disp_s1_layers"
PAIRS = ["20160708_20160801", "20160708_20160825", "20160708_20160918", "20160708_20161012"]
# what rasterio reads is the truth; the conditions are said again by numpy
MASKS = {
    # the only cells that the real recommended_mask leaves out are missing already
    "recommended_mask,connected_component_labels": lambda layers: (
        (layers["recommended_mask"] == 1) & (layers["connected_component_labels"] == 1)
    ),
    "average_temporal_coherence>=0.6": lambda layers: layers["average_temporal_coherence"] >= np.float32(0.6),
    "recommended_mask,connected_component_labels=1,average_connected_component_labels": lambda layers: (
        (layers["recommended_mask"] == 1)
        & (layers["connected_component_labels"] == 1)
        & (layers["average_connected_component_labels"] == 1)
    ),
}

pytestmark = pytest.mark.skipif(
    not LAYERS.is_dir(), reason="the real OPERA layers are not beside the project"
)


def _read(name):
    with rasterio.open(LAYERS / f"{name}.tif") as image:
        return image.read(1), image.transform, image.crs


@pytest.fixture(scope="module")
def layers():
    """The layers by name: one an epoch for those that have epochs."""
    found = {
        name: _read(name)[0] for name in ("average_temporal_coherence", "average_connected_component_labels")
    }
    for name in ("displacement", "recommended_mask", "connected_component_labels"):
        found[name] = np.stack([_read(f"{name}_{pair}")[0] for pair in PAIRS])
    return found


@pytest.fixture(scope="module")
def client(layers, tmp_path_factory, running):
    root = tmp_path_factory.mktemp("layers")
    _, transform, crs = _read("average_temporal_coherence")
    rows, columns = layers["average_temporal_coherence"].shape
    metres = {"units": "m"}
    cube = xr.Dataset(
        {
            name: (("time", "y", "x")[3 - values.ndim :], values, {"grid_mapping": "spatial_ref"})
            for name, values in layers.items()
        },
        {
            "time": np.array([f"{pair[9:13]}-{pair[13:15]}-{pair[15:]}" for pair in PAIRS], "M8[ns]"),
            "y": (
                "y",
                transform.f + transform.e * (np.arange(rows) + 0.5),
                {"standard_name": "projection_y_coordinate", **metres},
            ),
            "x": (
                "x",
                transform.c + transform.a * (np.arange(columns) + 0.5),
                {"standard_name": "projection_x_coordinate", **metres},
            ),
        },
    )
    cube["spatial_ref"] = ((), np.int32(0), CRS.from_wkt(crs.to_wkt()).to_cf())
    chunks = {name: {"chunks": (1, 128, 128)[3 - values.ndim :]} for name, values in layers.items()}
    cube.to_zarr(root / "layers.zarr", zarr_format=2, encoding=chunks)
    href = (root / "layers.zarr").as_uri()
    (root / "layers.yaml").write_text(f'id: layers\nsource: {{kind: zarr, href: "{href}"}}\n')
    (root / "cubegate.yaml").write_text(
        f'upstreams: {{"{root.as_uri()}/": {{}}}}\ncollections: [layers.yaml]\n'
    )
    with running(create_app(load_settings(root / "cubegate.yaml", {}), {})) as client:
        yield client


@pytest.mark.parametrize("mask", MASKS)
def test_real_masks(client, layers, tmp_path, compared, mask):
    good = np.broadcast_to(MASKS[mask](layers), layers["displacement"].shape)
    expected = np.where(good, layers["displacement"], np.float32("nan"))
    assert 0.2 < np.isfinite(expected).mean() < np.isfinite(layers["displacement"]).mean()
    asked = {"variables": "displacement", "mask": mask}

    response = client.get("layers/subset", params={**asked, "f": "geotiff"})
    assert response.status_code == 200, response.text
    (tmp_path / "area.tif").write_bytes(response.content)
    with rasterio.open(tmp_path / "area.tif") as image:
        np.testing.assert_array_equal(image.read(), expected)
        assert image.transform == _read("average_temporal_coherence")[1]
    compared(expected)

    response = client.get("layers/subset", params={**asked, "crs": "EPSG:4326", "resampling": "bilinear"})
    assert response.status_code == 200, response.text
    (tmp_path / "area.nc").write_bytes(response.content)
    with xr.open_dataset(tmp_path / "area.nc", engine="h5netcdf") as found:
        for epoch in range(len(PAIRS)):
            inside = found.displacement[epoch].to_numpy()
            inside = inside[np.isfinite(inside)]
            assert inside.size > 1000
            assert inside.min() >= np.nanmin(expected[epoch])
            assert inside.max() <= np.nanmax(expected[epoch])


def test_a_real_series(client, layers):
    row, column = np.argwhere((layers["connected_component_labels"] == 0).sum(axis=0) == 2)[7]
    _, transform, _ = _read("average_temporal_coherence")
    x, y = transform * (column + 0.5, row + 0.5)
    answer = client.get(
        "layers/timeseries",
        params={
            "x": x,
            "y": y,
            "variables": "displacement",
            "mask": "connected_component_labels",
            "where": "time>2016-08-01",
        },
    ).json()
    good = layers["connected_component_labels"][1:, row, column] == 1
    values = layers["displacement"][1:, row, column]
    expected = [
        float(str(value)) if ok and np.isfinite(value) else None
        for value, ok in zip(values, good, strict=True)
    ]
    assert answer["variables"]["displacement"]["values"] == expected
    assert None in expected
    assert answer["mask"] == "connected_component_labels"
