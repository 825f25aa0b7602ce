"""The commands, run as a user runs them: what they print, where, and with which exit code."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr
from tests.unit.serving_process import PATIENCE

from cubegate.cli import main

KERCHUNK = "source: {kind: kerchunk, href: ../stack/stack.json}"
ARRAYS = ["coherence", "displacement", "spatial_ref", "time", "x", "y"]


def run(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "cubegate", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def lines(text):
    return text.splitlines()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, make_stack, write_configuration):
    root = tmp_path_factory.mktemp("cli")
    stack = make_stack(root / "stack")
    write_configuration(root, stack=KERCHUNK)
    return root, stack


@pytest.fixture(scope="module")
def index_file(prepared):
    root, stack = prepared
    output = root / "stack [first].index"
    # without them it holds just what the references do
    options = ["--allow", f"{root.as_uri()}/", "--no-validators"]
    done = run("index", stack.references, "-o", output, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(done.stdout) == [
        f"Wrote {output} ({output.stat().st_size:,} bytes), version {lines(done.stdout)[0].split()[-1]}"
    ]
    return output


@contextlib.contextmanager
def serving(*arguments, log=None, **environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cubegate", "serve", "--port", str(port), *map(str, arguments)]
    environment = {**os.environ, **environment}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                deadline = time.monotonic() + PATIENCE
                while True:
                    assert process.poll() is None, process.stdout.read()
                    assert time.monotonic() < deadline, "the server does not answer"
                    with contextlib.suppress(httpx.TransportError):
                        client.get("/healthz")
                        break
                    time.sleep(0.05)
                yield client
        finally:
            process.terminate()
            said, _ = process.communicate()
            if log is not None:
                log.append(said)


@pytest.mark.parametrize("wanted", ["false", "true"])
def test_requests_are_logged_only_where_that_is_asked_for(prepared, wanted):
    root, _ = prepared
    log = []
    settings = {"CUBEGATE_SERVER__ACCESS_LOG": wanted}
    with serving("--config", root / "cubegate.yaml", log=log, **settings) as client:
        assert client.get("/datasets?marker").status_code == 200
    assert "Uvicorn running" in log[0]
    assert ("GET /datasets?marker" in log[0]) == (wanted == "true")


def test_serve_answers_on_the_port_it_is_given(prepared, write_configuration, index_file, tmp_path):
    root, stack = prepared
    for name in ("granule0.nc", "stack.json"):
        assert (root / "stack" / name).exists()
    file = root / "both.yaml"
    (root / "both").mkdir()
    for name, kind, href in (
        ("k", "kerchunk", "../stack/stack.json"),
        ("i", "index", f"../{index_file.name}"),
    ):
        (root / "both" / f"{name}.yaml").write_text(f"id: {name}\nsource: {{kind: {kind}, href: '{href}'}}\n")
    file.write_text(f"upstreams: {{'{root.as_uri()}/': {{}}}}\ncollections: ['both/*.yaml']\n")
    with serving("--config", file) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ok", "datasets": 2}
        assert client.get("/datasets").json() == ["i", "k"]
        assert "swagger" in client.get("/docs").text.lower()
        assert "/datasets/{dataset_id}/timeseries" in client.get("/openapi.json").json()["paths"]
        versions = set()
        for name in ("k", "i"):
            answer = client.get(f"/datasets/{name}/subset?f=netcdf")
            assert answer.status_code == 200, answer.text
            (tmp_path / f"{name}.nc").write_bytes(answer.content)
            with xr.open_dataset(tmp_path / f"{name}.nc") as dataset:
                np.testing.assert_array_equal(dataset.displacement.values, stack.displacement)
            tag = client.get(f"/datasets/{name}/zarr/displacement/0.0.0")
            versions.add((tag.headers["etag"], tag.content))
        assert len(versions) == 1


def test_several_workers_serve(prepared):
    root, _ = prepared
    with serving("--config", root / "cubegate.yaml", "--workers", "2") as client:
        assert client.get("/datasets").json() == ["stack"]


def test_the_index_holds_the_version_of_its_references(
    prepared, index_file, write_configuration, tmp_path, capsys
):
    root, stack = prepared
    file = write_configuration(
        tmp_path,
        references=f"source: {{kind: kerchunk, href: '{stack.references.as_uri()}'}}",
        indexed=f"source: {{kind: index, href: '{index_file}'}}",
    )
    file.write_text(f"upstreams: {{'{root.as_uri()}/': {{}}}}\n")
    versions = set()
    for name in ("references", "indexed"):
        assert main(["inspect", name, "--config", str(file)]) == 0
        versions.add(re.search(r"^version (\S+)$", capsys.readouterr().out, re.MULTILINE)[1])
    assert len(versions) == 1


def test_inspect_prints_every_array_whole(prepared):
    root, _ = prepared
    done = run("inspect", "stack", "--config", root / "cubegate.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split("│")[1].strip(): line for line in lines(done.stdout) if line.startswith("│")}
    assert sorted(rows) == ARRAYS
    assert "float32" in rows["displacement"]
    assert "3 x 20 x 24" in rows["displacement"]
    assert "27 of 27" in rows["displacement"]
    assert "shuffle + zlib" in rows["displacement"]


@pytest.mark.parametrize("names", [[], ["stack"]])
def test_check_says_ok_and_nothing_else(prepared, names, capsys):
    root, _ = prepared
    assert main(["check", *names, "--config", str(root / "cubegate.yaml")]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    (line,) = lines(output.out)
    assert re.fullmatch(r"stack: \d+ chunks of 6 arrays read\b.*: ok", line)


@pytest.fixture
def broken(prepared, tmp_path, make_stack, write_configuration):
    """A stack of its own, to be damaged."""
    stack = make_stack(tmp_path / "stack")
    write_configuration(tmp_path, stack=KERCHUNK)
    return tmp_path, stack


@pytest.fixture
def check(broken, capsys):
    """Check every chunk of the broken stack; gives the exit code and what was said."""

    def check():
        code = main(["check", "--config", str(broken[0] / "cubegate.yaml"), "--chunks", "100"])
        output = capsys.readouterr()
        assert output.err == ""
        assert "" not in lines(output.out)
        return code, output.out

    return check


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_check_names_what_cannot_be_read_of_a_damaged_granule(broken, check, damage):
    _, stack = broken
    assert check()[0] == 0
    if damage == "cut":
        granule = stack.granules[1]
        granule.write_bytes(granule.read_bytes()[: granule.stat().st_size // 2])
    else:
        stack.granules[1].unlink()
    code, said = check()
    assert code == 1
    assert "stack: displacement chunk (1, " in said
    assert "displacement chunk (0, " not in said
    assert re.search(r"^stack: \d+ chunks of 6 arrays read\b.*: \d+ failures$", said, re.MULTILINE)
    assert "Traceback" not in said


def test_check_names_a_granule_outside_the_upstreams(broken, check):
    root, stack = broken
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    shutil.move(stack.references, elsewhere / "stack.json")
    (root / "cubegate.yaml").write_text(f"upstreams: {{'{elsewhere.as_uri()}/': {{}}}}\n")
    (root / "collections" / "stack.yaml").write_text(
        "id: stack\nsource: {kind: kerchunk, href: ../elsewhere/stack.json}\n"
    )
    code, said = check()
    assert code == 1
    assert "stack: cannot be opened" in said
    assert "outside the configured upstreams" in said


def test_check_reads_what_the_granules_hold(broken, check):
    """A granule that was replaced decodes to other bytes or not at all; it is not taken for the old one."""
    _, stack = broken
    references = json.loads(stack.references.read_text())
    url, offset, length = references["refs"]["displacement/1.0.0"]
    assert url == str(stack.granules[1])
    with stack.granules[1].open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * length)
    with netCDF4.Dataset(stack.granules[1]) as file, pytest.raises(RuntimeError):
        file["displacement"][:]
    code, said = check()
    assert code == 1
    assert "displacement chunk (1, 0, 0): CorruptChunk" in said


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_ends_where_a_collection_cannot_be_used(tmp_path, write_configuration, workers):
    config = write_configuration(tmp_path, wrong="sauce: {}")
    done = run("serve", "--config", config, "--port", "0", "--workers", workers)
    assert done.returncode == 1
    assert lines(done.stderr)[-1].startswith(f"cubegate: {tmp_path / 'collections/wrong.yaml'}: sauce: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("source", ["import not_there_at_all", "Plug = None"])
def test_serve_ends_where_a_plugin_cannot_be_imported(tmp_path, write_configuration, source, workers):
    config = write_configuration(tmp_path)
    package = tmp_path / "packages"
    (package / "broken-1.0.dist-info").mkdir(parents=True)
    (package / "broken.py").write_text(source)
    (package / "broken-1.0.dist-info" / "METADATA").write_text("Name: broken\nVersion: 1.0\n")
    (package / "broken-1.0.dist-info" / "entry_points.txt").write_text(
        "[xpublish.plugin]\ncubegate_broken = broken:Plugin\n"
    )
    done = run("serve", "--config", config, "--port", "0", "--workers", workers, PYTHONPATH=str(package))
    assert done.returncode == 1
    assert lines(done.stderr)[-1].startswith("cubegate: The plugin cubegate_broken cannot be imported: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
        (["inspect", "stack", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
        (["check", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
        (["check", "--config", "bad.yaml"], "bad.yaml: is not valid YAML at line 1"),
        (["serve", "--config", "bad.yaml"], "bad.yaml: is not valid YAML at line 1"),
        (["serve", "--config", "misspelt.yaml"], "misspelt.yaml: sever: "),
        (["serve", "--config", "cubegate.yaml", "--port", "70000"], "command line: port: "),
        (["serve", "--config", "cubegate.yaml", "--workers", "0"], "command line: workers: "),
        (["inspect", "none", "--config", "cubegate.yaml"], "There is no dataset 'none'"),
        (["inspect", "stack@1", "--config", "cubegate.yaml"], "not mounted in version '1'"),
        (["check", "none", "--config", "cubegate.yaml"], "There is no dataset 'none'"),
        (["check", "stack", "none", "--config", "cubegate.yaml"], "There is no dataset 'none'"),
        (["index", "absent.json", "-o", "x.index"], "outside the configured upstreams"),
        (["index", "absent.json", "-o", "x.index", "--config", "cubegate.yaml"], "absent.json"),
        (["index", "stack/stack.json", "-o", "no/where.index", "--config", "cubegate.yaml"], "where.index: cannot be written"),
        (["index", "cubegate.yaml", "-o", "x.index", "--config", "cubegate.yaml"], "not JSON"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_errors_are_one_line_on_stderr_and_exit_code_1(prepared, monkeypatch, capsys, arguments, said):
    root, _ = prepared
    (root / "bad.yaml").write_text("server: [")
    (root / "misspelt.yaml").write_text("sever: {}")
    monkeypatch.chdir(root)
    assert main(arguments) == 1
    output = capsys.readouterr()
    (line,) = lines(output.err)
    assert line.startswith("cubegate: ")
    assert said in line
    assert output.out == ""
    assert not Path("x.index").exists()


def test_an_error_is_the_exit_code_of_the_process(prepared):
    root, _ = prepared
    done = run("inspect", "none", "--config", root / "cubegate.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert lines(done.stderr) == [
        "cubegate: There is no dataset 'none'. GET /datasets lists those that exist."
    ]


@pytest.mark.parametrize(
    "arguments", [[], ["unknown"], ["check", "--chunks", "0"], ["serve", "--port", "x"], ["index", "a"]]
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: cubegate")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--help"], "inspect"), (["serve", "--help"], "--config"), (["--version"], "cubegate 0")],
)
def test_help_and_version(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert said in capsys.readouterr().out


def test_no_command_takes_a_proxy_from_the_environment(monkeypatch, capsys):
    names = ["HTTP_PROXY", "https_proxy", "ALL_PROXY"]
    for name in names:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert main(["inspect", "x", "--config", "absent.yaml"]) == 1
    assert [name for name in names if name in os.environ] == []
