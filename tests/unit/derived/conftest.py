"""Cubes of known truth, as Zarr stores on disk, opened with derived variables."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.unit.derived.cubes import CHUNK, HEIGHT, WIDTH, cut, days, query_box, query_series

from cubegate.app import open_catalog
from cubegate.settings import LimitSettings, load_settings
from cubegate.store.encoded import EncodedStore


@pytest.fixture
def truth():
    """A signal since day 0 of 12 epochs, whose reference date moves at epochs 4, 7 and 9."""
    random = np.random.default_rng(7)
    times, references = days(np.arange(1, 13) * 12), days(np.repeat([0, 48, 84, 108], [4, 3, 2, 3]))
    signal = random.standard_normal((12, HEIGHT, WIDTH)).cumsum(axis=0)
    return SimpleNamespace(
        signal=signal, times=times, references=references, stored=cut(signal, times, references)
    )


@pytest.fixture
async def open_cube(tmp_path, write_configuration):
    """Write a dataset, or one a group, as a Zarr store, and open it with what `derived` says in YAML."""
    async with contextlib.AsyncExitStack() as closing:

        async def opened(groups, derived="{}", *, more="", encoding=None, zarr_format=2):
            groups = groups if isinstance(groups, dict) else {"": groups}
            number = len(list(tmp_path.glob("*.zarr")))
            for group, dataset in groups.items():
                chunks = {
                    name: {
                        "chunks": tuple(
                            {"time": 1, "y": CHUNK, "x": CHUNK}.get(dim, 1) for dim in variable.dims
                        )
                    }
                    for name, variable in dataset.data_vars.items()
                    if variable.ndim > 1
                }
                for name, packing in (encoding or {}).items():
                    chunks[name] = {**chunks[name], **packing}
                dataset.to_zarr(
                    tmp_path / f"{number}.zarr", group=group or None, mode="a", consolidated=False,
                    zarr_format=zarr_format, encoding=chunks,
                )  # fmt: skip
            name = f"cube{number}"
            text = f"source: {{kind: zarr, href: '{(tmp_path / f'{number}.zarr').as_uri()}'}}\nderived: {derived}\n{more}"
            file = write_configuration(tmp_path, **{name: text})
            catalog, upstreams, bridge, cache = open_catalog(load_settings(file, {}), {})
            closing.callback(bridge.close)
            closing.push_async_callback(cache.aclose)
            closing.push_async_callback(upstreams.aclose)
            return await catalog.get(name)

        yield opened


@pytest.fixture
def asking():
    """Query a cube; returns the loaded dataset."""

    async def ask(cube, query, group=""):
        plan = await cube.plan(group, query, LimitSettings())
        return (await (await plan.enforce()).load()).dataset

    async def series(cube, iy, ix, variables, datetime=None):
        return await ask(cube, query_series(await cube.dataset(), iy, ix, variables, datetime))

    async def box(cube, variables, rows=slice(None), columns=slice(None), datetime=None):
        return await ask(cube, query_box(await cube.dataset(), rows, columns, variables, datetime))

    return SimpleNamespace(ask=ask, series=series, box=box)


@pytest.fixture
def chunks_read(monkeypatch):
    """Count which chunks of which arrays a store is asked for, once each."""
    asked = set()
    read = EncodedStore.read

    async def counted(self, array, chunks, deliver):
        asked.update((array.path, tuple(map(int, chunk))) for chunk in chunks)
        await read(self, array, chunks, deliver)

    monkeypatch.setattr(EncodedStore, "read", counted)
    return asked


@pytest.fixture
def real_layers():
    """The folder of real DISP-S1 layers."""
    folder = Path(__file__).resolve().parents[4] / "shared/data/opera/disp_s1_layers"
    if not folder.is_dir():
        pytest.skip("the real files are not here")
    return folder
