"""A web server with an answer of every framing:  web_server.py PORT

    /length/N  /chunked/N  /until-close/N   N bytes, framed so       /echo     what was sent, back
    /missing 404   /empty 204   /unchanged 304   /moved 302          /slow/MS  after so many milliseconds

HTTP/1.1 with keep-alive; every path answers every method, HEAD without its body. Says "ready" once it listens.
"""

from __future__ import annotations

import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATTERN = b"0123456789abcdef" * 4096
CHUNK = 5000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60

    def answer(self) -> None:
        """Any method, any path."""
        upload = self.upload()
        path, _, query = self.path.partition("?")
        _, name, *rest = path.split("/")
        size = int(rest[0]) if rest else 0
        if name in ("length", "chunked", "until-close"):
            body = (PATTERN * (size // len(PATTERN) + 1))[:size]
            self.reply(200, body, name)
        elif name == "echo":
            self.reply(201 if self.command == "PUT" else 200, upload, "length")
        elif name == "slow":
            time.sleep(min(size, 2000) / 1000)
            self.reply(200, b"late\n", "length")
        elif name == "moved":
            self.reply(302, b"elsewhere\n", "length", Location=f"/length/777?{query}-moved")
        elif name in ("empty", "unchanged"):
            self.reply(204 if name == "empty" else 304, b"", "")
        else:
            self.reply(404, b"there is no such thing\n", "length")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def handle_expect_100(self) -> bool:
        """100 Continue, at once."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def upload(self) -> bytes:
        """The body of the request."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def reply(self, status: int, body: bytes, framing: str, **fields: str) -> None:
        """The response, its body framed by length, chunks, the end of the connection, or not there at all."""
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        elif framing == "until-close":
            self.send_header("Connection", "close")
        elif framing == "length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """On every address of the host, of both families."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that went away."""


if __name__ == "__main__":
    with Server(("::", int(sys.argv[1])), Handler) as server:
        print("ready", flush=True)
        server.serve_forever()
