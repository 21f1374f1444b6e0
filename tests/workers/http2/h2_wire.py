"""Frames of HTTP/2 as bytes, and random connections with what a reader of them must find."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hpack_encoder import Field, RandomEncoder, text, traffic

from workers.http2.driver import Http2Driver

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32
CLIENT, SERVER = 0, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113 section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(**values: int) -> bytes:
    names = {"header_table_size": 1, "max_frame_size": 5}
    return frame(
        SETTINGS, 0, 0, b"".join(names[n].to_bytes(2, "big") + v.to_bytes(4, "big") for n, v in values.items())
    )


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def headers(stream: int, block: bytes, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, block)


def read(said: list[tuple[int, bytes | int]], connection: Http2Driver | None = None) -> Http2Driver:
    """Feed (side, bytes, or the length of a gap) to a connection, and end it."""
    connection = connection or Http2Driver()
    for place, (side, what) in enumerate(said, 1):
        if isinstance(what, int):
            connection.gap(side, what, place)
        else:
            connection.data(side, what, place)
    connection.close(CLIENT)
    connection.close(SERVER)
    connection.end()
    return connection


def told(connection: Http2Driver) -> dict[int, dict[str, object]]:
    """{stream: what its exchange says}."""
    out: dict[int, dict[str, object]] = {}
    for exchange in connection.take():
        assert exchange.stream not in out, "one stream in two exchanges"
        names = ("request", "response", "request_trailers", "response_trailers")
        sections = {n: s and s.items() for n, s in zip(names, exchange.sections, strict=True)}
        halves = {f"{name}_{key}": value for side, name in enumerate(("client", "server"))
                  for key, value in exchange.half(side).items() if key not in ("first_ns", "last_ns")}  # fmt: skip
        out[exchange.stream] = {**sections, **halves, "interim": exchange.interim, "reset": exchange.reset}
    return out


@dataclass
class Said:
    """Content of one stream."""

    request: list[Field]
    response: list[Field]
    bodies: list[int]
    interim: list[int] = field(default_factory=list)
    trailers: list[Field] | None = None


class Talk:
    """A random connection: `said` are the frames of both sides in order, `streams` what they carry."""

    def __init__(self, seed: int, count: int | None = None, sensible: bool = False) -> None:
        self.chance = random.Random(seed)
        count = count or self.chance.randrange(1, 25)
        self.encoders = [RandomEncoder(self.chance, sensible=sensible) for _ in range(2)]
        requests, responses = traffic(self.chance, True, count), traffic(self.chance, False, count)
        self.said: list[tuple[int, bytes]] = [
            (CLIENT, PREFACE + settings()), (SERVER, settings()), (CLIENT, frame(SETTINGS, ACK, 0)),
        ]  # fmt: skip
        self.streams: dict[int, Said] = {}
        scripts = []
        for place, (request, response) in enumerate(zip(requests, responses, strict=True)):
            stream = 2 * place + 1
            bodies = [self.chance.choice((0, 0, 10, 3000)), self.chance.choice((0, 5, 700, 20000))]
            said = self.streams[stream] = Said(request, response, bodies)
            if self.chance.random() < 0.2:
                said.interim = [103]
            if self.chance.random() < 0.3:
                said.trailers = [(b"grpc-status", text(self.chance, 3))]
            scripts.append(self._script(stream, said))
        open_ones: list[list[tuple[int, object]]] = []
        while scripts or open_ones:
            if scripts and (not open_ones or self.chance.random() < 0.4):
                open_ones.append(scripts.pop(0))
                self._say(*open_ones[-1].pop(0))
                continue
            script = self.chance.choice(open_ones)
            if script:
                self._say(*script.pop(0))
            if not script:
                open_ones.remove(script)
            if self.chance.random() < 0.1:
                other = self.chance.choice(
                    (frame(PING, 0, 0, bytes(8)), frame(WINDOW_UPDATE, 0, 1, bytes(4)), frame(0x5F, 255, 7, b"new"))
                )
                self.said.append((self.chance.randrange(2), other))

    def _script(self, stream: int, said: Said) -> list[tuple[int, object]]:
        script: list[tuple[int, object]] = [(CLIENT, (stream, said.request, not said.bodies[0]))]
        script += self._body(CLIENT, stream, said.bodies[0], True)
        script += [(SERVER, (stream, [(b":status", b"%d" % code)], False)) for code in said.interim]
        bare = not said.bodies[1] and said.trailers is None
        script.append((SERVER, (stream, said.response, bare)))
        script += self._body(SERVER, stream, said.bodies[1], said.trailers is None)
        if said.trailers is not None:
            script.append((SERVER, (stream, said.trailers, True)))
        return script

    def _body(self, side: int, stream: int, size: int, last: bool) -> list[tuple[int, object]]:
        out: list[tuple[int, object]] = []
        while size:
            part = min(size, self.chance.choice((1, 100, 5000, 16000)))
            size -= part
            flags, payload = (END_STREAM if last and not size else 0), self.chance.randbytes(part)
            if self.chance.random() < 0.2:
                padding = self.chance.randrange(100)
                flags, payload = flags | PADDED, bytes([padding]) + payload + bytes(padding)
            out.append((side, frame(DATA, flags, stream, payload)))
        return out

    def _say(self, side: int, what: object) -> None:
        """A frame as it is, or a header list, which is encoded only now: tables follow the order on the wire."""
        if isinstance(what, bytes):
            self.said.append((side, what))
            return
        stream, fields, last = what  # type: ignore[misc]
        block, _ = self.encoders[side].block(fields)
        flags, before, padding = (END_STREAM if last else 0), b"", b""
        if self.chance.random() < 0.2:
            padding = bytes(self.chance.randrange(20))
            flags, before = flags | PADDED, bytes([len(padding)])
        if side == CLIENT and self.chance.random() < 0.2:
            flags, before = flags | PRIORITIZED, before + bytes(5)
        cuts = sorted(self.chance.randrange(len(block) + 1) for _ in range(self.chance.choice((0, 0, 0, 1, 3))))
        parts = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)]
        parts[0] = before + parts[0] + padding
        made = b"".join(
            frame(CONTINUATION if place else HEADERS, (0 if place else flags) | (place == len(parts) - 1) * END_HEADERS,
                  stream, part) for place, part in enumerate(parts))  # fmt: skip
        self.said.append((side, made))

    def expected(self) -> dict[int, dict[str, object]]:
        """Return the result of told() for the whole connection, as far as the streams decide it."""
        return {
            stream: {
                "request": said.request, "response": said.response, "request_trailers": None,
                "response_trailers": said.trailers, "interim": said.interim, "client_body_bytes": said.bodies[0],
                "server_body_bytes": said.bodies[1],
            }
            for stream, said in self.streams.items()
        }  # fmt: skip

    def pieces(self, chance: random.Random, usual: int = 1448) -> list[tuple[int, bytes]]:
        """The bytes in order, in segments of any size."""
        out: list[tuple[int, bytes]] = []
        for side, data in self.said:
            while data:
                size = chance.choice((1, 2, 7, 9, 20, usual, usual, usual))
                out.append((side, data[:size]))
                data = data[size:]
        return out
