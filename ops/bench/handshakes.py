"""Measure the processor time of a TLS or QUIC handshake beside its frames, by its parts.

`python ops/bench/handshakes.py` prints a line for each: µs of the best of some rounds. Each handshake is one of a
browser (JA4, ECH, post-quantum sizes) in segments of 1400 bytes; the cost of the calls from Python is subtracted.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding  # noqa: E402
from quic_packets import ack, crypto, initial  # noqa: E402
from tls_bytes import (  # noqa: E402
    APPLICATION_DATA,
    HANDSHAKE,
    USUAL,
    client_hello,
    full_1_2,
    full_1_3,
    record,
    server_hello_1_3,
    supported_versions,
)

from workers.quic.context import QuicContext  # noqa: E402
from workers.quic.table import QuicTable  # noqa: E402
from workers.tls.certificate import Certificates  # noqa: E402
from workers.tls.context import TlsContext  # noqa: E402
from workers.tls.handshake import Handshake  # noqa: E402
from workers.tls.handshake_json import handshake_json  # noqa: E402

ROUNDS, TIMES, DATAGRAMS = 7, 20_000, 2000
SEGMENT = 1400
CIPHERS = [0x8A8A, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x9C, 0x9D]
MORE = [(0x1A1A, b""), (51, bytes(1200)), (23, b""), (0xFF01, b"\0"), (35, b""), (5, b"\1\0\0\0\0"), (18, b"")]
MORE += [(45, b"\1\1"), (27, b"\2\0\2"), (17513, b"\0\3\2h2"), (0xFE0D, bytes(200)), (0x2A2A, b"")]
HELLO = client_hello([*USUAL, supported_versions(0x3A3A, 0x0304, 0x0303), *MORE], ciphers=CIPHERS, session=bytes(32))


def certificate() -> bytes:
    """DER of a certificate with as many names as a large site has."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example")])
    start = datetime.datetime(2024, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start.replace(year=2040))
    names = x509.SubjectAlternativeName([x509.DNSName(f"{place}.a.example") for place in range(40)])
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def best(act: Callable[[], object], times: int = TIMES) -> float:
    """µs of processor time that one call takes at best."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(times):
            act()
        found.append((time.process_time() - start) / times * 1e6)
    return min(found)


def fed(context: TlsContext, turns: list[tuple[int, bytes]]) -> Handshake:
    handshake = Handshake(context)
    for side, data in turns:
        handshake.feed(side, data, 1)
    return handshake


def tls() -> None:
    context = TlsContext(certificates=Certificates())
    hello = record(HANDSHAKE, HELLO, 0x0301)
    opening = [(0, hello[at : at + SEGMENT]) for at in range(0, len(hello), SEGMENT)]
    for name, turns in (("1.3", full_1_3()), ("1.2", full_1_2(certificate()))):
        turns = [*opening, *turns[1:]]
        calls = best(lambda turns=turns: fed(context, [(side, b"") for side, _ in turns]))  # type: ignore[misc]
        whole = best(lambda turns=turns: fed(context, turns))  # type: ignore[misc]
        made = fed(context, turns)
        print(f"TLS {name} handshake      {whole - calls:6.2f} µs")
        print(f"TLS {name} its event      {best(lambda made=made: handshake_json(made)):6.2f} µs")  # type: ignore[misc]
    bulk = record(APPLICATION_DATA, bytes(16_000))[:SEGMENT]
    print(f"a segment behind it    {best(lambda: made.feed(0, bulk, 1)):6.2f} µs, with its call")


def quic() -> None:
    context = QuicContext(TlsContext(), max_initials_per_second=1_000_000_000)
    ids = [os.urandom(8) for _ in range(DATAGRAMS)]
    padding = bytes(1200 - 600)
    clients = [initial(crypto(0, HELLO[:560]) + padding, each) for each in ids]
    rest = [initial(crypto(560, HELLO[560:]), each, number=1) for each in ids]
    answers = [
        initial(ack() + crypto(0, server_hello_1_3()) + bytes(1000), each, server=True, target=b"") for each in ids
    ]
    forged = [data[:7] + b"forged!" + data[14:] for data in clients]
    for name, sides in {
        "first Initial": ((0, clients),),
        "first two": ((0, clients), (0, rest)),
        "a whole handshake": ((0, clients), (0, rest), (1, answers)),
        "a forged Initial": ((0, forged),),
    }.items():
        found = []
        for _ in range(ROUNDS):
            table = QuicTable(context)
            start = time.process_time()
            for side, datagrams in sides:
                for key, data in enumerate(datagrams):
                    table.feed(key, side, data, 1)
            found.append((time.process_time() - start) / DATAGRAMS * 1e6)
            table.finish()
        print(f"QUIC {name:18}{min(found):6.2f} µs")


if __name__ == "__main__":
    tls()
    quic()
