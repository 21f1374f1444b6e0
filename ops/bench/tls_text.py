"""TLS handshakes for the shape `tls`: no two connections have the same bytes."""

from __future__ import annotations

import datetime
import random
import struct
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA = 22, 20, 23
CLIENT_HELLO, SERVER_HELLO, CERTIFICATE = 1, 2, 11
SERVER_KEY_EXCHANGE, SERVER_HELLO_DONE, CLIENT_KEY_EXCHANGE = 12, 14, 16
RECORD_BYTES = 16_384
_TLS12, _TLS13 = 0x0303, 0x0304
_X25519, _X25519MLKEM768 = 0x001D, 0x11EC
_SHARES = {_X25519: 32, _X25519MLKEM768: 1216}  # bytes of the client's key share
_CIPHERS = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D)
_SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
_DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Site:
    """A server: its name and its certificates as a TLS 1.2 message."""

    name: str
    certificates: bytes


def make_sites(count: int) -> list[Site]:
    """Return servers with certificates of their own: the same in every call, because Ed25519 signs without chance."""
    sites = []
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example Issuing CA")])
    for number in range(count):
        name = f"www{number}.shop{number % 7}.example"
        key = Ed25519PrivateKey.from_private_bytes(struct.pack(">28xI", number + 1))
        names = x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName(f"static.{name}")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(_DAY)
            .not_valid_after(_DAY + datetime.timedelta(days=90))
            .add_extension(names, critical=False)
            # Real chains take 2 to 4 kB.
            .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.999.1"), bytes(1200)), critical=False)
            .sign(key, None)
        )
        der = certificate.public_bytes(Encoding.DER)
        chain = _vector(3, _vector(3, der) + _vector(3, der))
        sites.append(Site(name, _message(CERTIFICATE, chain)))
    return sites


def client_hello(rng: random.Random, name: str, *, browser: bool) -> bytes:
    """Return a record with a ClientHello of 250 bytes, or of some 1,700 with the key share that browsers send."""
    groups = _SHARES if browser else {_X25519: 32}
    shares = b"".join(struct.pack(">HH", group, size) + rng.randbytes(size) for group, size in groups.items())
    host = name.encode()
    extensions = (
        _extension(0, _vector(2, b"\x00" + _vector(2, host)))
        + _extension(23, b"")
        + _extension(10, _vector(2, struct.pack(">4H", _X25519MLKEM768, _X25519, 0x0017, 0x0018)))
        + _extension(11, b"\x01\x00")
        + _extension(16, _vector(2, b"\x02h2\x08http/1.1"))
        + _extension(13, _vector(2, struct.pack(">8H", *_SIGNATURES)))
        + _extension(51, _vector(2, shares))
        + _extension(43, _vector(1, struct.pack(">2H", _TLS13, _TLS12)))
    )
    ciphers = struct.pack(f">{len(_CIPHERS)}H", *_CIPHERS)
    body = (
        struct.pack(">H", _TLS12)
        + rng.randbytes(32)
        + _vector(1, rng.randbytes(32))
        + _vector(2, ciphers)
        + b"\x01\x00"
        + _vector(2, extensions)
    )
    return record(HANDSHAKE, _message(CLIENT_HELLO, body))


def server_flight(rng: random.Random, site: Site, *, old: bool) -> bytes:
    """Return the records that answer a ClientHello: with certificates in the clear if `old` (TLS 1.2)."""
    cipher = 0xC02F if old else 0x1301
    if old:
        extensions = _extension(23, b"") + _extension(16, _vector(2, b"\x02h2"))
    else:
        share = struct.pack(">H", _X25519) + _vector(2, rng.randbytes(32))
        extensions = _extension(43, struct.pack(">H", _TLS13)) + _extension(51, share)
    head = struct.pack(">H", _TLS12) + rng.randbytes(32) + _vector(1, rng.randbytes(32))
    hello = _message(SERVER_HELLO, head + struct.pack(">HB", cipher, 0) + _vector(2, extensions))
    if old:
        exchange = _message(SERVER_KEY_EXCHANGE, b"\x03\x00\x1d" + _vector(1, rng.randbytes(32)) + rng.randbytes(260))
        done = _message(SERVER_HELLO_DONE, b"")
        return record(HANDSHAKE, hello) + record(HANDSHAKE, site.certificates) + record(HANDSHAKE, exchange + done)
    hidden = rng.randbytes(len(site.certificates) + 400)
    return record(HANDSHAKE, hello) + record(CHANGE_CIPHER_SPEC, b"\x01") + record(APPLICATION_DATA, hidden)


def client_finish(rng: random.Random, *, old: bool) -> bytes:
    """Return the client's last records of a handshake."""
    change = record(CHANGE_CIPHER_SPEC, b"\x01")
    if old:
        exchange = record(HANDSHAKE, _message(CLIENT_KEY_EXCHANGE, _vector(1, rng.randbytes(32))))
        return exchange + change + record(HANDSHAKE, rng.randbytes(40))
    return change + record(APPLICATION_DATA, rng.randbytes(53))


def server_finish(rng: random.Random) -> bytes:
    """Return the server's last records of a handshake of TLS 1.2."""
    return record(CHANGE_CIPHER_SPEC, b"\x01") + record(HANDSHAKE, rng.randbytes(40))


def record(kind: int, data: bytes) -> bytes:
    """Return one record (RFC 8446, section 5.1)."""
    return struct.pack(">BHH", kind, _TLS12, len(data)) + data


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _vector(3, body)


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">H", kind) + _vector(2, data)


def _vector(length_bytes: int, data: bytes) -> bytes:
    return len(data).to_bytes(length_bytes, "big") + data
