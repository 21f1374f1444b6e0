"""HTTP/2 on a live capture: nghttpd, nghttpx, Node and hypercorn, each against its own log or its client's count."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from box import Box
from eventually import PATIENCE_S, eventually, read_line
from scene import Scene, require

pytestmark = pytest.mark.root

ADDRESS, PORT, BACKEND = "192.0.2.1", 8443, 8444
NO_FEED = ("--feed", "off", "--metrics", "off")
SIZES = (0, 1, 13, 700, 20_000, 100_000)
Row = tuple[str, str, int, int]  # method, path, status, bytes of the response's body


def http2_of(box: Box) -> list[dict[str, Any]]:
    return [event for event in box.events() if event["http"]["version"] == "2"]


def row(event: dict[str, Any]) -> Row:
    assert event["appliance"]["pairing"] == "verified"
    assert event["appliance"]["http2"]["headers"] == "exact"
    assert event["appliance"]["request"]["complete"] is event["appliance"]["response"]["complete"] is True
    assert "anomalies" not in event["appliance"], event
    answer = event["http"]["response"]
    return (
        event["http"]["request"]["method"],
        event["url"]["original"],
        answer["status_code"],
        answer["body"]["bytes"],
    )


def files(scene: Scene) -> Path:
    root = scene.directory / "root"
    root.mkdir()
    for size in SIZES:
        (root / str(size)).write_bytes(b"x" * size)
    return root


def start_nghttpd(scene: Scene, address: str, port: int) -> None:
    scene.server.start("nghttpd", "--no-tls", "-a", address, "-d", files(scene), port, stdout=subprocess.DEVNULL)
    url = f"http://{address}:{port}/1"
    eventually(
        lambda: scene.server.start("curl", "-sf", "--noproxy", "*", "--http2-prior-knowledge", "-o", "/dev/null", url)
        .wait(PATIENCE_S) == 0,
        "the server answers",
    )  # fmt: skip


def h2load(scene: Scene, *words: str | int, port: int = PORT) -> tuple[int, int]:
    """Run h2load over all files; return the requests and bytes of DATA that it counts. All have to be answered."""
    urls = [f"http://{ADDRESS}:{port}/{size}" for size in SIZES]
    said = scene.client.run("h2load", *words, *urls)
    found = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, \d+ succeeded, \d+ failed, 0 errored", said)
    data = re.search(r"\((\d+)\) data", said)
    assert found is not None, said
    assert data is not None, said
    assert len(set(found.groups())) == 1, said
    return int(found[1]), int(data[1])


def test_nghttpd_and_h2load_count_alike(scene: Scene) -> None:
    require("nghttpd", "h2load", "curl")
    start_nghttpd(scene, ADDRESS, PORT)
    box = scene.capture(*NO_FEED, "--workers", 2)
    count, data = h2load(scene, "-n", 3000, "-c", 6, "-m", 25)
    assert box.stop(signal.SIGTERM) == 143
    rows = list(map(row, http2_of(box)))
    assert len(rows) == count
    assert set(rows) == {("GET", f"/{size}", 200, size) for size in SIZES}
    assert sum(size for *_, size in rows) == data
    assert box.ledger()["L6"]["http2_streams"] == count


@pytest.mark.parametrize("version", ["http2", "http1"])
def test_nghttpx_in_front_of_nghttpd_is_read_on_both_sides(scene: Scene, version: str) -> None:
    require("nghttpd", "nghttpx", "h2load", "curl")
    start_nghttpd(scene, "127.0.0.1", BACKEND)
    log = scene.directory / "access.log"
    scene.server.start(
        *("nghttpx", "--workers=1", f"--frontend={ADDRESS},{PORT};no-tls", "--errorlog-file=/dev/null"),
        *(f"--backend=127.0.0.1,{BACKEND};;proto=h2;no-tls", f"--accesslog-file={log}", "--conf=/dev/null"),
        "--accesslog-format=$method $path $status $body_bytes_sent",
    )
    eventually(lambda: scene.client.fetch(f"http://{ADDRESS}:{PORT}/1") == (200, "x"), "nghttpx answers")
    box = scene.capture(*NO_FEED, "--workers", 2, "-i", "lo")
    before = len(log.read_text().splitlines())
    count, data = h2load(scene, "-n", 600, "-c", 3, "-m", 10, *(("--h1",) if version == "http1" else ()))
    eventually(lambda: len(log.read_text().splitlines()) == before + count, "the access log is written")
    assert box.stop(signal.SIGTERM) == 143
    logged = Counter(tuple(line.split()) for line in log.read_text().splitlines()[before:])
    events = box.events()
    front = [event for event in events if event["destination"]["port"] == PORT]
    behind = [event for event in events if event["destination"]["port"] == BACKEND]
    assert {event["http"]["version"] for event in front} == {"2" if version == "http2" else "1.1"}
    assert {event["http"]["version"] for event in behind} == {"2"}
    for side in (front, behind):
        seen = Counter(
            (
                event["http"]["request"]["method"],
                event["url"]["original"],
                str(event["http"]["response"]["status_code"]),
                str(event["http"]["response"]["body"]["bytes"]),
            )
            for event in side
        )
        assert seen == logged
    assert sum(event["http"]["response"]["body"]["bytes"] for event in front) == data
    box.ledger()


NODE_SERVER = """
const http2 = require("http2"), fs = require("fs"), [host, port, log] = process.argv.slice(1);
const server = http2.createServer();
server.on("stream", (stream, headers) => {
  let got = 0;
  stream.on("data", piece => got += piece.length).on("end", () => {
    const size = Number(headers[":path"].split("/").pop()), status = size % 7 ? 200 : 404;
    stream.additionalHeaders({":status": 103, link: "</a>"});
    stream.respond({":status": status, "x-number": String(size)}, {waitForTrailers: true});
    stream.on("wantTrailers", () => stream.sendTrailers({"x-end": String(got)}));
    stream.end(Buffer.alloc(size));
    fs.appendFileSync(log, JSON.stringify([headers[":method"], headers[":path"], status, size, got]) + "\\n");
  });
});
server.listen(Number(port), host, () => console.log("ready"));
"""
NODE_CLIENT = """
const http2 = require("http2"), [host, port] = process.argv.slice(1), sizes = [0, 1, 13, 700, 20000, 100000];
async function main() {
  for (let connection = 0; connection < 4; connection++) {
    const session = http2.connect(`http://${host}:${port}`);
    await Promise.all([...Array(60).keys()].map(number => new Promise((done, failed) => {
      const posts = number % 2, size = sizes[number % 6];
      const method = posts ? "POST" : "GET";
      const stream = session.request({":method": method, ":path": `/${connection}/${number}/${size}`,
                                      "x-client": "node"}, {endStream: !posts});
      if (posts) stream.end(Buffer.alloc(number * 500));
      stream.on("error", failed).resume().on("end", done);
    })));
    await new Promise(done => session.close(done));
  }
}
main().catch(reason => { console.error(reason); process.exit(1); });
"""


def test_node_is_read_as_its_server_logged(scene: Scene) -> None:
    require("node")
    log = scene.directory / "node.log"
    server = scene.server.start("node", "-e", NODE_SERVER, ADDRESS, PORT, log, stdout=subprocess.PIPE)
    assert read_line(server.stdout) == b"ready\n"
    box = scene.capture(*NO_FEED, "--workers", 2, "--set", 'http.headers=["x-client", "x-number", "x-end"]')
    scene.client.run("node", "-e", NODE_CLIENT, ADDRESS, PORT)
    assert box.stop(signal.SIGTERM) == 143
    logged = sorted(map(json.loads, log.read_text().splitlines()))
    events = http2_of(box)
    found = sorted([*row(event), event["http"]["request"]["body"]["bytes"]] for event in events)
    assert len(logged) == 240
    assert found == logged
    assert {tuple(event["appliance"]["informational"]) for event in events} == {(103,)}
    assert {event["http"]["request"]["headers"]["x-client"][0] for event in events} == {"node"}
    for event in events:
        asked, answer = event["http"]["request"], event["http"]["response"]
        assert answer["headers"]["x-number"] == [event["url"]["original"].rpartition("/")[2]]
        assert answer["trailers"]["x-end"] == [str(asked["body"]["bytes"])]
    box.ledger()


def test_hypercorn_is_read_as_it_logged(scene: Scene) -> None:
    require("curl", "h2load")
    pytest.importorskip("hypercorn.asyncio")
    log = scene.directory / "hypercorn.log"
    scene.server.python("http2_app.py", ADDRESS, PORT, log)
    eventually(lambda: scene.client.fetch(f"http://{ADDRESS}:{PORT}/1") == (200, "\0"), "hypercorn answers")
    before = len(log.read_text().splitlines())
    box = scene.capture(*NO_FEED, "--workers", 2)
    count, _ = h2load(scene, "-n", 300, "-c", 3, "-m", 10)
    (scene.directory / "sent").write_bytes(bytes(70_000))
    for path in ("/1", "/20000"):
        words = ("curl", "-sf", "--noproxy", "*", "-o", "/dev/null", "--data-binary", f"@{scene.directory / 'sent'}")
        scene.client.start(*words, "--http2-prior-knowledge", f"http://{ADDRESS}:{PORT}{path}").wait(PATIENCE_S)
    assert box.stop(signal.SIGTERM) == 143
    logged = list(map(json.loads, log.read_text().splitlines()[before:]))
    assert len(logged) == count + 2
    assert {line[5] for line in logged} == {"2"}
    expected = sorted((method, path, status, size, got) for method, path, status, got, size, _ in logged)
    found = sorted((*row(event), event["http"]["request"].get("body", {}).get("bytes", 0)) for event in http2_of(box))
    assert found == expected
    box.ledger()
