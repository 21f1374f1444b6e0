"""A QUIC server of aioquic at ADDRESS PORT, with a certificate of its own; --retry: it validates addresses first."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import tempfile
from pathlib import Path

from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def certify(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "quic.example")])
    start = datetime.datetime(2024, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start.replace(year=2044))
    certificate, private = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--retry", action="store_true")
    options = parser.parse_args()
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3", "hq-interop"])
    configuration.supported_versions = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]
    with tempfile.TemporaryDirectory() as directory:
        configuration.load_cert_chain(*certify(Path(directory)))
    await serve(options.address, options.port, configuration=configuration, retry=options.retry)
    print("ready", flush=True)
    await asyncio.sleep(3600)  # the test ends it


asyncio.run(main())
