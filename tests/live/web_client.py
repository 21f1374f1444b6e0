"""A web client that writes down what it did:  web_client.py ADDRESS PORT [options]

Several connections at a time, each with several requests of every kind. At the end standard output gets a JSON list of
what the client itself knows of each transaction. With --until-eof it goes on until its standard input ends.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MOST = 20_000  # requests per thread, whatever else is asked
Asked = tuple[str, str, bytes, bool]  # method, path, body, chunked


def kinds(rng: random.Random, largest: int) -> Iterator[Asked]:
    """Requests of every kind, for ever."""
    while True:
        size = rng.randrange(largest)
        yield "GET", f"/length/{size}", b"", False
        yield "GET", f"/chunked/{size}", b"", False
        yield "POST", "/echo", b"p" * rng.randrange(1, largest), False
        yield "HEAD", f"/length/{size}", b"", False
        yield "GET", "/missing", b"", False
        yield "PUT", "/echo", b"q" * rng.randrange(1, largest), True
        yield "GET", "/empty", b"", False
        yield "GET", "/unchanged", b"", False
        yield "GET", "/moved", b"", False
        yield "DELETE", "/empty", b"", False
        yield "GET", "/slow/5", b"", False
        yield "GET", "/chunked/0", b"", False
        yield "GET", f"/until-close/{size}", b"", False


class Client:
    """One thread: connection after connection, `each` requests in a connection unless the server ends it before."""

    def __init__(self, options: argparse.Namespace, number: int) -> None:
        self.options = options
        self.number = number
        self.done: list[dict[str, Any]] = []
        self.kinds = kinds(random.Random(number), options.largest)

    def work(self, stop: threading.Event) -> list[dict[str, Any]]:
        """Make the requests until all are made or `stop` is set, and return their records."""
        options = self.options
        most = MOST if options.until_eof else options.requests
        while len(self.done) < most and not stop.is_set():
            connection = http.client.HTTPConnection(options.address, options.port, timeout=120)
            connection.connect()
            port = connection.sock.getsockname()[1]
            for index in range(min(options.each, most - len(self.done))):
                self.ask(connection, port, index)
                time.sleep(options.pause)
                if connection.sock is None or stop.is_set():
                    break
            connection.close()
        return self.done

    def ask(self, connection: http.client.HTTPConnection, port: int, index: int) -> None:
        """One transaction."""
        method, path, body, chunked = next(self.kinds)
        target = f"{path}?n={self.options.name}-{self.number}-{len(self.done)}"
        pieces = (body[at : at + 3000] for at in range(0, len(body), 3000))
        connection.request(method, target, pieces if chunked else body or None, encode_chunked=chunked)
        response = connection.getresponse()
        received = response.read()
        self.done.append(
            {
                "target": target,
                "method": method,
                "status": response.status,
                "request_body": len(body),
                "response_body": len(received),
                "client_port": port,
                "index": index,
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--name", default="a", help="makes targets unique")
    parser.add_argument("--connections", type=int, default=8, help="at a time")
    parser.add_argument("--requests", type=int, default=40, help="of each thread")
    parser.add_argument("--each", type=int, default=15, help="requests in a connection")
    parser.add_argument("--largest", type=int, default=60_000, help="bytes of a body")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two requests")
    parser.add_argument("--until-eof", action="store_true", help="go on until standard input ends")
    options = parser.parse_args()
    stop = threading.Event()
    with ThreadPoolExecutor(options.connections) as pool:
        jobs = [pool.submit(Client(options, number).work, stop) for number in range(options.connections)]
        if options.until_eof:
            sys.stdin.read()
            stop.set()
        done = [one for job in jobs for one in job.result()]
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
