"""The composed server: an OpenAPI document that is valid and complete, settings in force, everything closed."""

import asyncio
import threading

import httpx
import pytest
from openapi_spec_validator import validate
from xpublish.plugins.hooks import Plugin

from cubegate.app import create_app
from cubegate.errors import ConfigurationError
from cubegate.settings import Settings, load_settings

PATHS = {
    **dict.fromkeys(
        [
            "/datasets",
            *(f"/datasets/{{dataset_id}}/{name}" for name in (
                "zarr/{key}", "zarr-plain/{key}", "subset", "estimate", "description", "legend.png", "tilejson.json",
                "tiles", "tiles/{tileMatrixSet}", "tiles/{tileMatrixSet}/tileMatrixSet",
                "tiles/{tileMatrixSet}/{z}/{x}/{y}.png", "wms", "opendap.dds", "opendap.das", "opendap.dods",
                "opendap.ascii", "opendap.ver", "opendap.html",
            )),
            *(f"/{api}{path}" for api in ("edr", "stac") for path in (
                "", "/api", "/conformance", "/collections", "/collections/{collection_id}",
            )),
            *(f"/edr/collections/{{collection_id}}/{name}" for name in (
                "position", "area", "cube", "trajectory", "coverage", "coverage/domainset", "coverage/rangetype",
            )),
            "/healthz", "/readyz", "/metrics",
        ],
        frozenset({"get"}),
    ),
    "/datasets/{dataset_id}/timeseries": {"get", "post"},
    "/datasets/{dataset_id}/statistics": {"post"},
}  # fmt: skip
# what their standards have of their own for errors
OTHERWISE = ("/opendap.", "/wms")


@pytest.fixture
async def compose():
    """Compose servers that are closed at the end."""
    closing = []

    async def compose(settings=None, **options):
        app = create_app(settings or Settings(), {}, **options)
        closing.append(app.router.lifespan_context(app))
        await closing[-1].__aenter__()
        return app

    yield compose
    for context in closing:
        await context.__aexit__(None, None, None)


async def get(app, path, **options):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await client.get(path, **options)


async def test_the_openapi_document_is_valid_and_has_every_route(compose):
    document = (await get(await compose(), "/openapi.json")).json()
    validate(document)
    assert {path: set(operations) for path, operations in document["paths"].items()} == PATHS
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert "200" in operation["responses"]


async def test_every_problem_of_a_dataset_route_is_described_as_problem_json(compose):
    document = (await get(await compose(), "/openapi.json")).json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            refused = {status: found for status, found in operation["responses"].items() if status[0] in "45"}
            is_of_a_cube = "{dataset_id}" in path or "{collection_id}" in path
            assert is_of_a_cube == ({"404", "502", "503", "504"} <= set(refused)), path
            for status, found in refused.items():
                described = list(found["content"])
                if any(part in path for part in OTHERWISE):
                    described = described[:1]
                assert described == ["application/problem+json"], (path, status)


async def test_every_plugin_is_loaded_and_named_once(compose):
    app = await compose()
    for path in ("/", "/docs", "/healthz", "/readyz", "/metrics", "/datasets"):
        assert (await get(app, path)).status_code == 200, path


async def test_two_servers_share_nothing(compose, tmp_path, write_configuration):
    file = write_configuration(tmp_path, a="source: {kind: zarr, href: a.zarr}")
    one, two = await compose(), await compose(load_settings(file, {}))
    assert (await get(one, "/datasets")).json() == []
    assert (await get(two, "/datasets")).json() == ["a"]


async def test_cors_origins_are_those_of_the_settings(compose, tmp_path, write_configuration):
    file = write_configuration(tmp_path, 'server: {cors_origins: ["https://maps.example"]}')
    app = await compose(load_settings(file, {}))
    for origin, allowed in (
        ("https://maps.example", "https://maps.example"),
        ("https://other.example", None),
    ):
        for path in ("/healthz", "/nowhere"):
            response = await get(app, path, headers={"Origin": origin})
            assert response.headers.get("access-control-allow-origin") == allowed


async def test_more_plugins_join(compose):
    class Greeting(Plugin):
        name: str = "greeting"

    plugin = Greeting()
    with pytest.raises(ValueError, match="already registered"):
        await compose(more_plugins={"greeting": plugin, "again": plugin})
    assert (await get(await compose(more_plugins={"greeting": plugin}), "/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("collection", "more", "said"),
    [
        ("source: {kind: tar, href: x}", "", "source.kind"),
        ("source: {kind: zarr, href: x}\ncrs: nonsense", "", "crs"),
        ("source: {kind: zarr, href: x}", "cache: {redis: 'http://marker@localhost'}", "cache.redis"),
        ("source: {kind: zarr, href: x}", "credentials: {a: {kind: s3}}", "credentials.a"),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(tmp_path, write_configuration, collection, more, said):
    file = write_configuration(tmp_path, more, a=collection)
    with pytest.raises(ConfigurationError, match=said) as caught:
        create_app(load_settings(file, {}), {})
    assert "marker" not in str(caught.value)


async def test_the_end_of_the_server_ends_its_threads_and_files(tmp_path, make_configured_stack):
    app = create_app(load_settings(make_configured_stack, {}), {})
    services = app.state.services
    before = set(threading.enumerate())
    async with app.router.lifespan_context(app):
        # the sync path of xpublish plugins starts the reader's thread
        cube = await services.catalog.get("stack")
        await asyncio.to_thread(lambda: cube.dataset_now().displacement[0, 0, 0].values)
        response = await get(app, "/datasets/stack/subset?f=netcdf")
        assert response.status_code == 200
        (reader,) = {t for t in threading.enumerate() if t.name == "cubegate-reader"} - before
        (spooled,) = services.spool._files.values()
        assert spooled.path.exists()
    assert not reader.is_alive()
    assert not spooled.path.exists()


@pytest.fixture
def make_configured_stack(tmp_path, make_stack, write_configuration):
    make_stack(tmp_path / "stack")
    return write_configuration(tmp_path, stack="source: {kind: kerchunk, href: ../stack/stack.json}")
