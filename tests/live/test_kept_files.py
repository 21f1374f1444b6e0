"""Files out of bodies beside a live capture: nginx serves them, and the folder has exactly what it served."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Box, appliance, resume
from eventually import PATIENCE_S, eventually
from scene import Metrics, Scene, require

from appliance import PcapWriter
from appliance.pcap.opening import open_offline

pytestmark = pytest.mark.root

ADDRESS, PORT, PORT_2 = "192.0.2.1", 8090, 8091
NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr crit; user root;
events {{ }}
http {{
  access_log off; client_body_temp_path {directory}/in; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory}; client_max_body_size 0; keepalive_requests 100000;
  default_type application/octet-stream; types {{ text/plain txt; application/pdf pdf; }}
  add_header Content-Disposition 'attachment; filename="../../escaped"';
  gzip on; gzip_types *; gzip_min_length 1;
  server {{
    listen {port}; listen {port_2} http2; root {directory}/site;
    location /up/ {{ root {directory}; dav_methods PUT; }}
    location /form/ {{ proxy_method GET; proxy_pass http://127.0.0.1:{port}/ready.txt; }}
    location /encoded/ {{ gzip off; add_header Content-Encoding gzip; }}
  }}
}}
"""
URL, URL_2 = f"http://{ADDRESS}:{PORT}", f"http://{ADDRESS}:{PORT_2}"
CURL = ("curl", "-sf", "--noproxy", "*", "--max-time", 100)
QUIET = ("--feed", "off", "--metrics", "off", "--workers", 2)


class Site:
    """A web site of nginx with files of known content."""

    def __init__(self, scene: Scene) -> None:
        require("nginx", "curl")
        self.scene = scene
        self.folder = scene.directory / "site"
        for folder in ("site", "site/encoded", "up", "in"):
            (scene.directory / folder).mkdir()
        config = scene.directory / "nginx.conf"
        config.write_text(NGINX.format(directory=scene.directory, port=PORT, port_2=PORT_2))
        self.write("ready.txt", b"ready")
        scene.server.start("nginx", "-c", config)
        eventually(lambda: scene.server.fetch(f"http://127.0.0.1:{PORT}/ready.txt")[0] == 200, "nginx answers")

    def write(self, name: str, content: bytes) -> str:
        """Write a file, and return the SHA-256 of what it holds."""
        (self.folder / name).write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def fill(self, count: int, seed: int) -> dict[str, str]:
        """Write files of many sizes; return their digests by name. Texts are sent compressed, in chunks."""
        draw = random.Random(seed)
        made = {}
        for number in range(count):
            size = draw.choice((1, 100, 5000, 4096, 70_000, 300_000))
            size += draw.randrange(50)
            if number % 2:
                made[f"{number}.txt"] = self.write(f"{number}.txt", b"%d words " % number * (1 + size // 8))
            else:
                made[f"{number}.pdf"] = self.write(f"{number}.pdf", b"%PDF-1.4 " + draw.randbytes(size))
        return made

    def fetch(self, *words: str, names: list[str], url: str = URL) -> None:
        """Fetch files over one connection."""
        listing = "".join(f'url = "{url}/{name}"\noutput = "/dev/null"\n' for name in names)
        self.scene.client.run(*CURL, *words, "-K", "-", input=listing, stdin=None)


def keeping(scene: Scene, *words: str | int) -> Box:
    return scene.capture(*QUIET, "--set", f"files.path={scene.directory}/kept", *words)


def stored(folder: Path) -> set[str]:
    """Return the names of the whole files in the folder, as it is now."""
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("part-")}


def kept(folder: Path) -> set[str]:
    """Return the names in the folder after the end, each of which is the digest of its content."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    for name in names:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == name
    return names


def settled(box: Box, scene: Scene, count: int) -> None:
    """Wait until so many bodies were offered, and each has an outcome."""

    def total(slot: str) -> int:
        return sum(box.count(name, slot) for name in box.names() if name.startswith("worker"))

    eventually(lambda: total("files_offered") >= count, f"{count} bodies are offered")
    eventually(lambda: total("files_open") == 0, "every body has an outcome")


def balance(box: Box) -> dict[str, int]:
    """Return the terms of L11, after the end."""
    return box.ledger()["L11"]


def test_every_file_that_nginx_serves_is_kept_once(scene: Scene) -> None:
    site = Site(scene)
    made = site.fill(300, seed=1)
    box = scene.capture("--workers", 2, "--set", f"files.path={scene.directory}/kept", "--set", "files.announce=true")
    names = list(made)
    site.fetch(names=names)
    site.fetch("--compressed", names=names[::3])
    for name in names[:30]:  # curl 7.88 opens no second stream without TLS
        site.fetch("--compressed", "--http2-prior-knowledge", names=[name], url=URL_2)
    site.fetch("--range", "10-90", names=names[2:8:2])  # parts, of which none is a file
    site.fetch("--range", "0-", names=names[2:8:2])  # ranges that are whole
    upload = b"%PDF-1.4 stolen " * 5000
    (scene.directory / "document").write_bytes(upload)
    scene.client.run(*CURL, "-T", scene.directory / "document", f"{URL}/up/%2e%2e%2fup%2fescaped")
    made["upload"] = hashlib.sha256(upload).hexdigest()
    offered = 300 + 100 + 30 + 3 + 3 + 1
    settled(box, scene, offered)
    metrics = Metrics(scene.server)
    assert metrics("appliance_files_up") == 1
    assert metrics("appliance_files_offered_total") == offered
    assert metrics("appliance_files_left_out_total", reason="part") == 3
    eventually(lambda: box.count("files", "kept") == len(made), "every file is kept")
    assert box.stop() == 143
    folder = scene.directory / "kept"
    assert kept(folder) == set(made.values())
    assert {path.name for path in (folder / "new").iterdir()} == set(made.values())
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {0o640}
    named = appliance("files", folder, "--once", "--exec", "sha256sum {}")
    assert dict(reversed(line.split()) for line in named.out.splitlines()) == {
        f"{folder}/{digest}": digest for digest in made.values()
    }
    assert not list((folder / "new").iterdir())
    terms = balance(box)
    assert terms["files_offered"] == offered
    assert terms["kept"] == len(made)
    assert terms["duplicates"] == offered - 3 - len(made)
    files = [event for event in box.events() if event.get("appliance", {}).get("file")]
    assert len(files) == offered
    for event in files:
        path = event["url"]["path"]
        if not event["appliance"]["file"]["complete"]:
            assert event["appliance"]["file"] == {"direction": "response", "complete": False, "reason": "part"}
            continue
        assert event["file"]["path"] == f"{folder}/{event['file']['hash']['sha256']}"
        name = "upload" if path.startswith("/up/") else path[1:]
        assert event["file"]["hash"]["sha256"] == made[name]
        assert event["file"]["size"] == (folder / made[name]).stat().st_size
    (sent,) = [event for event in files if event["appliance"]["file"]["direction"] == "request"]
    assert sent["http"]["request"]["method"] == "PUT"


@pytest.mark.parametrize("words", [(), ("--http2-prior-knowledge",)])
def test_each_file_of_an_upload_is_kept_as_it_was_uploaded(scene: Scene, words: tuple[str, ...]) -> None:
    site = Site(scene)
    made = site.fill(12, seed=11)
    url = URL_2 if words else URL
    box = keeping(scene)
    fields = [f"f{name}=@{site.folder}/{name};filename=../../{name}" for name in made]
    upload = [word for field in fields for word in ("-F", field)]
    scene.client.run(*CURL, *words, "-F", "note=no file", *upload, "-H", "Expect:", f"{url}/form/")
    settled(box, scene, len(made) + 1)  # the answer is a file, too
    eventually(lambda: box.count("files", "kept") == len(made) + 1, "every file is kept")
    assert box.stop() == 143
    assert kept(scene.directory / "kept") == {*made.values(), hashlib.sha256(b"ready").hexdigest()}
    balance(box)
    (event,) = box.events()
    parts = event["appliance"]["file"]["request"]["parts"]
    assert [part["name"] for part in parts] == [f"../../{name}" for name in made]
    assert [part["hash"]["sha256"] for part in parts] == list(made.values())
    assert [part["size"] for part in parts] == [(site.folder / name).stat().st_size for name in made]


def test_lost_frames_cost_files_and_never_make_a_wrong_one(scene: Scene) -> None:
    site = Site(scene)
    made = site.fill(200, seed=2)
    ring = scene.directory / "ring"
    box = scene.capture(*QUIET, "--set", f"record.path={ring}")
    site.fetch("--compressed", names=list(made))
    assert box.stop() == 143
    lossy = scene.directory / "lossy.pcap"
    draw = random.Random(3)
    with open_offline(next(ring.glob("*.pcapng"))) as handle, PcapWriter(lossy) as writer:
        for packet in handle.packets():
            if draw.random() > 0.05:
                writer.write(packet)
    folder, ledger = scene.directory / "kept", scene.directory / "lossy.json"
    done = appliance("run", "-q", "-r", lossy, "--set", f"files.path={folder}", "-o", "/dev/null", "--ledger", ledger)
    assert done.code == 0, done.err
    found = json.loads(ledger.read_text())
    terms = found["identities"]["L11"]["terms"]
    assert found["unaccounted"] == 0
    assert kept(folder) <= set(made.values())
    assert terms["kept"] == len(kept(folder)) > 20
    assert terms["files_left_out.missing"] > 0


def test_killed_files_processes_keep_whole_files_and_a_closed_ledger(scene: Scene) -> None:
    site = Site(scene)
    made = site.fill(100, seed=4)
    box = keeping(scene)
    for _ in range(3):
        before = box.count("files", "received.0") + box.count("files", "received.1")
        fetching = [
            scene.client.start(*CURL, "--limit-rate", "3M", f"{URL}/{name}", "-o", "/dev/null") for name in made
        ]
        eventually(
            lambda: box.count("files", "received.0") + box.count("files", "received.1") > before + 20,  # noqa: B023
            "files come",
        )
        box.kill("files")
        for process in fetching:
            process.wait(PATIENCE_S)
    box.kill("worker-0")
    site.fetch(names=list(made))
    site.fetch(names=list(made))
    settled(box, scene, 100)
    eventually(lambda: box.count("files", "stored_files") == len(set(made.values())), "every file is there")
    assert box.stop() == 143
    folder = scene.directory / "kept"
    assert kept(folder) == set(made.values())
    assert not list(folder.glob("part-*"))
    balance(box)
    assert box.count("supervisor", "restarts.files") == 3


def test_a_files_process_that_stands_still_costs_no_event(scene: Scene) -> None:
    site = Site(scene)
    made = site.fill(60, seed=5)
    box = keeping(scene, "--set", "shard.batch_bytes=65536", "--set", "shard.link_bytes=16777216")
    pid = box.send("files", signal.SIGSTOP)
    for _ in range(4):
        site.fetch(names=list(made))
    eventually(lambda: len(box.events()) == 240, "every request is an event")
    resume(pid)
    settled(box, scene, 240)
    site.fetch(names=list(made))
    eventually(lambda: stored(scene.directory / "kept") == set(made.values()), "every file is kept at last")
    assert box.stop() == 143
    assert balance(box)["files_left_out.link"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MB at the place of the folder."""
    path = tmp_path / "kept"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "kept", path]
    if subprocess.run(mount, check=False, timeout=PATIENCE_S).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=False, timeout=PATIENCE_S)


def test_a_full_disk_costs_files_and_nothing_else(small_disk: Path, scene: Scene) -> None:
    site = Site(scene)
    made = site.fill(150, seed=6)
    box = keeping(scene)
    site.fetch(names=list(made))
    settled(box, scene, 150)
    assert box.stop() == 143
    terms = balance(box)
    assert terms["left_out.disk"] > 0
    assert terms["kept"] == len(kept(small_disk)) > 0
    assert not list(small_disk.glob("part-*"))
    assert "nothing is kept meanwhile" in box.errors()
    assert len(box.events()) == 150


def test_a_bomb_and_a_broken_coding_are_no_files(scene: Scene) -> None:
    site = Site(scene)
    site.write("encoded/bomb", gzip.compress(bytes(1 << 26)))
    site.write("encoded/broken", gzip.compress(random.Random(7).randbytes(5000))[:-9])
    whole = random.Random(8).randbytes(70_000)
    site.write("encoded/whole", gzip.compress(whole))
    site.write("large.pdf", random.Random(9).randbytes(200_000))
    box = keeping(scene, "--set", "files.max_bytes=100000")
    site.fetch(names=["encoded/bomb", "encoded/broken", "encoded/whole", "large.pdf"])
    settled(box, scene, 4)
    assert box.stop() == 143
    assert kept(scene.directory / "kept") == {hashlib.sha256(whole).hexdigest()}
    terms = balance(box)
    assert (terms["files_left_out.large"], terms["files_left_out.undecoded"]) == (2, 1)


def test_a_reload_changes_types_and_budget(scene: Scene) -> None:
    site = Site(scene)
    made = site.fill(80, seed=10)
    file = scene.directory / "appliance.toml"
    text = f'[files]\npath = "{scene.directory}/kept"\nmax_bytes = 400000\n'
    file.write_text(text + 'types = ["application/pdf"]\n')
    box = scene.capture(*QUIET, "-c", file)
    site.fetch(names=list(made))
    settled(box, scene, 40)
    folder = scene.directory / "kept"
    eventually(lambda: stored(folder) == {made[name] for name in made if name.endswith("pdf")}, "the PDFs are kept")
    file.write_text(text + 'types = ["text/*"]\nbudget_bytes = 1048576\n')
    box.process.send_signal(signal.SIGHUP)
    eventually(lambda: box.count("worker-1", "generation") == box.count("files", "generation") == 2, "it is in force")
    site.fetch(names=list(made))
    settled(box, scene, 80)
    eventually(lambda: box.count("files", "stored_bytes") <= 1 << 20, "old files made room")
    assert box.count("files", "removed.budget") > 0
    assert box.stop() == 143
    balance(box)


def test_two_runs_cannot_share_a_folder(scene: Scene) -> None:
    box = keeping(scene)
    said = appliance("run", "-i", "lo", *QUIET, "--set", f"files.path={scene.directory}/kept", host=scene.server)
    assert said.code == 2
    assert "another process keeps files there" in said.err
    assert box.stop() == 143
