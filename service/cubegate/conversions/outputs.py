"""Where a command writes a store: a directory, or a bucket that the configuration lists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import S3Store
from zarr.abc.store import Store
from zarr.storage import LocalStore, ObjectStore

from cubegate.chunks.address import AllowList
from cubegate.chunks.object_store import DEFAULT_REGION, aws_endpoint
from cubegate.chunks.upstream import parse_prefix
from cubegate.credentials import CredentialProvider, S3Keys, open_credentials
from cubegate.errors import ConfigurationError
from cubegate.rechunk.zarr_target import in_own_words
from cubegate.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Credential


def open_output(output: str, settings: Settings, environment: Mapping[str, str]) -> Store:
    """Open the Zarr store at `output`, a path or an s3 URL, for writing; nothing is written yet.

    Raises:
        UpstreamRefused, ConfigurationError: see `open_bucket`.
    """
    if not output.startswith("s3://"):
        return LocalStore(Path(output))
    return ObjectStore(open_bucket(output, settings, environment))


def open_bucket(url: str, settings: Settings, environment: Mapping[str, str]) -> S3Store:
    """Open what is below an s3 URL for writing; contacts nobody.

    Raises:
        UpstreamRefused: no upstream covers the URL.
        ConfigurationError: its upstream names no credentials.
    """
    prefixes = {parse_prefix(text): text for text in settings.upstreams}
    prefix, address = AllowList(prefixes).resolve(url)
    upstream = settings.upstreams[prefixes[prefix]]
    if upstream.credentials is None:
        raise ConfigurationError(
            "names no credentials, and nobody writes without", key=f"upstreams.{prefix}", mend="Name some."
        )
    provider = open_credentials(settings.credentials, environment)[upstream.credentials]
    region = upstream.region or DEFAULT_REGION
    endpoint = upstream.endpoint_url or aws_endpoint(region)
    return S3Store(
        address.authority,
        prefix=address.path.strip("/"),
        region=region,
        endpoint=endpoint,
        virtual_hosted_style_request=False,
        credential_provider=_keys_of(provider, str(prefix)),
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=120)},
    )


def put_file(file: Path, url: str, settings: Settings, environment: Mapping[str, str]) -> None:
    """Copy a file to an s3 URL, where nothing may be yet.

    Raises:
        UpstreamRefused, ConfigurationError: see `open_bucket`; there is something at the URL.
        UpstreamError: the bucket refuses, or fails.
    """
    folder, _, name = url.rpartition("/")
    store = open_bucket(f"{folder}/", settings, environment)
    with in_own_words():
        # keys are given in an event loop
        asyncio.run(_put(store, name, file))


async def _put(store: S3Store, name: str, file: Path) -> None:
    await obstore.put_async(store, name, file, mode="create")


def _keys_of(provider: CredentialProvider, prefix: str) -> Callable[[], Coroutine[Any, Any, S3Credential]]:
    async def provide() -> S3Credential:
        keys = await provider.for_url(prefix)
        if not isinstance(keys, S3Keys):
            raise ConfigurationError("is written to with keys, not with a token", key=f"upstreams.{prefix}")
        return {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "token": keys.session_token,
            "expires_at": keys.expires,
        }

    return provide
