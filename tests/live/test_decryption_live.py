"""Decryption of a live capture: nginx and curl with a key log that grows while the appliance runs."""

from __future__ import annotations

import signal
import subprocess
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
  log_format told "$request_method $request_uri $status $body_bytes_sent $server_protocol"; keepalive_requests 10000;
  access_log {directory}/access.log told; client_body_temp_path {directory}; proxy_temp_path {directory};
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


PYTHON = """
import http.client, ssl, sys
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, version
    connection = http.client.HTTPSConnection(sys.argv[1], int(sys.argv[2]), context=context)
    for number in range(5):
        connection.request("GET", "/%s/%d" % (version.name, number))
        connection.getresponse().read()
    connection.close()
"""
NODE = """
const fs = require("fs"), http2 = require("http2"), https = require("https");
const [host, port, log] = process.argv.slice(1), options = {rejectUnauthorized: false};
const keep = line => fs.appendFileSync(log, line);
async function all(get) {
  await Promise.all([...Array(5).keys()].map(number => new Promise(done => get(number, done))));
}
async function main() {
  for (const maxVersion of ["TLSv1.2", "TLSv1.3"]) {
    const agent = new https.Agent({...options, maxVersion, keepAlive: true, maxSockets: 1});
    agent.on("keylog", keep);
    await all((number, done) => https.get({host, port, agent, path: `/${maxVersion}/${number}`},
                                          answer => answer.resume().on("end", done)));
    agent.destroy();
    const session = http2.connect(`https://${host}:${port}`, {...options, maxVersion});
    session.socket.on("keylog", keep);
    await all((number, done) => session.request({":path": `/h2/${maxVersion}/${number}`}).resume().on("end", done));
    await new Promise(done => session.close(done));
  }
}
main();
"""
CHROMIUM = (
    *(
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--no-proxy-server",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--ignore-certificate-errors", "--dump-dom"),
)


def logged(scene: Scene) -> list[tuple[str, ...]]:
    """The lines of nginx for requests from outside, in any order."""
    lines = [tuple(line.split()) for line in (scene.directory / "access.log").read_text().splitlines()]
    return sorted(line for line in lines if line[1] != "/")


def read(box: Box) -> list[tuple[str, ...]]:
    """The same of events."""
    versions = {"2": "HTTP/2.0"}
    found = []
    for event in transactions(box):
        answer, version = event["http"]["response"], event["http"]["version"]
        whole = (event["http"]["request"]["method"], event["url"]["original"], answer["status_code"])
        found.append((*map(str, (*whole, answer["body"]["bytes"])), versions.get(version, f"HTTP/{version}")))
    return sorted(found)


def test_a_thousand_requests_are_those_of_the_access_log(scene: Scene) -> None:
    require("nginx", "curl", "openssl")
    serve(scene)
    keylog = scene.directory / "keys.log"
    box = scene.capture("--feed", "off", "--metrics", "off", "--set", f"tls.keylog={keylog}")
    for version in ("1.2", "1.3"):
        for http in ("--http1.1", "--http2"):
            scene.client.run(
                *("env", f"SSLKEYLOGFILE={keylog}", *CURL, "--tls-max", version, http),
                f"{URL}/{version}{http}?number=[1-250]",
            )
    eventually(lambda: len(transactions(box)) == 1000, "every request is an event")
    assert box.stop(signal.SIGTERM) == 143
    assert len(logged(scene)) == 1000
    assert read(box) == logged(scene)
    box.ledger()


@pytest.mark.parametrize("program", ["python3", "node", "chromium"])
def test_requests_of_other_clients_are_those_of_the_access_log(scene: Scene, program: str) -> None:
    require("nginx", "openssl", program)
    serve(scene)
    keylog = scene.directory / "keys.log"
    box = scene.capture("--feed", "off", "--metrics", "off", "--set", f"tls.keylog={keylog}")
    if program == "python3":
        scene.client.run("env", f"SSLKEYLOGFILE={keylog}", program, "-c", PYTHON, ADDRESS, PORT)
    elif program == "node":
        scene.client.run(program, "-e", NODE, ADDRESS, PORT, keylog)
    else:
        places = (f"--user-data-dir={scene.directory / 'profile'}", f"--ssl-key-log-file={keylog}")
        scene.client.run("env", f"HOME={scene.directory}", *CHROMIUM, *places, f"https://{ADDRESS}:{PORT}/page")
    expected = logged(scene)
    assert len(expected) >= {"python3": 10, "node": 20, "chromium": 1}[program]
    eventually(lambda: len(transactions(box)) == len(expected), "every request is an event")
    assert box.stop(signal.SIGTERM) == 143
    assert read(box) == expected
    box.ledger()


def updates(box: Box) -> int:
    return sum(box.count(name, "tls_key_updates") for name in box.names() if name.startswith("worker-"))


def test_updated_keys_are_followed(scene: Scene) -> None:
    require("nginx", "openssl")
    serve(scene)
    keylog = scene.directory / "keys.log"
    box = scene.capture("--feed", "off", "--metrics", "off", "--set", f"tls.keylog={keylog}")
    client = scene.client.start(
        *("openssl", "s_client", "-tls1_3", "-connect", f"{ADDRESS}:{PORT}", "-keylogfile", keylog),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    # "k" updates the client's keys, "K" asks the server for the same. The program ignores what comes with a command.
    for count, update in enumerate((b"", b"k\n", b"k\n", b"K\n")):
        client.stdin.write(update)
        eventually(lambda count=count: updates(box) >= count, "the keys are updated")
        client.stdin.write(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % count)
        eventually(lambda count=count: len(transactions(box)) == count + 1, "the request is an event")
    client.kill()
    assert box.stop(signal.SIGTERM) == 143
    assert [told(event)[1] for event in transactions(box)] == ["/0", "/1", "/2", "/3"]


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
