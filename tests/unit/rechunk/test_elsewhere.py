"""A rechunk and overviews that are written to S3, and a rechunk whose work a Dask cluster does."""

import json
import os
from uuid import uuid4

import boto3
import httpx
import numpy as np
import obstore
import pytest
import xarray as xr
import zarr
from distributed import LocalCluster
from moto.server import ThreadedMotoServer
from obstore.store import S3Store
from zarr.storage import ObjectStore

from cubegate.app import create_app
from cubegate.cli import main
from cubegate.settings import load_settings


@pytest.fixture
def bucket(cubes, monkeypatch):
    """A private bucket that the configuration lists with its credentials; gives a way to read it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    options = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    client = boto3.client("s3", **options, aws_access_key_id="setup", aws_secret_access_key="setup")
    client.create_bucket(Bucket="ours")
    client.close()
    iam = boto3.client("iam", **options, aws_access_key_id="setup", aws_secret_access_key="setup")
    # moto keeps its accounts for as long as the process runs
    user = f"writer-{uuid4()}"
    statement = {
        "Effect": "Allow",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::ours", "arn:aws:s3:::ours/*"],
    }
    iam.create_user(UserName=user)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=policy)
    keys = iam.create_access_key(UserName=user)["AccessKey"]
    iam.close()
    monkeypatch.setenv("OUR_KEY", keys["AccessKeyId"])
    monkeypatch.setenv("OUR_SECRET", keys["SecretAccessKey"])
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    root = cubes.config.parent.as_uri()
    cubes.config.write_text(
        "credentials: {ours: {kind: s3, access_key_id_env: OUR_KEY, secret_access_key_env: OUR_SECRET}}\n"
        f"upstreams: {{'{root}/': {{}}, 's3://ours/': {{credentials: ours, endpoint_url: '{endpoint}'}}}}\n"
    )

    def opened(prefix):
        return ObjectStore(
            S3Store(
                "ours", prefix=prefix, endpoint=endpoint, region="us-east-1", virtual_hosted_style_request=False,
                access_key_id=keys["AccessKeyId"], secret_access_key=keys["SecretAccessKey"],
                client_options={"allow_http": True},
            ),
            read_only=True,
        )  # fmt: skip

    yield opened
    server.stop()


@pytest.mark.parametrize("form", ["zarr", "zarr2"])
def test_a_bucket_is_written_with_its_own_credentials(rechunk, cubes, bucket, compared, form):
    code, _ = rechunk("stack", "--format", form, output=f"s3://ours/cubes/{form}.zarr")
    assert code == 0
    written = zarr.open_group(bucket(f"cubes/{form}.zarr"), mode="r")
    values = np.asarray(written["displacement"][:])
    np.testing.assert_array_equal(values, cubes.stack.displacement)
    compared(values)


def test_a_store_in_a_bucket_is_left_alone(rechunk, bucket, capsys):
    assert rechunk("stack", output="s3://ours/there.zarr")[0] == 0
    assert rechunk("stack", "--format", "zarr2", output="s3://ours/there.zarr")[0] == 1
    assert "there is a store already" in capsys.readouterr().err
    assert zarr.open_group(bucket("there.zarr"), mode="r")["displacement"].metadata.zarr_format == 3


def test_a_file_is_put_into_a_bucket(rechunk, cubes, bucket, tmp_path, capsys):
    assert rechunk("stack", "--format", "netcdf", output="s3://ours/files/stack.nc")[0] == 0
    (tmp_path / "got.nc").write_bytes(bytes(obstore.get(bucket("files").store, "stack.nc").bytes()))
    with xr.open_dataset(tmp_path / "got.nc", engine="h5netcdf") as got:
        np.testing.assert_array_equal(got.displacement.values, cubes.stack.displacement)
    assert rechunk("stack", "--format", "netcdf", output="s3://ours/files/stack.nc")[0] == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["zarr", "netcdf"])
def test_a_bucket_that_refuses_is_said_without_its_words(rechunk, bucket, capsys, monkeypatch, form):
    assert bucket
    monkeypatch.setenv("OUR_SECRET", "another")
    assert rechunk("stack", "--format", form, output="s3://ours/refused")[0] == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("cubegate: ")
    assert "Signature" not in said
    assert "<" not in said


def test_a_bucket_that_is_not_listed_is_refused(rechunk, bucket, capsys):
    assert rechunk("stack", output="s3://theirs/stack.zarr")[0] == 1
    assert "s3://theirs/" in capsys.readouterr().err


def test_a_store_in_a_bucket_is_complete_or_cannot_be_opened(rechunk, cubes, bucket):
    cubes.stack.granules[2].unlink()
    assert rechunk("stack", output="s3://ours/stack.zarr")[0] == 1
    with pytest.raises(FileNotFoundError):
        zarr.open_group(bucket("stack.zarr"), mode="r")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dataset", ["stack", "pencils"])
def test_the_workers_of_a_cluster_do_the_work(rechunk, cubes, compared, dataset):
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        options = ("--scheduler", cluster.scheduler_address, "--for", "maps")
        code, output = rechunk(dataset, *options)
        assert code == 0
        again, _ = rechunk(dataset, *options, output=f"{output}-again")
        assert again == 0
    name = {"stack": "displacement", "pencils": "v"}[dataset]
    truth = {"stack": cubes.stack.displacement, "pencils": cubes.pencils["v"]}[dataset]
    values = np.asarray(zarr.open_group(output, mode="r")[name][:])
    np.testing.assert_array_equal(values, truth)
    compared(values)


def test_overviews_in_a_bucket_are_written_and_drawn(cubes, bucket, serving, capsys, compared):
    file = cubes.config.parent / "collections/stack.yaml"
    file.write_text(file.read_text() + "overviews: {href: 's3://ours/beside/stack'}\n")
    arguments = ["overviews", "stack", "--variables", "displacement", "--config", str(cubes.config), "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["store"] == f"s3://ours/beside/stack/{report['version']}.zarr"
    written = zarr.open_group(bucket(f"beside/stack/{report['version']}.zarr"), mode="r")
    root = written.attrs["cubegate_overviews"]["root"]
    values = np.asarray(written[f"{root}/overview_2/displacement"][:])
    wanted = cubes.stack.displacement.astype("f8").reshape(3, 10, 2, 12, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(values, wanted, rtol=1e-6)
    compared(values)
    asked = {
        "service": "WMS", "version": "1.3.0", "request": "GetFeatureInfo", "layers": "displacement", "styles": "",
        "query_layers": "displacement", "crs": "EPSG:32611", "bbox": "499985,3999415,500705,4000015", "width": 12,
        "height": 10, "i": 7, "j": 4, "info_format": "application/json", "time": "2020-01-13",
    }  # fmt: skip
    with serving(create_app(load_settings(cubes.config, os.environ))) as url:
        (feature,) = httpx.get(f"{url}/datasets/stack/wms", params=asked, timeout=60).json()["features"]
    assert feature["properties"]["value"] == pytest.approx(wanted[1, 4, 7], rel=1e-6)
