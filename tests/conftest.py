"""What tests of every kind use."""

import contextlib
import gc
import socket
import threading
import time

import pytest
import uvicorn
from hypothesis import settings
from kerchunk.hdf import SingleHdf5ToZarr

# no test asserts a time
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def scan_granule():
    """Return kerchunk's references over an HDF5 file; `options` go to `SingleHdf5ToZarr`."""

    def scan(path, **options):
        # kerchunk holds HDF5's lock while zarr's thread works for it: if that thread collected a
        # forgotten HDF5 object, both would wait for ever
        gc.collect()
        gc.disable()
        try:
            return SingleHdf5ToZarr(str(path), **{"url": path.resolve().as_uri(), **options}).translate()
        finally:
            gc.enable()

    return scan


@contextlib.contextmanager
def _serving(application):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serving():
    """Serve an ASGI application from a thread on a free port while the context lasts; gives its URL."""
    return _serving


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
        terminalreporter.write_line(
            f"{sum(counts):,} values compared with other readers in {len(counts)} tests"
        )
