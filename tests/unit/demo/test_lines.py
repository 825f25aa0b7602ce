import ast
import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from cubegate.demo import lines, print_lines

URL = "http://127.0.0.1:8123"


@pytest.mark.parametrize("line", lines(URL), ids=lambda line: line.name)
def test_a_line_is_printed_exactly_as_it_runs(line):
    printed = io.StringIO()
    print_lines(Console(file=printed, width=30), URL, Path("demo-data"))
    assert f"\n{line.text}\n" in printed.getvalue()


@pytest.mark.parametrize(
    "line", [line for line in lines(URL) if line.tool == "Python"], ids=lambda line: line.name
)
def test_a_python_line_is_valid_python_against_this_server(line):
    ast.parse(line.text)
    assert f'"{URL}/datasets/' in line.text


@pytest.mark.parametrize(
    "line", [line for line in lines(URL) if line.tool != "Python"], ids=lambda line: line.name
)
def test_a_shell_line_has_its_url_in_one_word(line):
    words = shlex.split(line.text)
    assert words[0] in {"curl", "gdalinfo", "gdal_translate"}
    assert sum(URL in word for word in words) == 1
    assert ("\n" in line.text, line.output in words or not line.output) == (False, True)


def test_a_trailing_slash_makes_no_difference():
    assert lines(f"{URL}/") == lines(URL)
