"""A server of hypercorn at ADDRESS PORT: WebSocket over HTTP/2 (RFC 8441) in clear text; it returns each message."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Return each message; a request of HTTP has an answer of two bytes."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    if scope["type"] != "websocket":
        raise NotImplementedError(scope["type"])
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
        else:
            return


config = Config()
config.bind = [f"{sys.argv[1]}:{sys.argv[2]}"]
config.accesslog = config.errorlog = None


async def ready() -> None:
    """Serve until the process is killed; say when the port listens."""
    task = asyncio.create_task(serve(application, config, shutdown_trigger=asyncio.Event().wait))  # type: ignore[arg-type]
    while not task.done():
        try:
            _, writer = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        break
    print("ready", flush=True)
    await task


asyncio.run(ready())
