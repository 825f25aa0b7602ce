"""The composition root: the one place that reads settings and names concrete classes."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import xarray as xr
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from xpublish.plugins.hooks import Plugin
from xpublish.rest import Rest

from cubegate import __version__
from cubegate.api.admission import Admission, Deadline, QueryLimit, RequestLimit
from cubegate.api.dependencies import Services
from cubegate.api.direct import DirectRoutes, direct_applications
from cubegate.api.gateway import Gateway
from cubegate.api.head import HeadAsGet
from cubegate.api.health import router as health_router
from cubegate.api.metrics import RequestMetrics, refreshed
from cubegate.api.metrics import router as metrics_router
from cubegate.api.openapi import correct_openapi
from cubegate.api.overrides import drop_overrides
from cubegate.api.problems import ErrorBoundary, register_problems
from cubegate.api.provider import DatasetProvider
from cubegate.api.spool import Spool
from cubegate.cache.cache import ChunkCache
from cubegate.cache.memory import MemoryCache
from cubegate.cache.metered import MeteredCache
from cubegate.cache.redis import RedisCache
from cubegate.cache.tiered import TieredCache
from cubegate.catalog.catalog import Catalog
from cubegate.catalog.icechunk_access import icechunk_access
from cubegate.catalog.opening import CubeOpener
from cubegate.chunks.upstream import Upstreams, open_upstreams
from cubegate.credentials import open_credentials
from cubegate.errors import ConfigurationError
from cubegate.formats.output import output_formats
from cubegate.logs import log_to_stderr
from cubegate.metrics.families import CACHE_HELD, OPEN_CUBES, REDIS_PAUSED
from cubegate.metrics.metrics import Metrics
from cubegate.query.crs import lonlat, parse_crs, transform_points
from cubegate.settings import CacheSettings, Settings, load_settings
from cubegate.store.bridge import LoopThread

PLUGIN_PREFIX = "cubegate_"
CONFIG_VARIABLE = "CUBEGATE_CONFIG"
METRICS_VARIABLE = "CUBEGATE_METRICS_DIRECTORY"
# in the lifespan's state: for how many seconds a client may take nothing of its answer
LONGEST_STALL = "cubegate.longest_stall"
# what is for people, and so not in the OpenAPI document
PAGES = ("/", "/docs", "/explorer/{name}", "/openapi.json")
EXPOSED_HEADERS = (
    "ETag",
    "Content-Range",
    "Content-Length",
    "Content-Disposition",
    "Accept-Ranges",
    "Last-Modified",
    "Retry-After",
)

DESCRIPTION = """A gateway to virtual datacubes.

* **Zarr over HTTP**: `xr.open_zarr("…/datasets/{id}/zarr")`
* **One point's time series**: `/datasets/{id}/timeseries?lon=&lat=&f=csv`
* **One bbox's subset**: `/datasets/{id}/subset?bbox=&f=netcdf`
"""


def open_catalog(
    settings: Settings, environment: Mapping[str, str], metrics: Metrics | None = None
) -> tuple[Catalog, Upstreams, LoopThread, ChunkCache]:
    """Compose the catalog and what it reads through, counted in `metrics` where they are given.

    Raises:
        ConfigurationError: the settings or a collection file cannot be used.
    """
    credentials = open_credentials(settings.credentials, environment)
    metrics = metrics or Metrics()
    upstreams = open_upstreams(settings.upstreams, credentials, metrics=metrics)
    bridge = LoopThread()
    cache = _open_cache(settings.cache, metrics)
    access_for = icechunk_access(settings.upstreams, credentials, upstreams.states)
    opener = CubeOpener(upstreams, cache, bridge, access_for, metrics)
    catalog = Catalog(settings.collections, settings.directory, opener)
    catalog.load()
    metrics.watch(OPEN_CUBES, lambda: catalog.opened)
    return catalog, upstreams, bridge, cache


def _open_cache(settings: CacheSettings, metrics: Metrics) -> ChunkCache:
    memory = MemoryCache(settings.memory)
    metrics.watch(CACHE_HELD, lambda: memory.nbytes, "memory")
    counted = MeteredCache(memory, metrics, "memory")
    if not settings.redis:
        return counted
    redis = RedisCache(settings.redis)
    metrics.watch(REDIS_PAUSED, lambda: redis.paused)
    return TieredCache(counted, MeteredCache(redis, metrics, "redis"))


def create_app(
    settings: Settings,
    environment: Mapping[str, str] | None = None,
    *,
    more_plugins: Mapping[str, Plugin] | None = None,
    metrics: Metrics | None = None,
) -> Gateway:
    """Compose the server.

    `environment` holds the secrets that the settings name; the process's own by default.
    `more_plugins` are xpublish plugins beside our own, by name. `metrics` is for this server alone, as
    one that stands for several workers.

    Raises:
        ConfigurationError: the settings, a collection file or a plugin cannot be used.
    """
    # xarray imports it at the first query, and two threads that do so at once may both fail
    import_module("dask.array")
    counted = metrics or Metrics()
    catalog, upstreams, bridge, cache = open_catalog(
        settings, os.environ if environment is None else environment, counted
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, float]]:
        # the server is ready meanwhile
        warming = asyncio.ensure_future(asyncio.to_thread(_warm_up))
        async with refreshed(counted):
            yield {LONGEST_STALL: settings.limits.deadline}
        await warming
        await upstreams.aclose()
        await cache.aclose()
        bridge.close()
        app.state.services.spool.close()
        counted.close()

    rest = Rest(
        plugins={"datasets": DatasetProvider(catalog, bridge), **_load_plugins(), **(more_plugins or {})},
        app_kws={
            "title": "cubegate",
            "version": __version__,
            "description": DESCRIPTION,
            "lifespan": lifespan,
            # they would lead to whatever host a request names
            "redirect_slashes": False,
            # FastAPI's own pages load scripts from elsewhere
            "docs_url": None,
            "redoc_url": None,
        },
    )
    app: FastAPI = rest.app
    drop_overrides(app, rest.get_datasets_from_plugins)
    spool = Spool(2 * settings.limits.bytes)
    admission = Admission(settings.limits.requests)
    queries = QueryLimit(settings.limits.queries, settings.limits.memory)
    app.state.services = Services(
        catalog, settings.limits, queries, output_formats(), spool, counted, upstreams.states
    )
    app.include_router(health_router)
    app.include_router(metrics_router)
    register_problems(app)
    correct_openapi(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Deadline, seconds=settings.limits.deadline)
    app.add_middleware(RequestLimit, admission=admission)
    app.add_middleware(ErrorBoundary)
    cross_origin = _cross_origin(settings)
    app.add_middleware(CORSMiddleware, **cross_origin)
    direct = {
        name: RequestLimit(application, admission=admission)
        for name, application in direct_applications(rest.plugins.values()).items()
    }
    outer = DirectRoutes(app, applications=direct, cross_origin=cross_origin)
    return Gateway(app, RequestMetrics(outer, metrics=counted, templates=lambda: _templates(app)))


def _load_plugins() -> dict[str, Plugin]:
    plugins: dict[str, Plugin] = {}
    for entry in entry_points(group="xpublish.plugin"):
        if not entry.name.startswith(PLUGIN_PREFIX):
            continue
        try:
            plugins[entry.name] = entry.load()()
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"The plugin {entry.name} cannot be imported: {error}",
                mend="Install what it needs, or remove the package that brings it",
            ) from error
    return plugins


def _warm_up() -> None:
    """Do what the first query would do first: imports, PROJ's database and operations, threads."""
    transform_points(parse_crs("EPSG:32601"), lonlat(), 500_000.0, 0.0, "crs")
    pa.array([0.0]).to_pandas()
    with suppress(ImportError):
        import_module("h5netcdf")
    asyncio.run(run_in_threadpool(int))
    times = xr.Variable("time", [0, 1], {"units": "days since 2000-01-01"})
    xr.decode_cf(xr.Dataset({"time": times})).isel(time=0).load()
    # collections would look at every module's objects again and again, in the middle of a query; to
    # collect once more before would stop a first query for a tenth of a second
    gc.freeze()


def _cross_origin(settings: Settings) -> dict[str, Any]:
    return {
        "allow_origins": list(settings.server.cors_origins),
        "allow_methods": ["GET", "HEAD", "OPTIONS", "POST"],
        "allow_headers": ["*"],
        "expose_headers": list(EXPOSED_HEADERS),
        "max_age": 86_400,
    }


def _templates(app: FastAPI) -> list[str]:
    return [*app.openapi()["paths"], *PAGES]


def create_app_from_environment() -> Gateway:
    """Compose the server from the file that CUBEGATE_CONFIG names; what each uvicorn worker calls."""
    settings = load_settings(Path(os.environ[CONFIG_VARIABLE]), os.environ)
    log_to_stderr(named_secrets(settings, os.environ))
    shared = os.environ.get(METRICS_VARIABLE)
    return create_app(settings, metrics=_shared_metrics(Path(shared)) if shared else None)


def named_secrets(settings: Settings, environment: Mapping[str, str]) -> set[str]:
    """Return the secrets that the settings hold, or find in the variables that they name."""
    variables = [
        value
        for section in settings.credentials.values()
        for key, value in section.model_dump().items()
        if key.endswith("_env") and value
    ]
    password = urlsplit(settings.cache.redis or "").password
    return {environment.get(variable, "").strip() for variable in variables} | {password or ""} - {""}


def _shared_metrics(directory: Path) -> Metrics:
    from cubegate.metrics.shared_slots import SharedSlots  # noqa: PLC0415 - not every system has file locks

    return Metrics(SharedSlots(directory))
