"""The docs give every setting, endpoint, parameter, format, error and command, and none that does not exist."""

import argparse
import asyncio
import inspect
import json
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from cubegate import errors
from cubegate.api.problems import STATUSES
from cubegate.app import create_app
from cubegate.catalog.collection import Collection
from cubegate.cli import _parser
from cubegate.demo.lines import lines
from cubegate.formats.output import output_formats
from cubegate.index.codecs import V2_CODECS, V3_CODECS
from cubegate.metrics.families import BOUNDS, FAMILIES
from cubegate.settings import Section, Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
KEYED = {"credentials": "<name>", "upstreams": "<prefix>"}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def tables(name, header):
    """The rows, by their first cell, of all tables of a page whose first column is headed `header`."""
    rows, wanted = {}, False
    for line in read(name).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            wanted = False
        elif cells[0] == header:
            wanted = True
        elif wanted and not cells[0].startswith("---"):
            rows[cells[0].strip("`")] = cells
    return rows


def fenced_blocks(name):
    return re.findall(r"^```\w*\n(.*?)^```", read(name), flags=re.MULTILINE | re.DOTALL)


def settings_of(model, prefix=""):
    """Every setting below a model, dotted, with its pydantic field."""
    for name, field in model.model_fields.items():
        inner = [
            part
            for part in (field.annotation, *typing.get_args(field.annotation))
            if inspect.isclass(part) and issubclass(part, Section)
        ]
        if field.exclude:
            continue
        if inner:
            key = f"{prefix}{name}." + (f"{KEYED[name]}." if name in KEYED else "")
            yield from settings_of(inner[0], key)
        else:
            yield f"{prefix}{name}", field


SETTINGS = dict([*settings_of(Settings), *settings_of(Collection)])


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_operator_guide_gives_the_setting_and_its_default(setting):
    field = SETTINGS[setting]
    rows = tables("docs/operator-guide.md", "setting")
    assert setting in rows, f"docs/operator-guide.md lacks {setting}"
    said = rows[setting][1].strip("`")
    if field.is_required():
        assert field.default is PydanticUndefined
        assert said == "required"
    elif field.default is None:
        assert said == "none"
    else:
        parse = TypeAdapter(typing.Annotated[(field.annotation, field, *field.metadata)]).validate_python
        assert parse(yaml.safe_load(said)) == field.default


def test_the_operator_guide_gives_no_setting_that_does_not_exist():
    assert set(tables("docs/operator-guide.md", "setting")) == set(SETTINGS)


@pytest.fixture(scope="module")
def openapi():
    async def read():
        app = create_app(Settings(), {})
        async with app.router.lifespan_context(app):
            return app.fastapi.openapi()

    return asyncio.run(read())


def anonymous(path):
    """A path without the names of its placeholders."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_the_docs_give_every_endpoint(openapi):
    said = {
        anonymous(word)
        for page in PAGES
        for word in re.findall(r"`(?:[A-Z]+ )?(/[^`\s?]*)", page.read_text("utf-8"))
    }
    missing = [path for path in openapi["paths"] if anonymous(path) not in said]
    assert missing == []


def test_the_user_guide_gives_every_query_parameter(openapi):
    said = set(re.findall(r"`([A-Za-z_-]+)=?[^`]*`", read("docs/user-guide.md")))
    missing = {
        (path, parameter["name"])
        for path, operations in openapi["paths"].items()
        for operation in operations.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query" and parameter["name"] not in said
    }
    assert missing == set()


def test_the_user_guide_gives_every_output_format_and_its_media_type():
    formats = output_formats()
    rows = tables("docs/user-guide.md", "format")
    assert {name: row[1].strip("`") for name, row in rows.items()} == {
        name: output_format.media_type for name, output_format in formats.items()
    }
    for name, output_format in formats.items():
        assert set(re.findall(r"series|points|cube", rows[name][2])) == set(output_format.shapes)


def test_the_error_page_gives_every_error_class_and_its_status():
    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.CubegateError)
    ]
    expected = {
        kind.__name__: str(next(status for base, status, _ in STATUSES if issubclass(kind, base)))
        for kind in classes
    }
    assert {name: row[1] for name, row in tables("docs/errors.md", "class").items()} == expected


def test_the_operator_guide_gives_every_metric_its_type_and_labels():
    rows = tables("docs/operator-guide.md", "metric")
    assert {name: (row[1], tuple(re.findall(r"`(\w+)`", row[2]))) for name, row in rows.items()} == {
        family.name: (family.kind, family.labels) for family in FAMILIES
    }
    assert set(tables("docs/operator-guide.md", "label")) == {
        label for family in FAMILIES for label in family.labels
    }


def test_the_operator_guide_gives_the_buckets_of_durations():
    said = re.search(r"end at (.*?) ms\s+and at (.*?) s\.", read("docs/operator-guide.md"), re.DOTALL)
    milliseconds, seconds = (
        [float(number) for number in re.findall(r"[\d.]+", part)] for part in said.groups()
    )
    assert (*(number / 1000 for number in milliseconds), *seconds) == BOUNDS


def test_the_limits_give_exactly_the_codecs_that_are_decoded():
    page = read("docs/limits.md")
    for zarr_format, codecs in ((2, V2_CODECS), (3, V3_CODECS)):
        listed = re.search(rf"^Zarr v{zarr_format}: (.*?)\.$", page, flags=re.MULTILINE | re.DOTALL)[1]
        assert set(re.findall(r"`([^`]+)`", listed)) == codecs


def commands(parser=None):
    actions = (parser or _parser())._actions
    return {
        name: command
        for action in actions
        if isinstance(action, argparse._SubParsersAction)
        for name, command in action.choices.items()
    }


def test_the_docs_give_every_command_and_option():
    guide = read("docs/operator-guide.md")
    listed = {cell.split()[1] for cell in tables("docs/operator-guide.md", "command")}
    assert listed == set(commands())
    for name, parser in commands().items():
        assert f"cubegate {name}" in read("README.md"), f"README.md lacks cubegate {name}"
        parsers = [parser, *commands(parser).values()]
        actions = [action for each in parsers for action in each._actions]
        options = {option for action in actions for option in action.option_strings} - {"-h", "--help"}
        assert [kind for kind in commands(parser) if f"`cubegate {name} {kind}" not in guide] == []
        assert [option for option in options if f"`{option}" not in guide and f" {option}" not in guide] == []


def test_every_make_target_that_the_docs_name_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", read("Makefile"), flags=re.MULTILINE))
    code = [block for page in PAGES for block in fenced_blocks(page.relative_to(ROOT))]
    spans = [span for page in PAGES for span in re.findall(r"`(make [^`]+)`", page.read_text("utf-8"))]
    named = {
        name
        for text in (*code, *spans)
        for name in re.findall(r"^make ([a-z0-9-]+)", text, flags=re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert named <= targets


def test_the_readme_marks_the_test_command_for_the_checks():
    marked = re.findall(r"<!-- test command -->\n```\w*\n(.*?)```", read("README.md"), flags=re.DOTALL)
    assert marked == ["make test\n"]
    assert "<!-- test command -->" in read(".ci/run")


def test_the_readme_shows_lines_that_the_demo_prints():
    printed = {line.text for line in lines("http://127.0.0.1:8000")}
    section = read("README.md").partition("## Try it")[2].partition("\n## ")[0]
    shown = re.findall(r"^```\w*\n(.*?)\n```", section, flags=re.MULTILINE | re.DOTALL)
    assert len(shown) >= 3
    assert [block for block in shown if block not in printed] == []


@pytest.fixture
def own_cube(tmp_path, scan_granule):
    """What the README's section on mounting a cube presupposes: granules, and references over them."""
    granules = tmp_path / "granules"
    granules.mkdir()
    values = np.arange(24, dtype="f4").reshape(2, 3, 4)
    coordinates = {"time": [0.0, 1.0], "y": [2.0, 1.0, 0.0], "x": [0.0, 1.0, 2.0, 3.0]}
    xr.Dataset({"height": (("time", "y", "x"), values)}, coordinates).to_netcdf(
        granules / "cube.nc", engine="h5netcdf", encoding={"height": {"zlib": True, "shuffle": True}}
    )
    references = scan_granule(granules / "cube.nc")
    (granules / "stack.json").write_text(json.dumps(references), "utf-8")
    return granules


def test_the_commands_that_mount_a_cube_run_as_the_readme_gives_them(own_cube, tmp_path):
    section = read("README.md").partition("## Mount your own cube")[2].partition("\n## ")[0]
    section = section.replace("/srv/granules", str(own_cube))
    for block in re.findall(r"^```yaml\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL):
        file = tmp_path / block.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block, "utf-8")
    run = [
        line.partition("#")[0].split() for line in re.findall(r"^cubegate .*", section, flags=re.MULTILINE)
    ]
    assert {arguments[1] for arguments in run} >= {"inspect", "check", "index", "serve"}
    said = {}
    for _, command, *arguments in run:
        # tests/unit/test_docker.py runs the first, tests/unit/archives/test_opera.py the others
        if command not in {"serve", "search", "build"}:
            process = subprocess.run(
                [sys.executable, "-m", "cubegate", command, *arguments],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert process.returncode == 0, process.stderr
            said[command] = process.stdout
    assert "height" in said["inspect"]
    assert "ok" in said["check"]
    assert (tmp_path / "config" / "collections" / "my-stack.index").stat().st_size > 0


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name} links to {target}"


def test_the_examples_of_settings_in_the_docs_are_valid():
    keys = set(Settings.model_fields)
    checked = 0
    for page in PAGES:
        for block in re.findall(
            r"^```yaml\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
        ):
            document = yaml.safe_load(block)
            (Settings if set(document) <= keys else Collection).model_validate(document)
            checked += 1
    assert checked
