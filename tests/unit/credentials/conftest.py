"""A clock that is set by hand, and Earthdata by that clock."""

import pytest
from tests.earthdata_double.double import running_double

from cubegate.credentials import asking, open_credentials
from cubegate.errors import UpstreamDenied
from cubegate.settings import CredentialSettings


class Clock:
    """Seconds since 1970, as the test says; at noon, far from any change of date."""

    def __init__(self):
        self.now = 1_744_113_600.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def double(clock):
    with running_double({"granule.nc": b"data"}, clock=clock) as double:
        yield double


@pytest.fixture
def no_retries(monkeypatch):
    """Failing hosts are asked three times; nobody waits in between."""
    monkeypatch.setattr(asking, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def open_one(double, clock):
    """Open one set of credentials at the double; a token in TOKEN, the account in NAME and PASSWORD."""

    def open_one(kind="earthdata-s3", *, environment=None, **settings):
        secrets = {"TOKEN": double.token, "NAME": double.user, "PASSWORD": double.password}
        if kind == "earthdata-s3":
            settings.setdefault("endpoint", double.s3credentials_url)
        settings.setdefault("login", double.login_url)
        section = CredentialSettings(kind=kind, **settings)
        return open_credentials({"asf": section}, secrets | (environment or {}), clock=clock)["asf"]

    return open_one


@pytest.fixture
def refused():
    """Ask a provider that must refuse, and return its error, which names no secret."""

    async def refused(provider, url="s3://granules/x"):
        with pytest.raises(UpstreamDenied) as caught:
            await provider.for_url(url)
        assert "-value" not in str(caught.value)
        return caught.value

    return refused
