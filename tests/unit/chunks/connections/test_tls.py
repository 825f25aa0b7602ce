"""TLS: certificates are checked against what the machine trusts, and the host that was asked for."""

import datetime as dt
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cubegate.chunks.address import AllowList, parse_address
from cubegate.chunks.connections import ConnectionBroken
from cubegate.chunks.http import HTTPObjects
from cubegate.chunks.source import ChunkReference
from cubegate.errors import UpstreamUnavailable

BODY = bytes(range(10))
OK = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n" + BODY


def _certify(directory, host, *, days=1):
    """Write a certificate that vouches for itself, with its key; returns its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = directory / "certificate.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return file


def _context(file):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def test_a_certificate_that_nobody_vouches_for_is_refused(run, reading, answering, tmp_path):
    tls = _context(_certify(tmp_path, LOOPBACK))

    async def scenario():
        async with reading(answering(OK), tls=tls) as it:
            with pytest.raises(ssl.SSLCertVerificationError):
                await it.get()
            assert it.server.requests == []

    run(scenario())


def test_a_trusted_certificate_is_accepted_and_its_connection_kept(
    run, reading, answering, tmp_path, monkeypatch
):
    file = _certify(tmp_path, LOOPBACK)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    async def scenario():
        async with reading(answering(OK), tls=_context(file)) as it:
            for _ in range(3):
                assert (await it.get()).body == BODY
            assert it.server.connections == 1

    run(scenario())


@pytest.mark.parametrize(
    ("host", "days"),
    [
        (x509.DNSName("elsewhere.example"), 1),
        (x509.IPAddress(ipaddress.ip_address("127.0.0.2")), 1),
        (LOOPBACK, -1),
    ],
    ids=["name", "address", "expired"],
)
def test_a_certificate_of_another_host_or_time_is_refused(
    run, reading, answering, tmp_path, monkeypatch, *, host, days
):
    file = _certify(tmp_path, host, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    async def scenario():
        async with reading(answering(OK), tls=_context(file)) as it:
            with pytest.raises(ssl.SSLCertVerificationError):
                await it.get()
            assert it.server.requests == []

    run(scenario())


def test_an_object_behind_an_untrusted_certificate_cannot_be_reached(run, talking, answering, tmp_path):
    tls = _context(_certify(tmp_path, LOOPBACK))

    async def scenario():
        async with talking(answering(OK), tls=tls) as server:
            prefix = parse_address(server.url)
            source = HTTPObjects(prefix, AllowList([prefix]))
            with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
                await source.get(ChunkReference(f"{server.url}/x", 0, 10))
            await source.aclose()
            assert server.requests == []

    run(scenario())


def test_a_server_without_tls_is_refused(run, talking):
    async def talk(peer):
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def scenario():
        async with talking(talk) as server:
            server.url = server.url.replace("http:", "https:")
            prefix = parse_address(server.url)
            source = HTTPObjects(prefix, AllowList([prefix]))
            with pytest.raises(UpstreamUnavailable):
                await source.get(ChunkReference(f"{server.url}/x", 0, 10))
            await source.aclose()

    run(scenario())


def test_a_tls_connection_that_is_cut_ends_the_answer_with_an_error(run, reading, tmp_path, monkeypatch):
    file = _certify(tmp_path, LOOPBACK)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    async def talk(peer):
        await peer.request()
        await peer.send(OK[:-1])

    async def scenario():
        async with reading(talk, tls=_context(file)) as it:
            with pytest.raises(ConnectionBroken) as caught:
                await it.get()
            assert caught.value.in_body

    run(scenario())
