"""COUNT connections of aioquic to ADDRESS PORT, one after the other; a line of JSON says what each was told."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite

VERSIONS = {"1": QuicProtocolVersion.VERSION_1, "2": QuicProtocolVersion.VERSION_2}
CIPHERS = (CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384, CipherSuite.CHACHA20_POLY1305_SHA256)


async def main(address: str, port: int, count: int) -> None:
    for number in range(count):
        version = "21"[number % 3 > 0]
        cipher = CIPHERS[number % len(CIPHERS)]
        alpn = ["h3", "hq-interop"] if number % 2 else ["hq-interop"]
        name = f"host-{number}.example"
        configuration = QuicConfiguration(alpn_protocols=alpn, server_name=name, verify_mode=ssl.CERT_NONE)
        configuration.cipher_suites = [cipher]
        configuration.original_version = VERSIONS[version]
        configuration.supported_versions = [VERSIONS[version]]
        async with connect(address, port, configuration=configuration) as client:
            await client.ping()
            local = client._transport.get_extra_info("sockname")[1]
        said = {"port": local, "server_name": name, "alpn": alpn, "cipher": f"TLS_{cipher.name}", "version": version}
        print(json.dumps(said), flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
