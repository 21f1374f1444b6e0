"""COUNT WebSocket connections of `websockets` to ADDRESS PORT; a line of JSON for each says what it sent and received.

--deflate: it offers compression. --hold: the connections stay open, and another line, "open", is printed. --tls: inside
TLS, with any certificate; SSLKEYLOGFILE names the key log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
from collections import Counter
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

HELD_S = 240  # longer than the test may take; it kills this process
WORDS = ("GET ", "hello ", "\r\n", "ä", "0", "\x00")


def messages(seed: int) -> list[str | bytes | list[bytes]]:
    """Text, binary data, and binary data in fragments."""
    chance = random.Random(seed)
    made: list[str | bytes | list[bytes]] = []
    for _ in range(chance.randrange(1, 20)):
        size = chance.choice((0, 1, 125, 126, 4000, 65535, 65536, 150_000))
        kind = chance.randrange(4)
        if kind == 0:
            made.append("".join(chance.choices(WORDS, k=min(size, 5000))))
        elif kind == 1:
            made.append(chance.randbytes(size))
        elif kind == 2:
            made.append(bytes(size))
        else:
            made.append([chance.randbytes(size // 4) for _ in range(3)])
    return made


def count(counts: Counter[str], message: str | bytes) -> None:
    counts["messages"] += 1
    counts["text" if isinstance(message, str) else "binary"] += 1
    counts["decoded_bytes"] += len(message.encode() if isinstance(message, str) else message)


async def one(connection: ClientConnection, seed: int) -> dict[str, Any]:
    """Send messages and pings, and await each message back."""
    client: Counter[str] = Counter(messages=0, text=0, binary=0, decoded_bytes=0, ping=0)
    server = Counter(client)
    server["pong"] = client.pop("pong", 0)
    for message in messages(seed):
        await connection.send(message)
        count(client, b"".join(message) if isinstance(message, list) else message)
        count(server, await connection.recv())
        if seed % 3 == 0:
            await (await connection.ping())
            client["ping"] += 1
            server["pong"] += 1
    port = connection.local_address[1]
    return {"port": port, "path": f"/echo?n={seed}", "client": client, "server": server, "code": 1000 + seed % 2}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    context = None
    if options.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = f"[{options.address}]" if ":" in options.address else options.address

    async def talk(seed: int) -> tuple[ClientConnection, dict[str, Any]]:
        connection = await connect(
            f"{'wss' if options.tls else 'ws'}://{host}:{options.port}/echo?n={seed}",
            ssl=context,
            compression="deflate" if options.deflate else None,
            max_size=None,
            ping_interval=None,
            proxy=None,
        )
        return connection, await one(connection, seed)

    done = await asyncio.gather(*(talk(seed) for seed in range(options.count)))
    for _, said in done:
        print(json.dumps(said), flush=True)
    if options.hold:
        print("open", flush=True)
        await asyncio.sleep(HELD_S)
    await asyncio.gather(*(connection.close(said["code"]) for connection, said in done))


asyncio.run(main())
