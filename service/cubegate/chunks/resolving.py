"""Where a host's name leads, looked up once and held to what may be connected to."""

from __future__ import annotations

import asyncio
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from cubegate.chunks.address import Address
from cubegate.errors import UpstreamRefused

# where clouds tell their machines who they are, beside the link-local addresses
_METADATA = frozenset(map(ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")))
_NAT64 = ip_network("64:ff9b::/96")
_THIS_NETWORK = ip_network("0.0.0.0/8")


def host_and_port(address: Address) -> tuple[str, int]:
    """Return the host of an http(s) address, without brackets, and its port."""
    host, _, port = address.authority.rpartition(":")
    if not port.isdigit():
        host, port = address.authority, ""
    return host.strip("[]"), int(port or (443 if address.scheme == "https" else 80))


class Lookups:
    """Look-ups of one event loop: those who ask for the same name at the same time share one."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def addresses_of(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of `host`; see the function of this name."""
        running = self._running.get((host, port))
        if running is None:
            running = asyncio.ensure_future(addresses_of(host, port))
            self._running[host, port] = running
            running.add_done_callback(lambda ended: self._end(host, port, ended))
        # who leaves must not end it for the others
        return await asyncio.shield(running)

    def cancel(self) -> None:
        """End all that run."""
        for running in self._running.values():
            running.cancel()

    def _end(self, host: str, port: int, ended: asyncio.Task[list[str]]) -> None:
        self._running.pop((host, port), None)
        if not ended.cancelled():
            # nobody may be left to be told of an error
            ended.exception()


async def addresses_of(host: str, port: int) -> list[str]:
    """Return the IP addresses of `host`, of which none may be this machine, its link or many machines.

    A literal address is returned as it is, and `localhost` may be this machine: whoever lists them
    under upstreams means them.

    Raises:
        UpstreamRefused: a name leads where only a literal address may; nobody was contacted.
        OSError: the name is not known.
    """
    if is_literal(host):
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in addresses:
        address = _parsed(text)
        if address is None or (
            is_inner(address) and not (host == "localhost" and _unwrapped(address).is_loopback)
        ):
            raise UpstreamRefused(
                f"{host} resolves to this machine, to its own link or to no single machine; it was not "
                "contacted. If it is meant, list the literal address under upstreams."
            )
    if not addresses:
        raise OSError("a name without an address")
    return addresses


def is_literal(host: str) -> bool:
    """Whether `host` is an IP address as such."""
    return _parsed(host) is not None


def is_inner(address: IPv4Address | IPv6Address) -> bool:
    """Whether `address` is this machine, on its own link, of a cloud's metadata service, or many machines.

    Addresses of private networks are not: data may well be there.
    """
    plain = _unwrapped(address)
    return (
        address in _METADATA
        or plain in _METADATA
        or plain.is_loopback
        or plain.is_link_local
        or plain.is_multicast
        or plain.is_unspecified
        or (isinstance(plain, IPv4Address) and (plain in _THIS_NETWORK or plain.is_reserved))
    )


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, where it does for one."""
    if isinstance(address, IPv4Address):
        return address
    if isinstance(_NAT64, IPv6Network) and address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if int(address) >> 32 == 0 and int(address) > 1:
        # the deprecated compatible form
        return IPv4Address(int(address))
    return address.ipv4_mapped or address.sixtofour or address


# asked for every connection
@lru_cache(maxsize=1024)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
