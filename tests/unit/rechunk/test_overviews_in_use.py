"""`cubegate overviews` of a small cube: its report, other versions and settings, and what was lost, killed or cut short."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from tests.unit.rechunk.overviews import ask, means, store_of

from cubegate.app import create_app
from cubegate.catalog import catalog as catalog_module
from cubegate.catalog import overviews as overviews_module
from cubegate.cli import main
from cubegate.settings import load_settings


@pytest.fixture
def cube(tmp_path, write_configuration, make_stack):
    """A small cube of granules behind an index; gives the configuration and what may be done with it."""
    stack = make_stack(tmp_path / "stack")
    assert (
        main(
            [
                "index",
                str(stack.references),
                "-o",
                str(tmp_path / "stack.index"),
                "--allow",
                tmp_path.as_uri() + "/",
            ]
        )
        == 0
    )
    config = write_configuration(
        tmp_path, stack="source: {kind: index, href: ../stack.index}\noverviews: {href: made}"
    )
    return config, stack


def run(capsys, config, *arguments, code=0):
    capsys.readouterr()
    assert main(["overviews", *arguments, "--config", str(config), "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out) if code == 0 else " ".join(said.err.split())


def test_the_report_has_the_price_and_what_was_done(cube, capsys):
    config, stack = cube
    tried = run(capsys, config, "stack", "--dry-run")
    assert (tried["built"], list(config.parent.glob("collections/made/*"))) == (False, [])
    # 3 dates x 3 x 3 chunks of two variables, that of the map mapping none
    assert tried["price"]["chunks"] == 2 * 3 * 9
    made = run(capsys, config, "stack")
    assert made["price"] == tried["price"]
    assert made["values"] == 2 * 3 * 10 * 12
    assert made["variables"]["coherence"] == {"resampling": "mode", "levels": 1, "shape": [3, 10, 12]}
    assert made["overviews"] == {"href": "made"}
    again = run(capsys, config, "stack")
    assert (again["there_already"], again["built"]) == (True, False)
    values = zarr.open_array(config.parent / "collections/made" / f"{made['version']}.zarr", mode="r",
                             path=f"{store_of(config.parent / 'collections/made')[1]}/overview_2/displacement")  # fmt: skip
    np.testing.assert_allclose(values[:], means(stack.displacement, 2), rtol=1e-6)


def test_others_of_the_same_version_take_their_place_when_asked(cube, capsys):
    config, _ = cube
    run(capsys, config, "stack", "--variables", "displacement")
    before = store_of(config.parent / "collections/made")
    said = run(capsys, config, "stack", code=1)
    assert "--replace" in said
    assert store_of(config.parent / "collections/made") == before
    run(capsys, config, "stack", "--replace")
    store, group = store_of(config.parent / "collections/made")
    assert group != before[1]
    assert set(zarr.open_group(store, mode="r")[f"{group}/overview_2"].array_keys()) >= {
        "displacement",
        "coherence",
    }


def test_the_line_for_the_collection_file_is_printed_and_the_file_left_alone(cube, capsys):
    config, _ = cube
    file = config.parent / "collections/stack.yaml"
    file.write_text("# mine\n" + file.read_text().replace("overviews: {href: made}\n", ""))
    text = file.read_text()
    assert main(["overviews", "stack", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert 'overviews: {href: "stack.overviews"}' in said
    assert said.startswith("Reads 54 chunks")
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none",), "There is no dataset 'none'"),
        (("stack", "--variables", "nothing"), "There is no variable 'nothing' to draw"),
        (("stack", "--levels", "0"), "1 or more"),
        (("stack", "--threads", "0"), "1 or more"),
        (("stack", "--datetime", "1999"), "has no date"),
        (("stack", "--output", "/elsewhere"), "no upstream covers this address"),
        (("stack", "--output", "https://example.org/a"), "cannot be written over HTTP"),
    ],
)
def test_what_cannot_be_is_said(cube, capsys, arguments, said):
    config, _ = cube
    assert said in run(capsys, config, *arguments, code=1)
    assert not (config.parent / "collections/made").exists()


@pytest.fixture
def look_always(monkeypatch):
    """Spare the tests the intervals between two looks."""
    monkeypatch.setattr(catalog_module, "CHECK_INTERVAL", 0.0)
    monkeypatch.setattr(overviews_module, "LOOK_INTERVAL", 0.0)


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about")


PIXEL = {"service": "WMS", "version": "1.3.0", "request": "GetFeatureInfo", "layers": "displacement",
         "query_layers": "displacement", "styles": "", "crs": "EPSG:32611", "width": 4, "height": 4, "i": 1, "j": 1,
         "bbox": "500000,3999526,500720,4000006", "info_format": "application/json", "time": "2020-01-13"}  # fmt: skip


def shown_height(url):
    (feature,) = ask(url, "stack/wms", **PIXEL).json()["features"]
    return feature["properties"]["y"]


# the middle of the pixel lies 189 m below the edge of the grid
CELL_ITSELF, OVERVIEW = 4_000_000 - 30 * 6, 4_000_015 - 60 * 3.5


@pytest.mark.usefixtures("look_always")
def test_a_running_server_takes_overviews_up_and_lets_them_go(cube, capsys, serving, caplog):
    config, _ = cube
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert shown_height(url) == CELL_ITSELF
        assert "Run: cubegate overviews stack" in caplog.text
        etag = ask(url, "stack/tilejson.json").headers["etag"]
        run(capsys, config, "stack")
        until(lambda: shown_height(url) == OVERVIEW)
        assert ask(url, "stack/tilejson.json").headers["etag"] != etag
        (store,) = (config.parent / "collections/made").iterdir()
        store.rename(store.with_name("away.zarr"))
        until(lambda: shown_height(url) == CELL_ITSELF)


@pytest.mark.usefixtures("look_always")
def test_overviews_of_another_version_are_not_used(cube, capsys, serving, make_stack, compared):
    config, _ = cube
    made = run(capsys, config, "stack")
    tmp_path = config.parent
    other = make_stack(tmp_path / "other", seed=7)
    assert (
        main(
            [
                "index",
                str(other.references),
                "-o",
                str(tmp_path / "stack.index"),
                "--allow",
                tmp_path.as_uri() + "/",
            ]
        )
        == 0
    )
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert shown_height(url) == CELL_ITSELF
        # nor where they lie at the place of the other's
        folder = config.parent / "collections/made"
        version = run(capsys, config, "stack", "--dry-run")["version"]
        (folder / f"{made['version']}.zarr").rename(folder / f"{version}.zarr")
        assert shown_height(url) == CELL_ITSELF
    capsys.readouterr()
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert "overviews are not used: what is there is none of version" in capsys.readouterr().out
    assert main(["check", "stack", "--config", str(config)]) == 0
    assert "Run: cubegate overviews stack" in capsys.readouterr().out
    run(capsys, config, "stack", "--replace")
    with serving(create_app(load_settings(config, {}), {})) as url:
        (feature,) = ask(url, "stack/wms", **PIXEL).json()["features"]
        facts = feature["properties"]
        wanted = means(other.displacement[1], 2)[3, 4]
        assert (facts["y"], facts["value"]) == (OVERVIEW, pytest.approx(wanted, rel=1e-6))
        compared(wanted)


def test_overviews_are_inspected_and_checked(cube, capsys):
    config, _ = cube
    run(capsys, config, "stack")
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert "overviews beside it are used" in capsys.readouterr().out
    assert main(["check", "stack", "--config", str(config)]) == 0
    assert "overviews" not in capsys.readouterr().out
    store, root = store_of(config.parent / "collections/made")
    (store / root / "overview_2/displacement/c/1/0/0").unlink()
    assert main(["check", "stack", "--config", str(config)]) == 1
    assert f"{root}/overview_2/displacement chunk (1, 0, 0): UpstreamObjectMissing" in capsys.readouterr().out


def test_a_lost_object_is_an_error_and_not_a_hole(cube, capsys, serving):
    config, _ = cube
    run(capsys, config, "stack")
    store, root = store_of(config.parent / "collections/made")
    (store / root / "overview_2/displacement/c/1/0/0").unlink()
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert "ServiceException" in ask(url, "stack/wms", 502, **PIXEL).text
        assert ask(url, "stack/wms", **{**PIXEL, "time": "2020-01-25"}).json()["features"]


def test_an_address_that_is_not_listed_is_said_with_file_and_key(cube, capsys):
    config, _ = cube
    file = config.parent / "collections/stack.yaml"
    file.write_text(file.read_text().replace("href: made", "href: /elsewhere/made"))
    assert main(["check", "stack", "--config", str(config)]) == 1
    said = capsys.readouterr().out
    assert "overviews.href" in said
    assert "List it in upstreams" in said


def test_settings_that_changed_put_overviews_out_of_use(cube, capsys):
    config, _ = cube
    run(capsys, config, "stack")
    file = config.parent / "collections/stack.yaml"
    file.write_text(file.read_text() + "crs: EPSG:32612\n")
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert (
        "coherence, displacement are not used: they were made under other settings" in capsys.readouterr().out
    )


KILLED = """
import os, signal, sys
from cubegate.conversions.overview_store import OverviewStore
write, count = OverviewStore.write, [0]
def some(self, path, region, values):
    write(self, path, region, values)
    count[0] += path.endswith("displacement")
    if count[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
OverviewStore.write = some
from cubegate.cli import main
main(sys.argv[1:])
"""


def test_what_a_killed_build_left_is_never_used_and_taken_up_again(cube, capsys, monkeypatch):
    config, stack = cube
    arguments = ["overviews", "stack", "--threads", "1", "--config", str(config)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    folder = config.parent / "collections/made"
    (store,) = folder.glob("*.zarr")
    assert not (store / "zarr.json").exists()
    assert main(["inspect", "stack", "--config", str(config)]) == 0
    assert "overviews are not used: there are none" in capsys.readouterr().out
    # an object that was cut short is made again
    objects = sorted(path for path in store.rglob("displacement/c/**/*") if path.is_file())
    assert len(objects) == 2
    objects[0].write_bytes(objects[0].read_bytes()[:40])
    report = run(capsys, config, "stack")
    # 3 dates of each variable less the classes, which come first, and one date
    assert report["price"]["chunks"] == 2 * 9
    path, root = store_of(folder)
    np.testing.assert_allclose(
        zarr.open_array(path, path=f"{root}/overview_2/displacement", mode="r")[:],
        means(stack.displacement, 2),
        rtol=1e-6,
    )


def test_a_granule_that_cannot_be_read_ends_the_build(cube, capsys):
    config, stack = cube
    stack.granules[2].unlink()
    said = run(capsys, config, "stack", code=1)
    assert "Reading coherence[2:3, 0:20, 0:24] failed" in said
    (store,) = (config.parent / "collections/made").glob("*.zarr")
    assert not (store / "zarr.json").exists()


@pytest.mark.usefixtures("look_always")
def test_some_dates_alone(cube, capsys, serving):
    config, stack = cube
    run(capsys, config, "stack", "--datetime", "2020-01-10/2020-01-20", "--variables", "displacement")
    with serving(create_app(load_settings(config, {}), {})) as url:
        assert shown_height(url) == OVERVIEW
        (feature,) = ask(url, "stack/wms", **PIXEL).json()["features"]
        assert feature["properties"]["value"] == pytest.approx(
            means(stack.displacement[1], 2)[3, 4], rel=1e-6
        )
        (other,) = ask(url, "stack/wms", **{**PIXEL, "time": "2020-01-25"}).json()["features"]
        assert other["properties"]["y"] == CELL_ITSELF
        assert other["properties"]["value"] == pytest.approx(stack.displacement[2, 6, 9], rel=1e-6)
