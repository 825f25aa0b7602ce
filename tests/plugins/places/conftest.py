"""A server over cubes of poles, of the antimeridian and of the whole Earth."""

import io
from types import SimpleNamespace

import httpx
import pytest
import xarray as xr
from tests.clients.places import make_places
from tests.plugins.places.sources import GLOBES, make_globe, read_place, write_globe

from cubegate.app import create_app
from cubegate.settings import load_settings


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The `places` by id, all `sources` by id, and the `configuration`."""
    directory = tmp_path_factory.mktemp("places")
    places, configuration = make_places(directory)
    sources = {name: read_place(place) for name, place in places.items()}
    for name in GLOBES:
        sources[name] = make_globe(name)
        write_globe(directory, name, sources[name])
    return SimpleNamespace(places=places, sources=sources, configuration=configuration)


@pytest.fixture(scope="session")
def client(made, serving):
    with (
        serving(create_app(load_settings(made.configuration, {}), {})) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def get(client):
    """Ask for `path`; parameters that are None are left out."""

    def get(path, status=200, **parameters):
        named = {name.replace("_", "-"): value for name, value in parameters.items() if value is not None}
        response = client.get(path, params=named)
        assert response.status_code == status, response.text
        return response

    return get


@pytest.fixture(scope="session")
def netcdf(get):
    """An answer as xarray reads it."""
    return lambda path, **given: xr.load_dataset(
        io.BytesIO(get(path, f="netcdf", **given).content), engine="h5netcdf"
    )


@pytest.fixture(scope="session")
def ask(get, netcdf):
    return SimpleNamespace(get=get, netcdf=netcdf)
