"""The sources of an Intake catalog become served cubes whose values are those of the files."""

import json

import numpy as np
import pytest
import xarray as xr

from cubegate.app import create_app
from cubegate.archives.intake_catalog import read_catalog
from cubegate.cli import main
from cubegate.errors import InvalidReference
from cubegate.settings import load_settings

CATALOG = """
metadata: {version: 1}
plugins: {source: [{module: intake_xarray}]}
sources:
  granules:
    description: Displacement, granule by granule
    driver: netcdf
    args:
      urlpath: "{{ CATALOG_DIR }}/stack/granule*.nc"
      concat_dim: time
      xarray_kwargs: {combine: nested}
  combined:
    driver: intake_xarray.xzarr.ZarrSource
    args:
      urlpath: "reference://"
      storage_options: {fo: "{{CATALOG_DIR}}/stack/stack.json", remote_protocol: file}
      consolidated: false
  store:
    driver: zarr
    args: {urlpath: "{{ CATALOG_DIR }}/store.zarr", consolidated: true}
  table: {driver: csv, args: {urlpath: a.csv}}
  yearly: {driver: netcdf, args: {urlpath: "sst_{{ year }}.nc"}}
"""


@pytest.fixture
def stack(make_stack, tmp_path):
    stack = make_stack(tmp_path / "stack")
    axes = {"time": np.arange(3), "y": 4e6 - 30.0 * np.arange(12), "x": 5e5 + 30.0 * np.arange(10)}
    values = np.random.default_rng(3).normal(size=(3, 12, 10)).astype("f4")
    dataset = xr.Dataset({"v": (("time", "y", "x"), values)}, axes)
    dataset["time"].attrs["units"] = "days since 2020-01-01"
    for name in "xy":
        dataset[name].attrs["standard_name"] = f"projection_{name}_coordinate"
    dataset.to_zarr(tmp_path / "store.zarr", zarr_format=2, consolidated=True)
    stack.v = values
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    (tmp_path / "cubes").mkdir()
    (tmp_path / "cubegate.yaml").write_text(
        f"upstreams: {{'{tmp_path.as_uri()}/': {{}}}}\ncollections: [cubes/*.yaml]\n"
    )
    return stack


@pytest.fixture
def build(tmp_path):
    def build(*options):
        where = ("-o", str(tmp_path / "cubes"), "--config", str(tmp_path / "cubegate.yaml"))
        return main(["build", "intake", str(tmp_path / "catalog.yaml"), *options, *where])

    return build


def test_each_source_is_served(stack, build, tmp_path, serving, *, compared, capsys):
    assert build("--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["built"]) == {"granules", "combined", "store"}
    assert set(report["left_out"]) == {"table", "yearly"}
    with serving(create_app(load_settings(tmp_path / "cubegate.yaml", {}), {})) as url:
        for name, variable, truth in (
            ("granules", "displacement", stack.displacement),
            ("combined", "displacement", stack.displacement),
            ("store", "v", stack.v),
        ):
            with xr.open_zarr(f"{url}/datasets/{name}/zarr", zarr_format=2) as opened:
                np.testing.assert_array_equal(opened[variable].values, truth)
                compared(truth)


def test_one_source_fails_and_others_are_served(stack, build, tmp_path, capsys):
    stack.granules[0].with_name("granule9.nc").write_bytes(b"no HDF5")
    assert build() == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "failed: granules:" in said
    assert {path.stem for path in (tmp_path / "cubes").glob("*.yaml")} == {"combined", "store"}


@pytest.mark.usefixtures("stack")
def test_a_source_may_be_named(build, tmp_path, capsys):
    assert build("--source", "store") == 0
    assert {path.stem for path in (tmp_path / "cubes").glob("*.yaml")} == {"store"}
    assert build("--source", "nothing") == 1
    assert "Accepted: combined, granules, store, table, yearly" in " ".join(capsys.readouterr().err.split())
    assert build("--source", "table") == 1
    assert "has the driver 'csv'" in capsys.readouterr().out


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("address", ["/etc/*.nc", "file:///etc/*.nc", "../*.nc", "http://127.0.0.1:1/x.nc"])
def test_what_is_not_listed_is_not_looked_for(build, tmp_path, capsys, address, monkeypatch):
    def searched(*_, **__):
        raise AssertionError

    (tmp_path / "catalog.yaml").write_text(
        f"sources: {{a: {{driver: netcdf, args: {{urlpath: '{address}'}}}}}}"
    )
    monkeypatch.setattr("glob.glob", searched)
    assert build() == 1
    assert "failed: a:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "sources: 3",
        "{",
        "a: *b",
        "sources: [1]",
        "data: {}",
        "!!python/object/apply:os.system [id]",
        "\0",
    ],
)
def test_what_is_no_catalog_is_refused(text):
    with pytest.raises(InvalidReference, match="is no Intake catalog"):
        read_catalog(text.encode(), "catalog.yaml")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (3, "has no driver with args"),
        ({"driver": "zarr"}, "has no driver with args"),
        ({"driver": ["zarr"], "args": {}}, "has the driver"),
        ({"driver": "zarr", "args": {}}, "names no address"),
        ({"driver": "zarr", "args": {"urlpath": ["a", "b"]}}, "names 2 addresses"),
        ({"driver": "zarr", "args": {"urlpath": "{{ env(HOME) }}/a"}}, "a template"),
        ({"driver": "zarr", "args": {"urlpath": "reference://"}}, "names no address"),
    ],
)
def test_what_is_no_source_is_left_out(entry, said):
    _, left_out = read_catalog(json.dumps({"sources": {"a": entry}}).encode(), "catalog.yaml")
    assert said in left_out["a"]
