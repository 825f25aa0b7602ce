"""Several processes count in one directory, and each of them reads what all have counted."""

import signal
import subprocess
import sys

import pytest

from cubegate.metrics.shared_slots import SharedSlots
from cubegate.metrics.slots import SeriesKey

KEY = SeriesKey("f", ("a",))
WORKER = """
import sys
from pathlib import Path
from cubegate.metrics.shared_slots import SharedSlots
from cubegate.metrics.slots import SeriesKey

slots = SharedSlots(Path(sys.argv[1]))
numbers = slots.allot(SeriesKey("f", ("a",)), 2)
for line in sys.stdin:
    numbers[0] += float(line)
    print("counted", flush=True)
"""


class Worker:
    """Another process that counts when it is told to."""

    def __init__(self, directory):
        command = [sys.executable, "-c", WORKER, str(directory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def count(self, number):
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "counted\n"

    def end(self, how):
        if how == "killed":
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def start(tmp_path):
    workers = []

    def start():
        workers.append(Worker(tmp_path))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end("ended")


@pytest.fixture
def slots(tmp_path):
    made = SharedSlots(tmp_path)
    yield made
    made.close()


def counted(slots):
    return sorted((reading.alive, reading.series[KEY][0]) for reading in slots.readings() if reading.series)


def test_what_another_process_counts_is_read_at_once(slots, start):
    one, other = start(), start()
    for number in range(1, 20):
        one.count(1)
        assert (True, number) in counted(slots)
    other.count(100)
    assert counted(slots) == [(True, 19.0), (True, 100.0)]


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_an_ended_process_leaves_its_counts_and_is_known_to_have_ended(slots, start, how):
    one, other = start(), start()
    one.count(1)
    other.count(2)
    one.end(how)
    assert counted(slots) == [(False, 1.0), (True, 2.0)]
    start().count(3)
    assert counted(slots) == [(False, 1.0), (True, 2.0), (True, 3.0)]


def test_closing_tells_that_this_process_has_ended(tmp_path, slots):
    slots.allot(KEY, 1)[0] += 1.0
    other = SharedSlots(tmp_path)
    assert counted(other) == [(True, 1.0)]
    slots.close()
    assert counted(other) == [(False, 1.0)]
    other.close()


def test_a_worker_that_is_only_just_starting_spoils_nothing(tmp_path, slots):
    slots.allot(KEY, 1)[0] += 1.0
    (tmp_path / "1-a.names").touch()
    (tmp_path / "2-b.names").write_text('[0, 1, "f", "a"]\n[1, 1, "f", "unfin')
    (tmp_path / "2-b.values").write_bytes(bytes(4096))
    assert counted(slots) == [(False, 0.0), (True, 1.0)]


def test_nobody_else_can_read_the_files(tmp_path, slots):
    assert [file.stat().st_mode & 0o077 for file in tmp_path.iterdir()] == [0, 0]
