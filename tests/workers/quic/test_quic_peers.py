"""Connections of aioquic, a QUIC of its own: what the table says is what both ends were told."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from workers.quic.context import QuicContext
from workers.quic.table import QuicTable
from workers.tls.context import TlsContext

configuration = pytest.importorskip("aioquic.quic.configuration")
connection = pytest.importorskip("aioquic.quic.connection")
packet = pytest.importorskip("aioquic.quic.packet")
tls = pytest.importorskip("aioquic.tls")

CLIENT, SERVER = ("192.0.2.1", 50000), ("192.0.2.2", 443)
VERSIONS = {"1": packet.QuicProtocolVersion.VERSION_1, "2": packet.QuicProtocolVersion.VERSION_2}


@pytest.fixture(scope="module")
def identity():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example")])
    start = datetime.datetime(2024, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start.replace(year=2044))
    return builder.sign(key, hashes.SHA256()), key


def fire(peer, now):
    """Let its timer go off if it is time."""
    due = peer.get_timer()
    if due is not None and due <= now:
        peer.handle_timer(now)


def talked(identity, *, retry=False, drop=(), **client):
    """(side, datagram)s of a connection up to its handshake; drop: places of datagrams that get lost."""
    ours = configuration.QuicConfiguration(is_client=True, verify_mode=0, **client)
    theirs = configuration.QuicConfiguration(is_client=False, alpn_protocols=["h3", "other"])
    theirs.supported_versions = list(VERSIONS.values())
    theirs.certificate, theirs.private_key = identity
    opener = connection.QuicConnection(configuration=ours)
    opener.connect(SERVER, now=0.0)
    answerer = None
    said = []
    now = 0.0
    for _ in range(40):
        now += 0.05
        fire(opener, now)
        for data, _ in opener.datagrams_to_send(now):
            said.append((0, data))
            if len(said) - 1 in drop:
                continue
            if answerer is None:
                first = packet.pull_quic_header(packet.Buffer(data=data), host_cid_length=8)
                answerer = connection.QuicConnection(
                    configuration=theirs, original_destination_connection_id=first.destination_cid
                )
            answerer.receive_datagram(data, CLIENT, now)
        if answerer is not None:
            fire(answerer, now)
            for data, _ in answerer.datagrams_to_send(now):
                said.append((1, data))
                if len(said) - 1 not in drop:
                    opener.receive_datagram(data, SERVER, now)
    return said


def event(said):
    table = QuicTable(QuicContext(TlsContext()))
    found = []
    for place, (side, data) in enumerate(said):
        if table.feed("key", side, data, place) == "known":
            found.append(table.connection.facts())
    assert table.finish() == []
    (only,) = found
    return only


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection(identity, version):
    said = talked(identity, server_name="a.example", alpn_protocols=["h3"], original_version=VERSIONS[version])
    facts = event(said)
    assert facts["appliance"]["quic"]["version"] == version
    assert facts["tls"]["client"]["server_name"] == "a.example"
    assert facts["appliance"]["tls"]["alpn_offered"] == ["h3"]
    assert facts["appliance"]["tls"]["ja4"].startswith("q13d")
    assert facts["tls"]["version"] == "1.3"


@pytest.mark.parametrize("suite", ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"])
def test_the_cipher(identity, suite):
    said = talked(identity, alpn_protocols=["h3"], cipher_suites=[getattr(tls.CipherSuite, suite)])
    assert event(said)["tls"]["cipher"] == f"TLS_{suite}"


def test_a_hello_over_several_datagrams(identity):
    """Two hundred protocols make a hello of some kilobytes."""
    names = [f"protocol-{number:03}" for number in range(200)] + ["h3"]
    said = talked(identity, server_name="a.example", alpn_protocols=names)
    assert event(said)["tls"]["client"]["server_name"] == "a.example"
    turned = [each for each in said if each[0] == 0][:3][::-1]
    table = QuicTable(QuicContext(TlsContext()))
    for place, (side, data) in enumerate(turned):
        table.feed("key", side, data, place)
    (ended,) = table.finish()
    assert ended.facts()["appliance"]["tls"]["ja4"] == event(said)["appliance"]["tls"]["ja4"]


@pytest.mark.parametrize("lost", [0, 1])
def test_what_is_sent_again(identity, lost):
    said = talked(identity, server_name="a.example", alpn_protocols=["h3"], drop=(lost,))
    assert event(said)["tls"]["client"]["server_name"] == "a.example"
