"""Every kind of source at every transport gives the values of the granules read directly."""

import json
import urllib.error
import urllib.request

import netCDF4
import numpy as np
import pytest
import xarray as xr
import yaml

from cubegate.cli import main

TRANSPORTS = ["file", "http", "s3-anonymous", "s3-keys"]
REFERENCES = [
    "kerchunk-v0.json",
    "kerchunk-v1.json",
    "kerchunk-v0.json.zst",
    "kerchunk-v1.json.gz",
    "kerchunk.parq",
]
NATIVE = ["zarr-v2.zarr", "zarr-v3.zarr", "zarr-v3-sharded.zarr"]
KINDS = [*REFERENCES, "cube.index", *NATIVE, "icechunk-native", "icechunk-virtual"]
# Icechunk's library reads nothing over plain HTTP without following redirects to anywhere
UNREACHABLE = {("icechunk-native", "http"), ("icechunk-virtual", "http")}
MOUNTED = [
    f"{kind}.{transport}"
    for kind in KINDS
    for transport in TRANSPORTS
    if (kind, transport) not in UNREACHABLE
]
ELSEWHERE = [
    f"{place}.{kind}.{transport}"
    for place, transport in [("second-bucket", "file"), ("second-bucket", "s3-keys"), ("scattered", "http")]
    for kind in ("kerchunk-v1.json", "kerchunk.parq", "icechunk")
    if (place, kind) != ("scattered", "icechunk")
]
GRIDDED = ("displacement", "count", "coherence")
ROW, COLUMN = 17, 16
BOX = (slice(2, 18), slice(3, 22))

pytestmark = pytest.mark.filterwarnings(
    "ignore:Numcodecs codecs are not in the Zarr version 3 specification:UserWarning"
)


def transported(prefixes):
    """Every kind of source at every transport, as `source` sections by collection id."""
    sources = {}
    for transport, prefix in prefixes.items():
        references = f"{prefix}/references/{transport}"
        for name in REFERENCES:
            sources[f"{name}.{transport}"] = {"kind": "kerchunk", "href": f"{references}/{name}"}
        sources[f"cube.index.{transport}"] = {"kind": "index", "href": f"{references}/cube.index"}
        for name in NATIVE:
            sources[f"{name}.{transport}"] = {"kind": "zarr", "href": f"{prefix}/{name}"}
        for name, folder in (("native", "native"), ("virtual", f"virtual-{transport}")):
            source = {"kind": "icechunk", "href": f"{prefix}/icechunk-{folder}"}
            sources[f"icechunk-{name}.{transport}"] = source
    return sources


def elsewhere(prefixes):
    """Sources whose granules lie behind other addresses and credentials than the references."""
    sources = {}
    for place, transport in [
        ("second-bucket", "file"),
        ("second-bucket", "s3-keys"),
        ("scattered", "http"),
        ("closed", "file"),
    ]:
        for name in ("kerchunk-v1.json", "kerchunk.parq"):
            href = f"{prefixes[transport]}/references/{place}/{name}"
            sources[f"{place}.{name}.{transport}"] = {"kind": "kerchunk", "href": href}
        if place != "scattered":
            href = f"{prefixes[transport]}/icechunk-virtual-{place}"
            sources[f"{place}.icechunk.{transport}"] = {"kind": "icechunk", "href": href}
    return sources


def upstreams(prefixes, object_stores):
    """The `upstreams` and `credentials` sections, and the environment that these name."""
    granted = dict(zip(object_stores.locked, ("first", "second", "first"), strict=True))
    sections = {
        f"{prefixes['file']}/": {},
        f"{prefixes['http']}/": {},
        f"s3://{object_stores.open}/": {"anonymous": True, "endpoint_url": object_stores.open_url},
        **{
            f"s3://{bucket}/": {"credentials": name, "endpoint_url": object_stores.locked_url}
            for bucket, name in granted.items()
        },
    }
    credentials, environment = {}, {}
    for name, bucket in zip(("first", "second"), object_stores.locked, strict=False):
        variables = f"{name.upper()}_ID", f"{name.upper()}_KEY"
        credentials[name] = {
            "kind": "s3",
            "access_key_id_env": variables[0],
            "secret_access_key_env": variables[1],
        }
        environment |= zip(variables, object_stores.keys[bucket], strict=True)
    return {"upstreams": sections, "credentials": credentials}, environment


def write_configuration(directory, sections, sources):
    (directory / "collections").mkdir(parents=True)
    for name, source in sources.items():
        text = yaml.safe_dump({"id": name, "source": source})
        (directory / "collections" / f"{name}.yaml").write_text(text)
    (directory / "cubegate.yaml").write_text(yaml.safe_dump(sections))
    return directory / "cubegate.yaml"


@pytest.fixture(scope="session")
def server(site, stack, prefixes, object_stores, serve_configuration):
    """The address of `/datasets` of a server over all sources."""
    object_stores.upload(site)
    sections, environment = upstreams(prefixes, object_stores)
    config = write_configuration(
        site.parent / "site-config", sections, transported(prefixes) | elsewhere(prefixes)
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for transport, prefix in prefixes.items():
            folder = f"references/{transport}"
            output = ["--output", str(site / folder / "cube.index"), "--config", str(config)]
            assert main(["index", f"{prefix}/{folder}/kerchunk-v1.json", *output]) == 0
    object_stores.upload(site, "*.index")
    object_stores.lock()
    return f"{serve_configuration(config, environment)}/datasets"


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - loopback
        return response.read()


def check_zarr(url, granules, compared, **options):
    with xr.open_zarr(url, chunks=None, **options) as cube:
        np.testing.assert_array_equal(cube.time, granules.time)
        for name in GRIDDED:
            expected = getattr(granules, name)
            np.testing.assert_array_equal(cube[name], expected)
            assert cube[name].dtype.kind == expected.dtype.kind
            compared(expected)
        for name in ("y", "x"):
            np.testing.assert_array_equal(cube[name], getattr(granules, name))


def check_series(url, granules, compared):
    x, y = granules.x[COLUMN] + 3, granules.y[ROW] - 4
    answer = json.loads(fetch(f"{url}/timeseries?x={x}&y={y}&f=json"))
    assert [np.datetime64(time.rstrip("Z")) for time in answer["time"]] == list(granules.time)
    for name in GRIDDED:
        expected = getattr(granules, name)[:, ROW, COLUMN]
        found = np.array(answer["variables"][name]["values"], dtype=float)
        np.testing.assert_array_equal(found.astype(expected.dtype), expected)
        compared(expected)


def check_subset(url, granules, compared):
    rows, columns = BOX
    y, x = granules.y[rows], granules.x[columns]
    bbox = f"{x[0] - 1},{y[-1] - 1},{x[-1] + 1},{y[0] + 1}"
    document = fetch(f"{url}/subset?bbox={bbox}&bbox-crs=native&f=netcdf")
    with netCDF4.Dataset("subset", memory=document) as subset:
        for name in GRIDDED:
            expected = getattr(granules, name)[:, *BOX]
            values = subset[name][:]
            found = (
                np.ma.filled(values.astype(float), np.nan)
                if np.ma.is_masked(values)
                else np.ma.getdata(values)
            )
            np.testing.assert_array_equal(found, expected)
            compared(expected)
        np.testing.assert_array_equal(subset["y"][:], y)
        np.testing.assert_array_equal(subset["x"][:], x)


@pytest.mark.parametrize("cube", [*MOUNTED, *ELSEWHERE])
def test_the_cube_gives_the_granules_values(server, granules, compared, cube):
    url = f"{server}/{cube}"
    check_zarr(f"{url}/zarr", granules, compared, zarr_format=3)
    # Zarr v2 has no shards
    check_zarr(f"{url}/{'zarr-plain' if 'sharded' in cube else 'zarr'}", granules, compared, zarr_format=2)
    check_series(url, granules, compared)
    check_subset(url, granules, compared)


@pytest.mark.parametrize("kind", ["native", "virtual"])
def test_an_icechunk_repository_over_plain_http_is_a_clear_error(server, caplog, kind):
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(f"{server}/icechunk-{kind}.http/zarr/zarr.json")
    with caught.value as answer:
        assert answer.status == 502
    assert "An Icechunk repository is read from a local directory (file://) or S3 (s3://)" in caplog.text


@pytest.mark.parametrize("kind", ["kerchunk-v1.json", "kerchunk.parq", "icechunk"])
def test_granules_behind_other_keys_are_an_error_and_never_fill(server, object_stores, caplog, kind):
    for path in ("timeseries?x=400100&y=3899900", "subset?f=netcdf", "zarr/displacement/c/0/0/0"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(f"{server}/closed.{kind}.file/{path}")
        with caught.value as answer:
            assert answer.status in (502, 503)
            shown = f"{answer.read().decode()} {answer.headers} {caplog.text}"
        assert not [part for pair in object_stores.keys.values() for part in pair if part in shown]
