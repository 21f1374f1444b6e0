"""Real nats-server processes on loopback, one or several in a cluster, with a stream as ops/forward/ defines it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from eventually import PATIENCE_S, eventually
from feed_process import ROOT
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js.errors import APIError

Result = TypeVar("Result")
STREAM = json.loads((ROOT / "ops" / "forward" / "jetstream.json").read_text())


def nats_server() -> str:
    """The program; skips the test where there is none."""
    found = os.environ.get("NATS_SERVER") or shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        pytest.skip("needs nats-server (Debian's package of that name), on PATH or named by NATS_SERVER")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Server:
    """One nats-server. A with block ends it."""

    def __init__(self, directory: Path, port: int, *more: str, jetstream: bool = True, name: str = "n0") -> None:
        self.directory = directory
        self.port = port
        self.name = name
        directory.mkdir(exist_ok=True)
        lines = [f"server_name: {name}", f"listen: 127.0.0.1:{port}", *more]
        if jetstream:
            lines.append(f'jetstream {{ store_dir: "{directory}", max_mem: 64M, max_file: 200G }}')
        (directory / "server.conf").write_text("\n".join(lines))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [nats_server(), "-c", str(self.directory / "server.conf")], stdout=log, stderr=log
            )
        eventually(self._listens, f"nats-server at {self.port} listens")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Cluster:
    """Three servers that know each other."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(6)
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
        self.servers: list[Server] = []
        try:
            for index in range(3):
                name, about = f"n{index}", f"name: test, listen: 127.0.0.1:{ports[3 + index]}, routes: [{routes}]"
                self.servers.append(
                    Server(directory / name, ports[index], f"cluster {{ {about} }}", name=name),
                )
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()

    @property
    def living(self) -> list[Server]:
        return [server for server in self.servers if server.process is not None]

    def leader(self) -> Server:
        """Of the stream."""
        info = ask(self.living, lambda client: call(client, f"STREAM.INFO.{STREAM['name']}"))
        return next(server for server in self.servers if server.name == info["cluster"]["leader"])


async def call(client: Client, what: str, body: object = None) -> dict[str, Any]:
    """One question to the JetStream API, as the `nats` tool asks it; while a cluster elects, nobody answers."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                answer = await client.request(f"$JS.API.{what}", json.dumps(body).encode() if body else b"", timeout=2)
                found: dict[str, Any] = json.loads(answer.data)
                return found
            except (TimeoutError, NoRespondersError):
                await asyncio.sleep(0.1)


def ask(servers: list[Server], question: Callable[[Client], Awaitable[Result]], **options: Any) -> Result:
    """Connects to the servers and does something there."""

    async def life() -> Result:
        client = Client()
        await client.connect([f"nats://{server.address}" for server in servers], max_reconnect_attempts=3, **options)
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(life())


def make_stream(servers: list[Server], **other: object) -> None:
    """Makes the stream of ops/forward/jetstream.json; a young cluster needs a moment until it can."""

    async def make(client: Client) -> bool:
        return "error" not in await call(client, f"STREAM.CREATE.{STREAM['name']}", {**STREAM, **other})

    eventually(lambda: ask(servers, make), "the stream is made")


async def _reader(client: Client) -> Any:
    """Reads from the beginning. The cluster may give the reading to a server that is dead: then it is asked again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(TimeoutError, APIError):
                return await client.jetstream(timeout=2).subscribe("appliance.>", ordered_consumer=True)


def message_ids(servers: list[Server]) -> list[str]:
    """The id of every message of the stream, in its order."""

    async def read(client: Client) -> list[str]:
        info = await call(client, f"STREAM.INFO.{STREAM['name']}")
        count, found = info["state"]["messages"], []
        if count:
            subscription = await _reader(client)
            while len(found) < count:
                message = await subscription.next_msg(timeout=PATIENCE_S)
                found.append(message.headers["Nats-Msg-Id"])
        return found

    return ask(servers, read)
