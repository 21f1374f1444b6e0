"""Answers of a real HTTP server to clients of another protocol, and to heads that are too long for it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from box import Box
from eventually import PATIENCE_S, eventually
from hosts import Host
from inside import inside
from scene import Scene, require

pytestmark = [pytest.mark.root, pytest.mark.peer]

NGINX_PORT = 8081
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
STRANGE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "smtp": b"EHLO a.example\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS,
}
CONFIG = """\
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr crit;
events {{ }}
http {{
    access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{ listen {port}; location / {{ return 200 "hello"; }} }}
}}
"""


def start_nginx(host: Host, directory: Path) -> None:
    config = directory / "nginx.conf"
    config.write_text(CONFIG.format(directory=directory, port=NGINX_PORT))
    host.start("nginx", "-c", config)
    eventually(lambda: host.fetch(f"http://127.0.0.1:{NGINX_PORT}/")[0] == 200, "nginx answers")


def answer(host: Host, said: bytes) -> bytes:
    """All that the server says to this, until it closes the connection."""
    with inside(host):
        sock = socket.create_connection(("192.0.2.1", NGINX_PORT), PATIENCE_S)
    with sock:
        sock.sendall(said)
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def transactions(box: Box) -> list[dict[str, Any]]:
    return [event for event in box.events() if event["event"]["dataset"] == "appliance.http"]


def test_nginx_answers_other_protocols_in_the_clear(scene: Scene) -> None:
    require("nginx")
    start_nginx(scene.server, scene.directory)
    box = scene.capture("--workers", 1, "--feed", "off", "--metrics", "off")
    said = {kind: answer(scene.client, text) for kind, text in STRANGE.items()}
    assert {kind: text[9:12] for kind, text in said.items()} == dict.fromkeys(STRANGE, b"400")
    eventually(lambda: len(transactions(box)) == len(STRANGE), "every answer has its event")
    assert box.stop() == 143
    found = [(event["http"]["response"]["status_code"], event["appliance"]["pairing"]) for event in transactions(box)]
    assert found == [(400, "response_only")] * len(STRANGE)
    assert [event["http"]["response"]["bytes"] for event in transactions(box)] == [len(text) for text in said.values()]
    box.ledger()


LONG = 60_000
HEADS = {
    "/" + "u" * LONG: b"GET /" + b"u" * LONG + b" HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "/cookie": b"GET /cookie HTTP/1.1\r\nHost: a.example\r\nCookie: " + b"c" * LONG + b"\r\n\r\n",
    "/fields": b"POST /fields HTTP/1.1\r\nHost: a.example\r\n" + (b"X: " + b"f" * 595 + b"\r\n") * 100 + b"\r\n",
    "/method": b"HEAD /method HTTP/1.1\r\nHost: a.example\r\nCookie: " + b"c" * LONG + b"\r\n\r\n",
}


def answer_before_the_end(host: Host, head: bytes) -> bytes:
    """The status of the answer to a head of which a good half is sent; the rest is sent behind it."""
    with inside(host):
        sock = socket.create_connection(("192.0.2.1", NGINX_PORT), PATIENCE_S)
    with sock:
        sock.sendall(b"GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200")
        sock.sendall(head[:40_000])
        said = sock.recv(1 << 16)
        sock.sendall(head[40_000:])
        while sock.recv(1 << 16):
            pass
        return said[9:12]


def test_an_answer_of_nginx_before_the_end_of_a_head_stays_with_its_request(scene: Scene) -> None:
    require("nginx")
    start_nginx(scene.server, scene.directory)
    box = scene.capture("--workers", 1, "--feed", "off", "--metrics", "off")
    said = {target: answer_before_the_end(scene.client, head) for target, head in HEADS.items()}
    assert {*said.values()} == {b"400", b"414"}
    eventually(lambda: len(box.events()) == 2 * len(HEADS), "every request has its event")
    assert box.stop() == 143
    found = {event["url"]["original"]: event for event in box.events()}
    assert {*found} == {"/first", *HEADS}
    for target, status in said.items():
        assert found[target]["http"]["response"]["status_code"] == int(status)
        assert found[target]["appliance"]["response"]["complete"]
        assert found[target]["appliance"]["anomalies"] == ["early_response"]
    box.ledger()
