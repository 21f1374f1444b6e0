"""COUNT WebSocket connections over one connection of HTTP/2 (RFC 8441) to ADDRESS PORT, made with h2 and wsproto.

A line of JSON for each says what it sent and received.
"""

from __future__ import annotations

import json
import random
import socket
import sys
from collections import Counter

import h2.connection
import h2.events
import wsproto
import wsproto.events as ws
from h2.config import H2Configuration
from h2.settings import SettingCodes

WAITS_S = 120


class Client:
    """A connection of HTTP/2 and the WebSocket connections in its streams."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection((address, port), timeout=WAITS_S)
        self.http2 = h2.connection.H2Connection(H2Configuration(client_side=True))
        self.streams: dict[int, wsproto.Connection] = {}
        self.waiting: dict[int, list[str | bytes]] = {}
        self.counts: dict[int, dict[str, Counter[str]]] = {}
        self.codes: dict[int, int] = {}
        self.http2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what HTTP/2 has to say."""
        self.socket.sendall(self.http2.data_to_send())

    def read(self) -> list[h2.events.Event]:
        """Return the next events."""
        data = self.socket.recv(65536)
        assert data, "the server has closed the connection"
        found = self.http2.receive_data(data)
        self.flush()
        return found

    def open(self, path: str, messages: list[str | bytes]) -> None:
        """Ask for a WebSocket connection."""
        stream = self.http2.get_next_available_stream_id()
        self.http2.send_headers(
            stream,
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "streams.example"),
                ("sec-websocket-version", "13"),
            ],
        )
        self.streams[stream] = wsproto.Connection(wsproto.ConnectionType.CLIENT)
        self.waiting[stream] = messages
        self.counts[stream] = {side: Counter(messages=0, text=0, binary=0, bytes=0) for side in ("client", "server")}
        self.flush()

    def say(self, stream: int) -> None:
        """Send the next message of a stream, or the Close frame behind the last."""
        if self.waiting[stream]:
            message = self.waiting[stream].pop(0)
            kind: ws.Event = ws.TextMessage(data=message) if isinstance(message, str) else ws.BytesMessage(data=message)
            self.count(stream, "client", message)
            self.http2.send_data(stream, self.streams[stream].send(kind))
        else:
            self.http2.send_data(stream, self.streams[stream].send(ws.CloseConnection(code=1001)), end_stream=False)
            self.codes[stream] = 1001
        self.flush()

    def count(self, stream: int, side: str, message: str | bytes) -> None:
        """Count a message."""
        counts = self.counts[stream][side]
        counts["messages"] += 1
        counts["text" if isinstance(message, str) else "binary"] += 1
        counts["bytes"] += len(message.encode() if isinstance(message, str) else message)

    def run(self) -> None:
        """Talk until every stream is over."""
        left = set(self.streams)
        parts: dict[int, list[str | bytes]] = {stream: [] for stream in left}
        while left:
            for event in self.read():
                if isinstance(event, h2.events.ResponseReceived):
                    assert dict(event.headers)[b":status"] == b"200", event.headers
                    self.say(event.stream_id)
                elif isinstance(event, h2.events.DataReceived):
                    stream = event.stream_id
                    self.http2.acknowledge_received_data(event.flow_controlled_length, stream)
                    self.streams[stream].receive_data(event.data)
                    for frame in self.streams[stream].events():
                        if isinstance(frame, ws.CloseConnection):
                            left.discard(stream)  # without END_STREAM, of which hypercorn knows nothing any more
                        elif isinstance(frame, ws.Message):
                            parts[stream].append(frame.data)
                            if frame.message_finished:
                                whole = parts[stream][0][:0].join(parts[stream])  # type: ignore[arg-type]
                                parts[stream] = []
                                self.count(stream, "server", whole)
                                self.say(stream)
                elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                    left.discard(event.stream_id)
            self.flush()


def messages(seed: int) -> list[str | bytes]:
    """Text and binary data, small enough for the window of the connection."""
    chance = random.Random(seed)
    sizes = [chance.choice((0, 1, 125, 126, 2000)) for _ in range(chance.randrange(1, 6))]
    return ["ä" * (size // 2) if chance.random() < 0.5 else chance.randbytes(size) for size in sizes]


client = Client(sys.argv[1], int(sys.argv[2]))
while not client.http2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL):
    client.read()
for seed in range(int(sys.argv[3])):
    client.open(f"/echo?n={seed}", messages(seed))
client.run()
for place, (stream, counted) in enumerate(client.counts.items()):
    print(json.dumps({"path": f"/echo?n={place}", "code": client.codes.get(stream), **counted}))
client.http2.close_connection()
client.flush()
