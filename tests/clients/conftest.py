"""A real server for real clients, and a count of the values that they compared."""

import contextlib
import socket
import threading
import time

import pytest
import uvicorn
import yaml

from cubegate.app import create_app
from cubegate.settings import load_settings


@contextlib.contextmanager
def served(config):
    """Serve the configuration file `config` from a thread on a free port; gives the base URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(create_app(load_settings(config, {}), {}), log_level="warning")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def serve_collections(tmp_path):
    """Serve collections, given as dictionaries; the address prefixes in `allow` may be read."""
    with contextlib.ExitStack() as stack:

        def serve(*collections, allow):
            directory = tmp_path / "config"
            (directory / "collections").mkdir(parents=True)
            for collection in collections:
                file = directory / "collections" / f"{collection['id']}.yaml"
                file.write_text(yaml.safe_dump(collection))
            (directory / "cubegate.yaml").write_text(
                yaml.safe_dump({"upstreams": {prefix: {} for prefix in allow}})
            )
            return stack.enter_context(served(directory / "cubegate.yaml"))

        yield serve


@pytest.fixture
def compared(record_property):
    """Call with the arrays that were compared and found equal, to have their values counted."""
    total = 0

    def count(array):
        nonlocal total
        total += array.size

    yield count
    record_property("compared_values", total)


def pytest_terminal_summary(terminalreporter):
    counts = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "compared_values" and getattr(report, "when", "") == "teardown"
    ]
    if counts:
        terminalreporter.write_line(f"{sum(counts):,} values compared by clients in {len(counts)} tests")
