"""A stack that is small, and a range server over it."""

import pytest

from .servers import range_server
from .stack import Size, build_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    # two chunks by three, those at the edges not full
    return build_stack(tmp_path_factory.mktemp("stack"), Size(dates=3, height=300, width=600))


@pytest.fixture(scope="session")
def upstream(stack, tmp_path_factory):
    with range_server(stack, 0, tmp_path_factory.mktemp("log") / "range.log") as server:
        yield server
