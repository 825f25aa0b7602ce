"""Names that lead to this machine or its surroundings are not connected to; literal addresses are meant."""

import asyncio
import gc
import socket

import pytest

from cubegate.chunks.resolving import addresses_of
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamRefused, UpstreamUnavailable

INNER = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "100.100.100.200", "::1", "::", "fe80::1", "fe80::1%1", "ff02::1",
    "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
]  # fmt: skip
OUTER = ["93.184.215.14", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "2606:2800::1", "fd12::1",
         "::ffff:10.0.0.1", "64:ff9b::5db8:d70e"]  # fmt: skip


class Resolver:
    """Answers look-ups from `names`, which maps a name to the addresses of its first, second ... look-up."""

    def __init__(self, names):
        self.names = names
        self.asked = []

    async def __call__(self, host, port, **options):
        self.asked.append(host)
        known = self.names.get(host)
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        answer = known.pop(0) if len(known) > 1 else known[0]
        return [
            (
                socket.AF_INET6 if ":" in ip else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (ip, port, 0, 0) if ":" in ip else (ip, port),
            )
            for ip in answer
        ]


@pytest.fixture
async def resolving(monkeypatch):
    """Make the running loop look up these names, and no others."""

    def start(**names):
        resolver = Resolver({name.replace("_", "."): list(found) for name, found in names.items()})
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver)
        return resolver

    return start


@pytest.mark.parametrize("inner", INNER)
async def test_a_name_that_leads_inside_is_refused(resolving, inner):
    resolving(data_example=[[inner]], mixed_example=[["93.184.215.14", inner]])
    for name in ("data.example", "mixed.example"):
        with pytest.raises(UpstreamRefused, match="not contacted"):
            await addresses_of(name, 443)


@pytest.mark.parametrize("outer", OUTER)
async def test_names_of_public_and_private_networks_are_taken(resolving, outer):
    resolving(data_example=[[outer, "93.184.215.14", outer]])
    assert (await addresses_of("data.example", 443))[0] == outer


@pytest.mark.parametrize("literal", ["127.0.0.1", "169.254.169.254", "::1", "10.0.0.1"])
async def test_a_literal_address_is_meant_and_not_looked_up(resolving, literal):
    resolver = resolving()
    assert await addresses_of(literal, 80) == [literal]
    assert resolver.asked == []


async def test_localhost_may_be_this_machine_and_nothing_else(resolving):
    resolving(localhost=[["127.0.0.1", "::1"], ["169.254.169.254"]])
    assert await addresses_of("localhost", 80) == ["127.0.0.1", "::1"]
    with pytest.raises(UpstreamRefused):
        await addresses_of("localhost", 80)


@pytest.mark.parametrize(
    "written", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost.localdomain"]
)
async def test_other_spellings_of_this_machine_are_names(resolving, written):
    resolving(**{written.replace(".", "_"): [["127.0.0.1"]]})
    with pytest.raises(UpstreamRefused):
        await addresses_of(written, 80)


async def test_a_burst_to_one_name_looks_it_up_once(monkeypatch, connected, open_http):
    asked, begun, answered = [], asyncio.Event(), asyncio.Event()

    async def getaddrinfo(host, port, **options):
        asked.append(host)
        begun.set()
        await answered.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    source = open_http("http://data.example", deadline=30.0)
    reads = [asyncio.ensure_future(source.get(ChunkReference(f"http://data.example/{n}"))) for n in range(60)]
    await begun.wait()
    # whoever asked first leaves
    reads.pop(0).cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert asked == ["data.example"]
    answered.set()
    for outcome in await asyncio.gather(*reads, return_exceptions=True):
        assert isinstance(outcome, UpstreamUnavailable)
    assert len(connected) >= 59


async def test_a_lookup_that_nobody_waits_for_any_more_ends_quietly(monkeypatch, open_http):
    begun, troubles = asyncio.Event(), []

    async def getaddrinfo(host, port, **options):
        begun.set()
        await asyncio.sleep(0.01)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    source = open_http("http://data.example")
    for closing in (False, True):
        reading = asyncio.ensure_future(source.get(ChunkReference("http://data.example/x")))
        await begun.wait()
        begun.clear()
        reading.cancel()
        if closing:
            await source.aclose()
        await asyncio.sleep(0.03)
        gc.collect()
    assert troubles == []


@pytest.fixture
async def connected(monkeypatch):
    """What the running loop is told to connect to, which then fails."""
    told = []

    async def create_connection(factory, host, port, *, ssl, server_hostname):
        told.append((host, port, server_hostname))
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    return told


async def test_what_was_checked_is_what_is_connected_to(resolving, connected, open_http):
    # another look-up by whoever connects would be told another address
    resolver = resolving(rebound_example=[["192.0.2.1", "192.0.2.2"], ["127.0.0.1"]])
    url = "https://rebound.example:8443"
    with pytest.raises(UpstreamRefused, match="not contacted"):
        await open_http(url).get(ChunkReference(f"{url}/x"))
    assert connected == [("192.0.2.1", 8443, "rebound.example"), ("192.0.2.2", 8443, "rebound.example")]
    # the second attempt was the first to be refused, and it was the last
    assert resolver.asked == ["rebound.example"] * 2


async def test_an_unknown_name_is_unavailable(resolving, open_http):
    resolving()
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await open_http("https://data.example").get(ChunkReference("https://data.example/x"))


async def test_the_next_address_is_tried_where_one_fails(resolving, start_server, response, open_http):
    server = await start_server(lambda _: response(200, [], b"x"))
    # nobody listens on ::1 there
    resolving(localhost=[["::1", "127.0.0.1"]])
    url = f"http://localhost:{server.port}"
    assert await open_http(url).get(ChunkReference(f"{url}/x")) == b"x"


async def test_a_redirect_to_a_listed_name_that_leads_inside_is_refused(
    resolving, start_server, response, open_http
):
    inside = await start_server(lambda _: response(200, [], b"inside"))
    named = f"http://data.example:{inside.port}"
    first = await start_server(lambda _: response(302, [f"Location: {named}/x"]))
    resolving(data_example=[["127.0.0.1"]])
    with pytest.raises(UpstreamRefused, match="not contacted"):
        await open_http(first.url, named).get(ChunkReference(f"{first.url}/x"))
    assert inside.requests == []
