"""Nothing about bodies needs a file: what a library loads at its first use, a worker has loaded before its sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from box import Box
from filetype.types import TYPES
from hosts import HERE, environment
from mime_signatures import SIGNATURES
from traffic import Conversation, PcapWriter, exchange

from appliance.config.load import resolve
from appliance.native import kernel_sandbox as confine
from appliance.runtime.resolved_config import save_resolved
from appliance.stats.layout import worker_layout
from appliance.stats.page import Page

NEVER_MATCHES = {"application/dicom"}  # one of its two matchers compares three bytes with four
FILM = (24).to_bytes(4, "big") + b"ftypheic" + bytes(4) + b"heicmif1" + b"." * 200


def takes(kind: object, content: bytes) -> bool:
    try:
        return bool(kind.match(bytearray(content)))  # type: ignore[attr-defined]
    except Exception:
        return False


def test_there_is_a_content_for_every_type_that_the_library_knows() -> None:
    missing = {kind.mime for kind in TYPES if not any(takes(kind, content) for content in SIGNATURES)}
    assert missing <= NEVER_MATCHES


@pytest.mark.skipif(not confine.landlock_version(), reason="this kernel has no landlock")
def test_a_fenced_worker_opens_and_loads_nothing_for_any_body(tmp_path: Path) -> None:
    save_resolved(resolve(None, {"source.file": "none.pcap", "workers.count": 1}), tmp_path)
    Page.create(tmp_path / "worker.stats", worker_layout(1))
    known = environment()
    known["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), known["PYTHONPATH"]])
    words = [sys.executable, "-P", HERE / "fenced_bodies.py", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, env=known, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["landlock"] == 1
    assert (found["opened"], found["raised"], found["loaded"], done.stderr) == ([], [], [], "")
    assert found["done"] > 3000


def test_a_film_ends_no_worker(run_box: Callable[..., Box], tmp_path: Path) -> None:
    made = exchange("GET", "/film", body=FILM, response_headers=[("Content-Type", "video/mp4")])
    with PcapWriter(tmp_path / "film.pcap") as file:
        for frame in Conversation().handshake().exchange(made).close().frames:
            file.write(*frame)
    wanted = ("--set", "bodies.mime_type=true", "--feed", "off", "--metrics", "off", "--workers", 1)
    box = run_box("-r", str(tmp_path / "film.pcap"), *wanted)
    assert box.wait() == 0, box.errors()
    assert [event["http"]["response"]["mime_type"] for event in box.events()] == ["image/heic"]
    assert box.count("supervisor", "restarts.worker.0") == 0
    box.ledger()
