"""A WebSocket server of `websockets` at ADDRESS PORT that returns each message; --deflate: it agrees on compression."""

from __future__ import annotations

import argparse
import asyncio

from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--deflate", action="store_true")
    options = parser.parse_args()
    compression = "deflate" if options.deflate else None
    async with serve(
        echo, options.address, options.port, compression=compression, max_size=None, ping_interval=None
    ) as server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
