"""200 reads at once across 50 expiries, through the sources that sign them: one refresh each, and no error."""

import asyncio

import pytest

from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import open_upstreams
from cubegate.credentials import open_credentials
from cubegate.settings import CredentialSettings, UpstreamSettings

READS, EXPIRIES = 200, 50
DATA = bytes(range(READS))
ACCOUNT = {"username_env": "NAME", "password_env": "PASSWORD"}


@pytest.fixture
async def read_all(double, clock):
    """Read all bytes of an object below `prefix` one by one, all at once, with the credentials of `settings`."""
    opened = []

    async def read_all(prefix, options, **settings):
        if not opened:
            section = CredentialSettings(login=double.login_url, **settings)
            secrets = {"NAME": double.user, "PASSWORD": double.password}
            credentials = open_credentials({"asf": section}, secrets, clock=clock)
            upstreams = {
                prefix: UpstreamSettings(credentials="asf", **options),
                double.objects_url: UpstreamSettings(),
            }
            opened.append(open_upstreams(upstreams, credentials))
        references = [ChunkReference(f"{prefix}values.bin", position, 1) for position in range(READS)]
        found = await asyncio.gather(*[opened[0].get(reference) for reference in references])
        assert b"".join(found) == DATA

    double.objects["values.bin"] = DATA
    yield read_all
    await opened[0].aclose()


async def test_keys(double, clock, read_all):
    for expiry in range(EXPIRIES + 1):
        await read_all(
            f"s3://{double.bucket}/",
            {"endpoint_url": double.s3_url, "region": "us-west-2"},
            kind="earthdata-s3",
            endpoint=double.s3credentials_url,
            **ACCOUNT,
        )
        assert double.count("s3credentials") == expiry + 1
        # every other time they end early
        clock.advance(31 if expiry % 2 else double.keys_lifetime)
        double.expire_keys()


async def test_tokens(double, clock, read_all):
    prefix = double.granules_url
    for expiry in range(EXPIRIES + 1):
        await read_all(prefix, {}, kind="earthdata", **ACCOUNT)
        assert double.count("login") == expiry + 1
        clock.advance(31)
        double.expire_tokens()
        double.expire_signatures()
    assert double.authorized("objects") == []
