"""A WebSocket server of `websockets` at ADDRESS PORT that returns each message.

--deflate: it agrees on compression. --tls FOLDER: inside TLS, with cert.pem and key.pem of that folder.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--tls", type=Path)
    options = parser.parse_args()
    context = None
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls / "cert.pem", options.tls / "key.pem")
    compression = "deflate" if options.deflate else None
    async with serve(
        echo, options.address, options.port, ssl=context, compression=compression, max_size=None, ping_interval=None
    ) as server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
