"""An application of hypercorn at ADDRESS PORT: /N answers with N bytes; FILE gets a line of JSON for each request."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

LOG = open(sys.argv[3], "w", buffering=1)  # noqa: SIM115


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    got, more = 0, True
    while more:
        message = await receive()
        got += len(message.get("body", b""))
        more = message.get("more_body", False)
    size = int(scope["path"].rpartition("/")[2])
    status = 200 if size % 7 else 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % size)]})
    for at in range(0, size, 10_000):
        await send({"type": "http.response.body", "body": bytes(min(10_000, size - at)), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    line = [scope["method"], scope["raw_path"].decode(), status, got, size, scope["http_version"]]
    LOG.write(json.dumps(line) + "\n")


config = Config()
config.bind = [f"{sys.argv[1]}:{sys.argv[2]}"]
config.accesslog = config.errorlog = None
asyncio.run(serve(application, config))  # type: ignore[arg-type]
