"""Which upstreams refuse is known, logged when it begins and ends, and never by secret words."""

import logging

import pytest

from cubegate.chunks import upstream_states
from cubegate.chunks.source import ChunkReference
from cubegate.chunks.upstream import open_upstreams
from cubegate.chunks.upstream_states import UpstreamStates
from cubegate.errors import UpstreamDenied, UpstreamUnavailable
from cubegate.settings import UpstreamSettings

EULA = UpstreamDenied("It refuses.", state="eula", mend="Accept it.")
EXPIRED = UpstreamDenied("It refuses.", state="expired", mend="Renew it.")


@pytest.fixture
def states():
    return UpstreamStates()


@pytest.fixture
def logged(caplog):
    """What was logged since the last call, as level and text."""
    caplog.set_level(logging.INFO, logger=upstream_states.__name__)

    def take():
        found = [(record.levelname, record.getMessage()) for record in caplog.records]
        caplog.clear()
        return found

    return take


def test_a_refusal_is_kept_until_something_is_given(states, logged):
    assert states.refusing == ()
    for _ in range(3):
        states.refused("https://a/", EULA)
    states.refused("s3://b/", EXPIRED)
    first, second = states.refusing
    assert (first.upstream, first.state, first.mend, first.count) == ("https://a/", "eula", "Accept it.", 3)
    assert (second.upstream, second.state, second.count) == ("s3://b/", "expired", 1)
    states.gave("https://a/")
    states.gave("https://a/")
    assert states.refusing == (second,)
    assert logged() == [
        ("WARNING", "upstream https://a/ refuses (eula): Accept it."),
        ("WARNING", "upstream s3://b/ refuses (expired): Renew it."),
        ("INFO", "upstream https://a/ gives again; it refused 3 reads in 0 s (eula)"),
    ]


def test_another_state_is_another_refusal(states, logged):
    states.refused("https://a/", EULA)
    states.refused("https://a/", EXPIRED)
    assert [(one.state, one.count) for one in states.refusing] == [("expired", 1)]
    assert len(logged()) == 2


def test_one_that_gives_some_objects_and_refuses_others_does_not_fill_the_log(states, logged, monkeypatch):
    for _ in range(50):
        states.refused("https://a/", EULA)
        states.gave("https://a/")
    assert [level for level, _ in logged()] == ["WARNING", "INFO"]
    states.refused("https://a/", EULA)
    assert [one.state for one in states.refusing] == ["eula"]
    states.gave("https://a/")
    monkeypatch.setattr(upstream_states, "_QUIET", 0.0)
    states.refused("https://a/", EULA)
    states.gave("https://a/")
    assert [level for level, _ in logged()] == ["WARNING", "INFO"]


async def test_reads_and_looks_tell_which_prefix_refuses(start_server, response, logged):
    answers = {"/a/x": response(403), "/b/x": response(200, [], b"x"), "/c/x": response(500)}
    server = await start_server(lambda request: answers[request.target])
    prefixes = [f"{server.url}/{name}/" for name in "abc"]
    upstreams = open_upstreams({prefix: UpstreamSettings() for prefix in prefixes}, {})
    for read in (upstreams.get(ChunkReference(f"{prefixes[0]}x")), upstreams.stat(f"{prefixes[0]}x")):
        with pytest.raises(UpstreamDenied):
            await read
    # trouble of another kind says nothing of credentials
    with pytest.raises(UpstreamUnavailable):
        await upstreams.get(ChunkReference(f"{prefixes[2]}x"))
    await upstreams.get(ChunkReference(f"{prefixes[1]}x"))
    assert [(one.upstream, one.state, one.count) for one in upstreams.states.refusing] == [
        (prefixes[0], "denied", 2)
    ]
    answers["/a/x"] = response(200, [], b"x")
    await upstreams.get(ChunkReference(f"{prefixes[0]}x"))
    assert upstreams.states.refusing == ()
    assert [level for level, _ in logged()] == ["WARNING", "INFO"]
    await upstreams.aclose()
