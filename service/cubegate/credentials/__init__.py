"""Credential providers: the seam and one file per kind."""

from cubegate.credentials.opening import open_credentials
from cubegate.credentials.provider import BearerToken, CredentialProvider, S3Keys

__all__ = ["BearerToken", "CredentialProvider", "S3Keys", "open_credentials"]
