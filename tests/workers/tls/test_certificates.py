"""Certificates: what is said of them, remembered, and how hostile ones end."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from tls_bytes import HANDSHAKE, SERVER, certificate, full_1_2, record

from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake

SECOND = 1_000_000_000
KEY = ec.generate_private_key(ec.SECP256R1())
START = datetime.datetime(2024, 1, 2, 3, 4, 5)


def made(common="a.example", names=(), extension=None, organisation="Ärger & Co"):
    """DER of a self-signed certificate."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common, _validate=False),
        ]
    )
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(7).not_valid_before(START).not_valid_after(START.replace(year=2034))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


NAMES = (
    x509.DNSName("a.example"),
    x509.DNSName("*.a.example"),
    x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
    x509.RFC822Name("who@a.example"),
    x509.UniformResourceIdentifier("https://a.example/"),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
)
DER = made(names=NAMES)


def test_what_a_certificate_says():
    assert Certificates().look_up(DER, 0).facts == {
        "hash": {"sha256": hashlib.sha256(DER).hexdigest().upper()},
        "subject": "CN=a.example,O=Ärger & Co,C=DE",
        "issuer": "CN=a.example,O=Ärger & Co,C=DE",
        "not_before": "2024-01-02T03:04:05Z",
        "not_after": "2034-01-02T03:04:05Z",
        "x509": {"alternative_names": ["a.example", "*.a.example", "192.0.2.1", "who@a.example", "https://a.example/"]},
    }


def test_a_handshake_gives_its_first_certificate():
    handshake = Handshake(TlsContext(certificates=Certificates()))
    for side, data in full_1_2(DER):
        handshake.feed(side, data)
    assert handshake.facts()["tls"]["server"] == Certificates().look_up(DER, 0).facts


def served(context, der, ts_ns=0):
    """Return the server's facts of a handshake with this certificate."""
    handshake = Handshake(context)
    for side, data in full_1_2(der):
        handshake.feed(side, data, ts_ns)
    return handshake.facts()["tls"]["server"]


def test_a_certificate_that_comes_again_is_found_without_its_digest():
    context = TlsContext(certificates=Certificates())
    other = made(common="b.example")
    alike = DER[:-40] + b"!" * 32 + DER[-8:]  # with the same last bytes
    for der in (DER, other, alike, DER, other, DER):
        assert served(context, der) == Certificates().look_up(der, 0).facts
    assert context.counts()["certificates_cached"] == 3
    assert context.counts()["certificates_parsed"] == 3


def test_a_certificate_beyond_the_rate_is_parsed_in_a_later_handshake():
    context = TlsContext(certificates=Certificates(max_per_second=1))
    served(context, b"first of all")
    assert set(served(context, DER)) == {"hash"}
    assert "subject" in served(context, DER, 2 * SECOND)


def test_certificates_of_the_client_are_left_alone():
    handshake = Handshake(TlsContext(certificates=Certificates()))
    turns = full_1_2()
    turns[2] = (turns[2][0], record(HANDSHAKE, certificate(DER)) + turns[2][1])
    for side, data in turns:
        handshake.feed(side, data)
    assert "server" not in handshake.facts()["tls"]


@pytest.mark.parametrize("chain", [(), (b"",)])
def test_an_empty_chain_is_no_certificate(chain):
    handshake = Handshake(TlsContext(certificates=Certificates()))
    handshake.feed(*full_1_2()[0])
    handshake.feed(*full_1_2()[1])
    handshake.feed(SERVER, record(HANDSHAKE, certificate(*chain)))
    assert "server" not in handshake.facts()["tls"]


def test_a_certificate_is_parsed_once():
    certificates = Certificates()
    assert certificates.look_up(DER, 0).facts is certificates.look_up(DER, SECOND).facts
    assert certificates.counts()["certificates_parsed"] == 1
    assert certificates.counts()["certificates_cached"] == 1


def test_the_cache_is_bounded():
    certificates = Certificates(max_entries=2)
    for der in (b"1", b"2", b"3", b"2", b"1"):
        certificates.look_up(der, 0)
    assert certificates.counts()["certificates_failed"] == 4
    assert certificates.counts()["certificates_cached"] == 1


def test_the_rate_of_parsing_is_bounded_by_the_time_of_frames():
    certificates = Certificates(max_per_second=3)
    for number in range(10):
        certificates.look_up(bytes([number]), SECOND)
    assert certificates.counts()["certificates_skipped"] == 7
    certificates.look_up(b"later", 2 * SECOND)
    assert certificates.counts()["certificates_skipped"] == 7


def test_a_skipped_certificate_is_parsed_when_it_comes_again():
    certificates = Certificates(max_per_second=1)
    certificates.look_up(b"first", 0)
    assert set(certificates.look_up(DER, 0).facts) == {"hash"}
    assert "subject" in certificates.look_up(DER, SECOND).facts


def test_a_clock_that_goes_back_earns_nothing():
    certificates = Certificates(max_per_second=1)
    certificates.look_up(b"1", 5 * SECOND)
    certificates.look_up(b"2", 0)
    assert certificates.counts()["certificates_skipped"] == 1


def test_names_are_bounded_in_number_and_length():
    names = [x509.DNSName("b" * 60 + ".example"), *(x509.DNSName(f"{number}.example") for number in range(500))]
    certificates = Certificates(max_values=3, max_name_bytes=40)
    facts = certificates.look_up(made(names=names, organisation="o" * 60), 0).facts
    assert facts["x509"] == {"alternative_names": ["0.example", "1.example", "2.example"]}
    assert "subject" not in facts
    assert certificates.counts()["certificate_values_cut"] == 1 + 497 + 2


def test_an_extension_that_is_no_valid_one_costs_only_itself():
    bad = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x05nope!")
    facts = Certificates().look_up(made(extension=bad), 0).facts
    assert "x509" not in facts
    assert facts["subject"] == "CN=a.example,O=Ärger & Co,C=DE"


@pytest.mark.parametrize(
    "der", [b"", b"\x30", b"\x30\x80\0\0", b"\x30\x84\xff\xff\xff\xff", DER[:-1], DER + b"\0", b"\x30" * 9000]
)
def test_bytes_that_are_no_certificate_leave_their_digest(der):
    certificates = Certificates()
    assert certificates.look_up(der, 0).facts == {"hash": {"sha256": hashlib.sha256(der).hexdigest().upper()}}
    assert certificates.counts()["certificates_failed"] == 1


@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_damage_gets_out(changes):
    der = bytearray(DER)
    for at, value in changes:
        der[at] = value
    facts = Certificates().look_up(bytes(der), 0).facts
    assert all(isinstance(facts[name], str) for name in facts if name not in ("hash", "x509"))


@given(st.binary(max_size=400))
def test_no_bytes_get_out(der):
    Certificates(max_per_second=1 << 20).look_up(der, 0)
