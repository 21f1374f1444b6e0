"""Serve metrics over HTTP, as text for Prometheus.

The server answers /metrics, /healthz and / from threads of its own. A client that is slow or silent, or one of many,
costs a bounded number of connections for a bounded time. It keeps no other client out, and never stops the run.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest

from appliance.config.address import split_address
from appliance.runtime import log

# Not OpenMetrics, where the gauge appliance_tcp_flows and the counter appliance_tcp_flows_total would be one name.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_TIMEOUT_S = 10.0  # a request that takes longer is cut off
MAX_REQUESTS = 16  # at a time; Prometheus needs one
MAX_WAITING = 64  # connections whose request has not come
MAX_HEAD = 8192  # bytes of a request
THREAD_CHECK_INTERVAL_S = 0.02  # between two looks for a free thread
_INDEX = (
    b'<!doctype html><meta charset="utf-8"><title>appliance</title><h1>appliance</h1>'
    b'<p><a href="/metrics">metrics</a> <a href="/healthz">health</a></p>\n'
)


class MetricsServer:
    """Serves `collect` at /metrics and `healthy` at /healthz until `close`. Both are called from the server's threads.

    bind: HOST:PORT; port 0 takes any free one, `port` says which. healthy: (False, why) makes /healthz answer 503.
    Raises OSError with its errno when the address cannot be had."""

    def __init__(
        self, bind: str, collect: Callable[[], Iterable[Metric]], healthy: Callable[[], tuple[bool, str]]
    ) -> None:
        self._server = _Server(split_address(bind), _Answers(collect, healthy))
        self.port: int = self._server.server_address[1]
        self._wake, self._sleeper = socket.socketpair()
        self._thread = threading.Thread(target=self._server.serve, args=[self._sleeper], name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and close connections with unanswered requests."""
        self._wake.close()
        self._thread.join()
        self._server.server_close()
        self._server.cut_off(float("inf"))
        self._sleeper.close()


class _Answers:
    """The response at each path: status, content type, body."""

    def __init__(self, collect: Callable[[], Iterable[Metric]], healthy: Callable[[], tuple[bool, str]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Adapter(collect))
        self._healthy = healthy

    def to(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, METRICS_TYPE, generate_latest(self._registry)
        if path == "/healthz":
            well, text = self._healthy()
            return (200 if well else 503), "text/plain; charset=utf-8", f"{text or 'ok'}\n".encode()
        if path == "/":
            return 200, "text/html; charset=utf-8", _INDEX
        return 404, "text/plain; charset=utf-8", b"not here; try /metrics or /healthz\n"


class _Adapter:
    """A Collector in the words of prometheus_client."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "appliance"
    sys_version = ""
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        if not self.server.hosts.allow(self.headers.get_all("Host", [])):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, explain="ask by address, or by a name of this machine")
            return
        try:
            status, kind, body = self.server.answers.to(self.path.partition("?")[0])
        except Exception as error:  # the scrape fails, and says so to both sides; the run goes on
            log.current().exception(type(error), error, error.__traceback__)
            status, kind, body = 500, "text/plain; charset=utf-8", b"the metrics could not be computed\n"
        self.server.telling(self.connection)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every 15 s is no news."""


class Hosts:
    """The host names that a server on loopback answers to: addresses, and the names of this machine.

    A page in a browser on this machine could resolve its own name to our address (DNS rebinding) and read the answers,
    but it cannot keep that name out of the request. A server on another address answers to any name.
    """

    def __init__(self, bound: str) -> None:
        self.alone = _is_loopback(bound)
        self.names = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", bound.lower()}
        self.names |= {name.lower() for name in (socket.gethostname(), os.uname().nodename)}

    def allow(self, said: list[str]) -> bool:
        """Return whether a request with these Host fields is for us. One without any is not a browser's."""
        if not self.alone or not said:
            return True
        return len(said) == 1 and self._is_ours(said[0].strip().lower())

    def _is_ours(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not (colon and port.isdigit()):
            name = host
        return name.rstrip(".") in self.names or _is_address(name.removeprefix("[").removesuffix("]"))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host.lower() == "localhost"


class _Server(ThreadingHTTPServer):
    """Bounded in connections, threads and time; http.server bounds none of them.

    A connection gets a thread when its request is there. Until then it waits in `serve`, with others like it; where
    there are too many, the oldest goes, because a client that wants something says so at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answers: _Answers) -> None:
        self.answers = answers
        self.hosts = Hosts(address[0])
        self._waiting: dict[int, tuple[socket.socket, float]] = {}  # and since when, time.monotonic(); the oldest first
        self._open: dict[socket.socket, float] = {}  # those with a thread, since when
        self._telling: set[socket.socket] = set()  # open ones that are being sent an answer
        self._lock = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(("" if address[0] == "*" else address[0], address[1]), _Handler)
        self.socket.setblocking(False)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the resolver for our name, which may take long

    def serve(self, sleeper: socket.socket) -> None:
        """Serve until the other end of `sleeper` closes."""
        with select.epoll() as epoll:
            epoll.register(self.fileno(), select.EPOLLIN)
            epoll.register(sleeper.fileno(), select.EPOLLIN)
            late: list[int] = []  # connections with a request and without a thread
            while True:
                idle = not self._waiting and not self._open
                ready = [fd for fd, _ in epoll.poll(THREAD_CHECK_INTERVAL_S if late else None if idle else 1.0)]
                if sleeper.fileno() in ready:
                    return
                if self.fileno() in ready:
                    self._accept(epoll)
                late = [fd for fd in dict.fromkeys(late + ready) if fd in self._waiting and self._look(fd)]
                self.cut_off(time.monotonic() - REQUEST_TIMEOUT_S)

    def _accept(self, epoll: select.epoll) -> None:
        """Accept waiting connections."""
        for _ in range(MAX_WAITING):
            try:
                came, _ = self.socket.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor is left, or its client is gone
                if not self._drop_oldest():
                    time.sleep(THREAD_CHECK_INTERVAL_S)
                return
            came.setblocking(False)
            self._waiting[came.fileno()] = came, time.monotonic()
            epoll.register(came.fileno(), select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
            if len(self._waiting) > MAX_WAITING:
                self._drop_oldest()

    def _look(self, fd: int) -> bool:
        """Return whether the request is complete and finds no thread; with a thread it is handled from here on."""
        client, _ = self._waiting[fd]
        try:
            head = client.recv(MAX_HEAD, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            head = b""
        if b"\r\n\r\n" in head or b"\n\n" in head:
            return not self._begin(fd, client)
        if not head or len(head) == MAX_HEAD:
            self._drop(fd)
        return False

    def _begin(self, fd: int, client: socket.socket) -> bool:
        """Start a thread for a request, unless all are busy. A client that does not read its answer makes room."""
        with self._lock:
            if len(self._open) >= MAX_REQUESTS:
                slow = next((one for one in self._open if one in self._telling), None)
                if slow is not None:
                    _cut(slow)
                return False
            del self._waiting[fd]
            self._open[client] = time.monotonic()
        self.process_request(client, ("", 0))
        return True

    def telling(self, client: socket.socket) -> None:
        """Mark the answer as made; the client causes all further delay."""
        with self._lock:
            self._telling.add(client)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            self._telling.discard(request)
        super().shutdown_request(request)

    def cut_off(self, before: float) -> None:
        """Close the connections that began before then, and so end the threads of their requests."""
        for fd in [fd for fd, (_, since) in self._waiting.items() if since < before]:
            self._drop(fd)
        with self._lock:
            for request, since in self._open.items():
                if since < before:
                    _cut(request)

    def _drop_oldest(self) -> bool:
        """Drop the connection that has waited longest; return whether there was one."""
        oldest = next(iter(self._waiting), None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _drop(self, fd: int) -> None:
        self._waiting.pop(fd)[0].close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: such an error only means that a client went away."""


def _cut(client: socket.socket) -> None:
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # its client was faster
