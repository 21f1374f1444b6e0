"""Every HTTP request in a capture file, read from its TCP stream as from a file; a thread for each direction.

usage: http_requests.py FILE.pcap"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPException, parse_headers
from typing import Any

from workers.assembly import Assembler, DataLost, Flow, ReaderStream, StreamPool


class Requests:
    """A factory of streams that look for requests: one line of text for each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.threads: list[threading.Thread] = []

    def new(self, net: Flow[str], transport: Flow[int]) -> ReaderStream:
        """A stream for one direction, read by a thread of its own."""
        stream = ReaderStream()
        self.threads.append(stream.serve(lambda stream: self.read(f"{net} {transport}", io.BufferedReader(stream))))
        return stream

    def read(self, name: str, stream: io.BufferedReader) -> None:
        """Reads request after request, up to the end, a loss, or something else than a request."""
        with suppress(DataLost, HTTPException, ValueError):
            while line := stream.readline(65536):
                method, target, version = line.decode("latin-1").split()
                if not version.startswith("HTTP/1."):
                    return
                headers = parse_headers(stream)
                body = stream.read(int(headers.get("Content-Length", 0)))
                self.lines.append(f"{name} {method} {headers.get('Host', '-')}{target} {len(body)} bytes")


def requests(packets: Iterable[Any]) -> list[str]:
    """The requests of some packets, in the order in which they were complete."""
    found = Requests()
    with Assembler(StreamPool(found)) as assembler:
        for packet in packets:
            assembler.assemble(packet)
    for thread in found.threads:
        thread.join()
    return found.lines


def main(path: str) -> int:
    """Prints them."""
    import appliance

    with appliance.open_offline(path) as handle:
        print("\n".join(requests(handle.packets())))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    raise SystemExit(main(sys.argv[1]))
