"""TLS on a live capture: nginx and OpenSSL with curl and s_client; events say what the programs were told."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from box import Box
from eventually import eventually
from scene import Scene, require

pytestmark = pytest.mark.root

ADDRESS = "192.0.2.1"
NGINX_PORT, MAIL_PORT, OPENSSL_PORT = 8443, 2525, 4443
NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr crit;
events {{ }}
http {{
  access_log off; client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen {port} ssl; server_name shop.example;
    ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ return 200 "ok"; }}
  }}
}}
"""
CURL = ("curl", "-sk", "--noproxy", "*", "--max-time", "20", "--resolve", f"shop.example:{NGINX_PORT}:{ADDRESS}")


def make_identity(scene: Scene) -> None:
    """A self-signed certificate for shop.example."""
    name = ("-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example,DNS:www.shop.example")
    files = ("-keyout", scene.directory / "key.pem", "-out", scene.directory / "cert.pem")
    scene.server.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 9, *name, *files)


def start_nginx(scene: Scene) -> None:
    config = scene.directory / "nginx.conf"
    config.write_text(NGINX.format(directory=scene.directory, port=NGINX_PORT))
    scene.server.start("nginx", "-c", config)
    eventually(lambda: scene.server.fetch(f"https://127.0.0.1:{NGINX_PORT}/") == (200, "ok"), "nginx answers")


def handshakes(box: Box) -> list[dict[str, Any]]:
    return [event for event in box.events() if event["event"]["dataset"] == "appliance.tls"]


def identity_of(event: dict[str, Any]) -> tuple[str, list[str]]:
    server = event["tls"]["server"]
    return server["subject"], server["x509"]["alternative_names"]


def test_curl_and_nginx_are_told_alike(scene: Scene) -> None:
    require("nginx", "curl", "openssl")
    make_identity(scene)
    start_nginx(scene)
    box = scene.capture("--feed", "off", "--metrics", "off")
    url = f"https://shop.example:{NGINX_PORT}/"
    assert scene.client.run(*CURL, "--tls-max", "1.2", "--no-alpn", url) == "ok"
    assert scene.client.run(*CURL, "--tlsv1.3", "--http1.1", url) == "ok"
    assert scene.client.run(*CURL, f"http://shop.example:{NGINX_PORT}/").startswith("<html>")  # a 400 in the clear
    assert box.stop(signal.SIGTERM) == 143
    old, new = handshakes(box)
    assert [event["tls"]["version"] for event in (old, new)] == ["1.2", "1.3"]
    assert [event["tls"]["client"]["server_name"] for event in (old, new)] == ["shop.example"] * 2
    assert [event["tls"]["established"] for event in (old, new)] == [True, True]
    assert identity_of(old) == ("CN=shop.example", ["shop.example", "www.shop.example"])
    assert "server" not in new["tls"]
    assert "alpn_offered" not in old["appliance"]["tls"]
    assert new["appliance"]["tls"]["alpn_offered"] == ["http/1.1"]
    assert old["appliance"]["tls"]["ja4"].startswith("t12d")
    assert new["appliance"]["tls"]["ja4"].startswith("t13d")
    assert new["appliance"]["tls"]["ja4"][8:10] == "h1"
    (refused,) = [event for event in box.events() if event["event"]["dataset"] == "appliance.http"]
    assert refused["http"]["response"]["status_code"] == 400


@pytest.mark.parametrize(("option", "version"), [("-tls1_2", "1.2"), ("-tls1_3", "1.3")])
def test_openssl_is_told_alike(scene: Scene, option: str, version: str) -> None:
    require("openssl")
    make_identity(scene)
    files = ("-cert", scene.directory / "cert.pem", "-key", scene.directory / "key.pem")
    scene.server.start("openssl", "s_server", "-quiet", "-www", "-alpn", "h2", "-port", OPENSSL_PORT, *files)
    ask = ("openssl", "s_client", "-connect", f"{ADDRESS}:{OPENSSL_PORT}", "-brief", option)
    eventually(lambda: connects(scene, *ask), "s_server answers")
    box = scene.capture("--feed", "off", "--metrics", "off", "--set", "tls.ja3=true")
    scene.client.run(*ask, "-servername", "a.example", "-alpn", "h2,http/1.1")
    assert box.stop(signal.SIGTERM) == 143
    (event,) = handshakes(box)
    assert (event["tls"]["version"], event["tls"]["client"]["server_name"]) == (version, "a.example")
    assert event["appliance"]["tls"]["alpn_offered"] == ["h2", "http/1.1"]
    assert event["tls"].get("next_protocol") == ("h2" if version == "1.2" else None)
    assert event["event"]["outcome"] == "success"
    assert len(event["tls"]["client"]["ja3"]) == 32


def connects(scene: Scene, *ask: str | int | Path) -> bool:
    return scene.client.start(*ask).wait(timeout=20) == 0
