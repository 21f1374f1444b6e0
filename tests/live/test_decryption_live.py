"""Decryption of a live capture: nginx and curl with a key log that grows while the appliance runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from box import Box
from eventually import eventually
from scene import Scene, require

pytestmark = pytest.mark.root

ADDRESS, PORT = "192.0.2.1", 8443
NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr crit;
events {{ }}
http {{
  access_log {directory}/access.log; client_body_temp_path {directory}; proxy_temp_path {directory};
  fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen {port} ssl http2; server_name shop.example;
    ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ return 200 "ok"; }}
  }}
}}
"""
CURL = ("curl", "-sk", "--noproxy", "*", "--max-time", "20", "--resolve", f"shop.example:{PORT}:{ADDRESS}")
URL = f"https://shop.example:{PORT}"
WAYS = {
    "/a": ("--http1.1", "--tls-max", "1.2"),
    "/b": ("--http1.1", "--tls-max", "1.2", "--ciphers", "ECDHE-RSA-AES128-SHA256"),
    "/c": ("--http1.1", "--tlsv1.3"),
    "/d": ("--http2", "--tlsv1.3"),
    "/e": ("--http2", "--tls-max", "1.2"),
}


def serve(scene: Scene) -> None:
    files = ("-keyout", scene.directory / "key.pem", "-out", scene.directory / "cert.pem")
    name = ("-subj", "/CN=shop.example")
    scene.server.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 9, *name, *files)
    config = scene.directory / "nginx.conf"
    config.write_text(NGINX.format(directory=scene.directory, port=PORT))
    scene.server.start("nginx", "-c", config)
    eventually(lambda: scene.server.fetch(f"https://127.0.0.1:{PORT}/") == (200, "ok"), "nginx answers")


def ask(scene: Scene, keylog: Path, path: str, *options: str) -> None:
    assert scene.client.run("env", f"SSLKEYLOGFILE={keylog}", *CURL, *options, URL + path).endswith("ok")


def transactions(box: Box) -> list[dict[str, Any]]:
    return [event for event in box.events() if event["event"]["dataset"] == "appliance.http"]


def told(event: dict[str, Any]) -> tuple[str, str, int, str]:
    return (
        event["url"]["scheme"],
        event["url"]["original"],
        event["http"]["response"]["status_code"],
        event["http"]["version"],
    )


def test_requests_of_curl_are_events_while_the_key_log_grows(scene: Scene) -> None:
    require("nginx", "curl", "openssl")
    serve(scene)
    keylog = scene.directory / "keys.log"
    box = scene.capture("--feed", "off", "--metrics", "off", "--set", f"tls.keylog={keylog}")
    for path, options in WAYS.items():
        ask(scene, keylog, path, *options)
    # A file that is renamed before the sensor has opened it is lost to it.
    eventually(lambda: len(transactions(box)) == len(WAYS), "the first requests are events")
    keylog.rename(scene.directory / "keys.1")
    ask(scene, keylog, "/rotated", "--http1.1")
    eventually(lambda: len(transactions(box)) == 6, "every request is an event")
    assert scene.client.run(*CURL, URL + "/secret").endswith("ok")  # without a key log
    assert box.stop(signal.SIGTERM) == 143
    assert box.ledger()["L10"]["tls_bytes.opened"] > 0
    versions = {"/d": "2", "/e": "2"}
    expected = sorted(("https", path, 200, versions.get(path, "1.1")) for path in (*WAYS, "/rotated"))
    assert sorted(map(told, transactions(box))) == expected
    handshakes = [event for event in box.events() if event["event"]["dataset"] == "appliance.tls"]
    outcomes = [event["appliance"]["tls"]["decrypted"] for event in handshakes]
    assert sorted(outcomes) == ["key"] * 6 + ["no_key"]
    assert all("server" in event["tls"] for event in handshakes if event["appliance"]["tls"]["decrypted"] == "key")


def test_a_restarted_worker_decrypts_what_comes_then(scene: Scene) -> None:
    require("nginx", "curl", "openssl")
    serve(scene)
    keylog = scene.directory / "keys.log"
    box = scene.capture("--feed", "off", "--metrics", "off", "--workers", 1, "--set", f"tls.keylog={keylog}")
    ask(scene, keylog, "/before", "--http1.1")
    eventually(lambda: len(transactions(box)) == 1, "the first request is an event")
    box.kill("worker-0")
    assert box.count("worker-0", "keys_taken") > 0
    ask(scene, keylog, "/behind", "--http1.1")
    eventually(lambda: len(transactions(box)) == 2, "the second request is an event")
    box.stop(signal.SIGTERM)
    assert [told(event)[1] for event in transactions(box)] == ["/before", "/behind"]
