"""Health: the process lives, knows its datasets, and which upstreams refuse."""

import httpx
import pytest
from tests.earthdata_double.double import running_double

from cubegate.app import create_app
from cubegate.settings import load_settings


def test_health_and_readiness(server):
    assert server.http.get("/healthz").json() == {"status": "ok"}
    assert server.http.get("/readyz").json() == {"status": "ok", "datasets": 2}


@pytest.fixture
def archive(stack):
    """An archive that has the granules of a stack for who brings a good token."""
    with running_double({granule.name: granule.read_bytes() for granule in stack.granules}) as double:
        yield double


@pytest.fixture
def stack(make_stack, tmp_path):
    return make_stack(tmp_path / "stack")


@pytest.fixture
def gateway(archive, stack, tmp_path, write_configuration, serving):
    """A server over that archive, whose token it has from the environment."""
    folder = stack.references.parent
    text = stack.references.read_text("utf-8").replace(f"{folder}/", archive.granules_url)
    stack.references.write_text(text, "utf-8")
    source = "source: {kind: kerchunk, href: ../stack/stack.json, fill: storage}"
    file = write_configuration(tmp_path, cube=source)
    file.write_text(
        f"credentials: {{earthdata: {{kind: earthdata, token_env: TOKEN}}}}\n"
        f"upstreams:\n"
        f"  '{tmp_path.as_uri()}/': {{}}\n"
        f"  '{archive.granules_url}': {{credentials: earthdata}}\n"
        f"  '{archive.objects_url}': {{}}\n",
        "utf-8",
    )
    app = create_app(load_settings(file, {}), {"TOKEN": archive.token})
    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield client


def chunk(gateway, number):
    return gateway.get(f"/datasets/cube/zarr/displacement/{number}.0.0")


def test_an_upstream_that_refuses_is_named_until_it_gives_again(gateway, archive):
    assert chunk(gateway, 0).status_code == 200
    assert gateway.get("/readyz").json() == {"status": "ok", "datasets": 1}
    archive.eula = True
    archive.expire_signatures()
    refused = chunk(gateway, 1)
    assert refused.status_code == 502
    assert "eula" not in refused.text.lower()
    ready = gateway.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    (named,) = ready.json()["upstreams"]
    assert (named["upstream"], named["state"]) == (archive.granules_url, "eula")
    assert "accept" in named["mend"]
    shown = refused.text + ready.text + str(refused.headers) + str(ready.headers)
    assert all(secret not in shown for secret in archive.secrets)
    assert "upstream-text-value" not in shown
    archive.eula = False
    assert chunk(gateway, 1).status_code == 200
    assert gateway.get("/readyz").json()["status"] == "ok"


def test_a_dead_token_is_named_too(gateway, archive):
    chunk(gateway, 0)
    archive.expire_tokens()
    archive.expire_signatures()
    assert chunk(gateway, 1).status_code == 502
    (named,) = gateway.get("/readyz").json()["upstreams"]
    assert named["state"] in {"bad-token", "login-page"}
    # other datasets and what is held are served all the same
    assert chunk(gateway, 0).status_code == 200
