"""A worker's sandbox, and in it handshakes with all kinds of certificates: says as JSON which of them wanted a file.

usage: fenced_handshakes.py RUN_DIR   RUN_DIR has config.json and the page.
"""

from __future__ import annotations

import datetime
import random
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from quic_packets import DRAFT_29, V1, V2, crypto, initial
from tls_bytes import USUAL, client_hello, full_1_2, full_1_3, server_hello_1_3

from workers.quic.context import QuicContext
from workers.quic.table import QuicTable
from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake
from workers.tls.handshake_json import handshake_json

sys.path.append(str(Path(__file__).parent))  # last: a module there has the name of one of the standard library
from fenced_bodies import main

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def certificates() -> list[bytes]:
    """DER of certificates with keys of all kinds."""
    keys: list[Key] = [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()]
    keys += [ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.BrainpoolP256R1)]
    keys.append(ed448.Ed448PrivateKey.generate())
    made = []
    for key in keys:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ä.example")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(datetime.datetime(2024, 1, 1))
        builder = builder.not_valid_after(datetime.datetime(2050, 1, 1))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("b.example")]), critical=False)
        edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        made.append(builder.sign(key, None if edwards else hashes.SHA256()).public_bytes(Encoding.DER))
    return made


def look(context: TlsContext, turns: list[tuple[int, bytes]]) -> None:
    """Read one handshake to its event."""
    handshake = Handshake(context)
    for side, data in turns:
        handshake.feed(side, data)
    handshake.finish()
    handshake_json(handshake)


def look_at_quic(table: QuicTable, key: int, version: int) -> None:
    """Read one handshake of QUIC to its event."""
    number = bytes((key % 256,)) * 8
    table.feed(key, 0, initial(crypto(0, client_hello(USUAL)), number, version=version))
    answer = initial(crypto(0, server_hello_1_3()), number, server=True, version=version, target=b"")
    assert table.feed(key, 1, answer) == "known"
    table.connection.facts()


if __name__ == "__main__":
    rng = random.Random(19)
    context = TlsContext(certificates=Certificates(max_per_second=1 << 20), ja3=True)
    table = QuicTable(QuicContext(context))
    ders = certificates()
    damaged = []
    for _ in range(2000):
        der = bytearray(rng.choice(ders))
        for _ in range(rng.randrange(1, 4)):
            der[rng.randrange(len(der))] = rng.randrange(256)
        damaged.append(bytes(der[: rng.choice((len(der), len(der), rng.randrange(len(der))))]))
    jobs: list[Callable[[], object]] = [lambda: look(context, full_1_3())]
    jobs += [lambda der=der: look(context, full_1_2(der)) for der in ders + damaged]  # type: ignore[misc]
    jobs += [lambda one=one: look_at_quic(table, *one) for one in enumerate((V1, V2, DRAFT_29))]  # type: ignore[misc]
    main(Path(sys.argv[1]), jobs)
