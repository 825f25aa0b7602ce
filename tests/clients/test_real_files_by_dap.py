"""Files that nobody here made, by DAP2: every variable as netCDF-C reads it equals what is in the file."""

import netCDF4
import numpy as np
import pytest
import yaml
from tests.clients.test_real_files import DATA, GRANULES, open_directly, write_references

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real files is not beside the project"),
    # kerchunk, zarr-python and xarray speak of their own matters
    pytest.mark.filterwarnings("ignore"),
]
FILES = [file for file, group in GRANULES if not group]


@pytest.fixture(scope="module")
def address(tmp_path_factory, scan_granule, serve_configuration):
    directory = tmp_path_factory.mktemp("dap")
    for number, name in enumerate(FILES):
        write_references(DATA / name, "", directory / f"{number}.json", scan_granule)
        source = {"kind": "kerchunk", "href": f"{number}.json"}
        (directory / f"{number}.yaml").write_text(yaml.safe_dump({"id": f"file{number}", "source": source}))
    upstreams = {f"{DATA.as_uri()}/": {}, f"{directory.as_uri()}/": {}}
    (directory / "cubegate.yaml").write_text(
        yaml.safe_dump(
            {"upstreams": upstreams, "collections": [f"{number}.yaml" for number in range(len(FILES))]}
        )
    )
    return serve_configuration(directory / "cubegate.yaml", {})


@pytest.mark.parametrize("number", range(len(FILES)), ids=FILES)
def test_netcdf_reads_what_is_in_the_file(address, number):
    compared = 0
    with (
        open_directly(DATA / FILES[number], "", mask_and_scale=False, decode_times=False) as expected,
        netCDF4.Dataset(f"{address}/datasets/file{number}/opendap") as opened,
    ):
        opened.set_auto_maskandscale(False)
        opened.set_auto_chartostring(False)
        for name, variable in expected.variables.items():
            if variable.dtype.kind not in "biuf":
                continue
            if name not in opened.variables:
                # what kerchunk leaves out
                assert variable.size <= 1, name
                continue
            read = np.asarray(opened[name][...]).reshape(variable.shape)
            values = variable.values
            read = read.view(np.uint8) if read.dtype == np.int8 and values.dtype == np.uint8 else read
            assert np.array_equal(read, values, equal_nan=values.dtype.kind == "f"), name
            compared += values.size
    assert compared > 0
