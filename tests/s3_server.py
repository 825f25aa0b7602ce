"""S3 as moto serves it: a server in a thread, and users who may do everything to one bucket each."""

import contextlib
import json
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer


@contextlib.contextmanager
def running_s3():
    """Run a server while the context lasts, which lets everybody in; gives its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextlib.contextmanager
def checked_access():
    """Have the servers of this process check signatures and policies while the context lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
        yield


def connect(service, url):
    """Return boto3's client of a service of the server at `url`, as somebody whom it does not know."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="setup",
        aws_secret_access_key="setup",
    )


def own_bucket(bucket):
    """Return the policy that allows everything in one bucket, and nothing in others."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": resources}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def new_keys(iam, bucket):
    """Return the key id and the secret of a new user, who may do everything to one bucket alone."""
    # moto keeps its accounts for as long as the process runs
    user = f"{bucket}-{uuid4()}"
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=own_bucket(bucket))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]
