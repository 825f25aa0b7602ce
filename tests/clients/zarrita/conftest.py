"""Whatever runs zarrita: node, and a page that comes from another origin than the cubes."""

import itertools
import json
from urllib.parse import urlsplit

import pytest
from tests.clients.chromium import PROGRAM
from tests.clients.programs import needs
from tests.clients.zarrita.driver import Workshop, run_in_node


@pytest.fixture(scope="session")
def workshop():
    return Workshop()


@pytest.fixture(scope="session")
def origin(workshop, serving):
    with serving(workshop.application()) as url:
        yield url


@pytest.fixture
def visited(browser, origin):
    """A page with zarrita; nothing is asked but of its own origin and of cubes."""
    browser.requests.clear()
    browser.open(f"{origin}/page.html")
    browser.errors.clear()
    yield browser
    asked = {urlsplit(url) for url in browser.requests if not url.startswith(("data:", "about:"))}
    assert {url.hostname for url in asked} == {"127.0.0.1"}
    assert all(url.path.startswith("/datasets/") for url in asked if url.netloc != urlsplit(origin).netloc)


@pytest.fixture(params=["node", pytest.param("chromium", marks=needs("chromium", PROGRAM))])
def reader(request):
    return request.param


@pytest.fixture
def read_with_errors(reader, request, workshop, origin, tmp_path):
    """Have jobs answered where `reader` says; returns the answers, and what went wrong in the page."""
    numbers = itertools.count()

    def in_node(asked):
        return run_in_node(asked, f"{origin}/values/", tmp_path / f"node-{next(numbers)}")

    if reader == "node":
        return lambda *jobs: (workshop.answers(jobs, in_node), [])
    page = request.getfixturevalue("visited")

    def in_page(asked):
        return page.run(f"answerAll({json.dumps(asked)})")

    return lambda *jobs: (workshop.answers(jobs, in_page), page.errors)


@pytest.fixture
def read(read_with_errors):
    """Have jobs answered where `reader` says; a page may not find but that a key is not there."""

    def read_alone(*jobs):
        answers, errors = read_with_errors(*jobs)
        assert [error for error in errors if "status of 404" not in error] == []
        return answers

    return read_alone
