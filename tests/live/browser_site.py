"""A site for a browser:  browser_site.py PORT WEBSOCKET_PORT [CERTIFICATE KEY]

Its page fetches /item/0 … /item/5, talks to the WebSocket server of the same host when it is read in the clear, and
sends what it counted to /done. Prints "ready", a line of JSON for each exchange, and the browser's own count at /done.
"""

from __future__ import annotations

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html><title>site</title><link rel="icon" href="data:,"><script>
const talk = () => new Promise((resolve, reject) => {
  const count = {messages: 0, text: 0, binary: 0, bytes: 0};
  const socket = new WebSocket(`ws://${location.hostname}:WEBSOCKET_PORT/talk`);
  const sent = ["one", new Uint8Array(3000), "zwei", new Uint8Array(70000), "\\u20ac"];
  socket.binaryType = "arraybuffer";
  socket.onerror = reject;
  socket.onopen = () => sent.forEach((one) => socket.send(one));
  socket.onmessage = ({data}) => {
    count.messages += 1;
    count[typeof data === "string" ? "text" : "binary"] += 1;
    count.bytes += typeof data === "string" ? new TextEncoder().encode(data).length : data.byteLength;
    if (count.messages === sent.length) socket.close(1000);
  };
  socket.onclose = ({code}) => resolve({...count, code});
});
(async () => {
  for (const number of [0, 1, 2, 3, 4, 5]) await (await fetch(`/item/${number}`)).arrayBuffer();
  const count = location.protocol === "http:" ? await talk() : {};
  await fetch("/done", {method: "POST", body: JSON.stringify(count)});
})();
</script>"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    websocket_port = ""

    def do_GET(self) -> None:
        """The page, or one of its items: the number says how large."""
        name, _, number = self.path.removeprefix("/").partition("/")
        page = PAGE.replace("WEBSOCKET_PORT", self.websocket_port).encode()
        self.reply(page if name == "" else b"x" * (10_000 * int(number)))

    def do_POST(self) -> None:
        """The browser's own count."""
        told = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(b"")
        print(told.decode(), flush=True)

    def reply(self, body: bytes) -> None:
        """Answer, and print what was answered."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        exchange = {"method": self.command, "path": self.path, "bytes": len(body), "port": self.client_address[1]}
        print(json.dumps(exchange), flush=True)

    def log_message(self, *_: object) -> None:
        """Print nothing else."""


def main() -> None:
    port, Handler.websocket_port, *identity = sys.argv[1:]
    server = ThreadingHTTPServer(("", int(port)), Handler)
    if identity:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*identity)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("ready", flush=True)
    server.serve_forever()


main()
