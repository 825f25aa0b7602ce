"""The page on derived variables gives every kind, key, default and component, and none that does not exist."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from cubegate.derived import settings
from cubegate.settings import parse_duration

PAGE = (Path(__file__).resolve().parents[3] / "docs/derived-variables.md").read_text("utf-8")
SECTIONS = {
    "Continuous displacement": (settings.ContinuousSettings,),
    "Speed and direction": (settings.SpeedSettings, settings.DirectionSettings),
    "Strain rates": (settings.StrainSettings,),
}


def keys(title):
    """The defaults, by key, that the first table of a section gives."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    table = section.partition("| key | default | meaning |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, flags=re.MULTILINE))


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_gives_every_key_and_its_default(title):
    given = keys("Speed and direction") | keys(title) if title == "Strain rates" else keys(title)
    for kind in SECTIONS[title]:
        fields = {name: field for name, field in kind.model_fields.items() if name != "kind"}
        assert set(given) == set(fields)
        for name, field in fields.items():
            said = given[name].strip("`")
            if field.is_required():
                assert said == "required"
            elif name == "tolerance":
                assert parse_duration(said) == field.default
            else:
                assert (None if said == "none" else yaml.safe_load(said)) == field.default
        assert f"`kind: {get_args(kind.model_fields['kind'].annotation)[0]}`" in PAGE


def test_the_page_gives_every_component_and_its_formula():
    table = PAGE.partition("| component | formula | source |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| ([\w-]+) \|", table, flags=re.MULTILINE)) == set(get_args(settings.Component))
