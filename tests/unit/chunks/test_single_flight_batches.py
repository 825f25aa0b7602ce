"""What askers have in common is read once; each gets its own, and nobody is left waiting."""

import asyncio
import gc
import random
from collections import Counter

import pytest

from cubegate.chunks.single_flight import SingleFlight
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamUnavailable


class Batches:
    """A bulk source that delivers each reference when told to, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []
        self.cancelled = []
        self.open = set()
        self.errors = {}
        self.defect = None

    def held(self, reference):
        return None

    async def read(self, references, deliver):
        self.asked.append([reference.offset for reference in references])
        left = dict(enumerate(references))
        try:
            while left:
                for number, reference in list(left.items()):
                    if reference.offset in self.open:
                        del left[number]
                        deliver(number, self.errors.get(reference.offset, data_of(reference)))
                if self.defect:
                    raise self.defect
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.append([reference.offset for reference in left.values()])
            raise


def data_of(reference):
    return f"{reference.url}:{reference.offset}".encode()


def references(*numbers):
    return [ChunkReference("file:///x", number, 4) for number in numbers]


@pytest.fixture
def batches():
    return Batches()


@pytest.fixture
def flight(batches):
    flight = SingleFlight(batches)
    yield flight
    assert flight._flights == {}


async def ask(flight, *numbers):
    """The outcomes of the references, each of which was delivered once."""
    found = {}

    def deliver(position, outcome):
        assert position not in found
        found[position] = outcome

    await flight.read(references(*numbers), deliver)
    assert set(found) == set(range(len(numbers)))
    return [found[position] for position in range(len(numbers))]


def exact(*numbers):
    return [data_of(reference) for reference in references(*numbers)]


def run_in(loop, coroutine):
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - an asyncio.Event belongs to one loop
            await asyncio.sleep(0.001)


async def test_batches_share_what_they_have_in_common(batches, flight):
    first = asyncio.create_task(ask(flight, 1, 2, 3))
    await until(lambda: batches.asked)
    second = asyncio.create_task(ask(flight, 2, 3, 4, 2))
    third = asyncio.create_task(ask(flight, 4, 1))
    await until(lambda: len(batches.asked) == 2)
    batches.open |= {1, 2, 3, 4}
    assert await first == exact(1, 2, 3)
    assert await second == exact(2, 3, 4, 2)
    assert await third == exact(4, 1)
    assert batches.asked == [[1, 2, 3], [4]]


async def test_a_reference_that_is_named_twice_is_read_once(batches, flight):
    batches.open |= {1, 2}
    assert await ask(flight, 1, 2, 1, 1) == exact(1, 2, 1, 1)
    assert batches.asked == [[1, 2]]


async def test_nothing_is_asked_of_nothing(batches, flight):
    assert await ask(flight) == []
    assert batches.asked == []


async def test_the_read_ends_with_the_only_one_who_waits(batches, flight):
    only = asyncio.create_task(ask(flight, 1, 2))
    batches.open.add(1)
    await until(lambda: batches.asked)
    only.cancel()
    await until(lambda: batches.cancelled)
    assert batches.cancelled == [[2]]


@pytest.mark.parametrize("leaver", [0, 1])
async def test_the_read_goes_on_while_anyone_waits(batches, flight, leaver):
    tasks = [asyncio.create_task(ask(flight, 1, 2)), asyncio.create_task(ask(flight, 2))]
    await until(lambda: batches.asked)
    tasks.pop(leaver).cancel()
    await asyncio.sleep(0.01)
    assert batches.cancelled == []
    batches.open |= {1, 2}
    assert (await tasks[0])[-1:] == exact(2)
    assert batches.asked == [[1, 2]]


async def test_when_all_have_left_the_read_ends_and_the_next_reads_anew(batches, flight):
    tasks = [asyncio.create_task(ask(flight, 1, 2)) for _ in range(5)]
    await until(lambda: batches.asked)
    for task in tasks:
        task.cancel()
    # these come while the end of the read is under way
    await asyncio.sleep(0)
    later = [asyncio.create_task(ask(flight, 2)) for _ in range(3)]
    await until(lambda: batches.cancelled and len(batches.asked) == 2)
    batches.open.add(2)
    assert await asyncio.gather(*later) == [exact(2)] * 3
    assert batches.cancelled == [[1, 2]]


async def test_the_error_of_one_reference_is_not_that_of_another(batches, flight):
    batches.errors[1] = UpstreamUnavailable("down")
    both = asyncio.create_task(ask(flight, 1, 2))
    await until(lambda: batches.asked)
    one, other = asyncio.create_task(ask(flight, 1)), asyncio.create_task(ask(flight, 2))
    batches.open.add(1)
    assert await one == [batches.errors[1]]
    batches.open.add(2)
    assert await other == exact(2)
    assert await both == [batches.errors[1], *exact(2)]


async def test_whoever_refuses_a_delivery_leaves_the_others_theirs(batches, flight):
    calls = []

    def refuse(position, outcome):
        calls.append(position)
        raise UpstreamUnavailable("enough")

    refusing = asyncio.create_task(flight.read(references(1, 2, 3), refuse))
    await until(lambda: batches.asked)
    other = asyncio.create_task(ask(flight, 3, 1))
    batches.open |= {1, 2}
    with pytest.raises(UpstreamUnavailable, match="enough"):
        await refusing
    batches.open.add(3)
    assert await other == exact(3, 1)
    assert calls == [0]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_defect_of_what_takes_a_delivery_reaches_its_own_asker(batches, flight, count):
    def fail(position, outcome):
        if position == count - 1:
            raise ZeroDivisionError

    batches.open |= {1, 2, 3}
    async with asyncio.timeout(60):
        with pytest.raises(ZeroDivisionError):
            await flight.read(references(1, 2, 3)[:count], fail)


async def test_a_defect_of_the_source_reaches_all_who_wait(batches, flight, other_loop):
    first = asyncio.create_task(ask(flight, 1, 2))
    await until(lambda: batches.asked)
    others = [asyncio.create_task(ask(flight, 2)) for _ in range(3)]
    others += (run_in(other_loop, ask(flight, 2)) for _ in range(2))
    await until(lambda: len(flight._flights[references(2)[0]].waiting[references(2)[0]]) == 6)
    served = asyncio.create_task(ask(flight, 1))
    batches.open.add(1)
    assert await served == exact(1)
    batches.defect = KeyError("a defect")
    async with asyncio.timeout(60):
        found = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(error) for error in found] == [KeyError] * 6
    batches.defect = None
    batches.open.add(2)
    assert await ask(flight, 1, 2) == exact(1, 2)


async def test_an_error_that_comes_as_its_asker_leaves_is_quiet(batches, flight):
    troubles = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))

    class Leaving:
        """Cancels its asker in the very turn in which the error comes."""

        def held(self, reference):
            return None

        async def read(self, references, deliver):
            await asyncio.sleep(0)
            asking.cancel()
            raise KeyError("a defect")

    asking = asyncio.create_task(ask(SingleFlight(Leaving()), 1))
    await asyncio.wait([asking])
    assert asking.cancelled()

    asking = None
    gc.collect()
    assert troubles == []


class Restless:
    """A bulk source that delivers late, in any order, with an error now and then."""

    def __init__(self, random):
        self.random = random
        self.failures = 0

    def held(self, reference):
        return None

    async def read(self, references, deliver):
        order = list(range(len(references)))
        self.random.shuffle(order)
        for number in order:
            if self.random.random() < 0.5:
                await asyncio.sleep(self.random.random() * 0.004)
            if self.random.random() < 0.1:
                self.failures += 1
                deliver(number, UpstreamUnavailable(str(references[number].offset)))
            else:
                deliver(number, data_of(references[number]))


async def restless(flight, seed, counts):
    """Ask a hundred times for some of thirty references, and leave some of these early."""
    chance = random.Random(seed)
    troubles = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))

    async def one():
        await asyncio.sleep(chance.random() * 0.05)
        numbers = [chance.randrange(30) for _ in range(chance.randint(1, 12))]
        for number, outcome in zip(numbers, await ask(flight, *numbers), strict=True):
            if isinstance(outcome, UpstreamUnavailable):
                assert str(outcome) == str(number)
                counts["errors"] += 1
            else:
                assert outcome == exact(number)[0]
                counts["values"] += 1

    tasks = [asyncio.create_task(one()) for _ in range(100)]
    for task in chance.sample(tasks, 30):
        asyncio.get_running_loop().call_later(chance.random() * 0.06, task.cancel)
    async with asyncio.timeout(60):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in found} <= {type(None), asyncio.CancelledError}
    counts["cancelled"] += sum(task.cancelled() for task in tasks)
    await asyncio.sleep(0.02)
    gc.collect()
    assert troubles == []


@pytest.mark.parametrize("seed", range(5))
async def test_many_who_come_and_leave_in_two_loops_all_get_their_own(other_loop, seed):
    source = Restless(random.Random(seed))
    flight = SingleFlight(source)
    counts = Counter()
    elsewhere = run_in(other_loop, restless(flight, seed + 1000, counts))
    await restless(flight, seed, counts)
    await elsewhere
    await until(lambda: not flight._flights)
    assert all(counts[kind] > 0 for kind in ("values", "errors", "cancelled"))
