"""The stream is made as its definition says, and made again without harm."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("nats", reason="needs nats-py")

from eventually import PATIENCE_S
from feed_process import ROOT
from nats_cluster import STREAM, Server, ask, call, free_ports

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def make_stream(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "ops" / "forward" / "make_stream.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=PATIENCE_S
    )


def test_a_stream_is_made_and_made_again_brought_up_to_date(tmp_path):
    with Server(tmp_path / "nats", *free_ports(1)) as server:
        url = f"nats://{server.address}/APPLIANCE"
        assert make_stream(url, "--replicas", "1").stdout == f"{url}: made\n"
        assert make_stream(url, "--replicas", "1").stdout == f"{url}: brought up to date\n"
        config = ask([server], lambda client: call(client, "STREAM.INFO.APPLIANCE"))["config"]
    assert {key: config[key] for key in STREAM} == {**STREAM, "num_replicas": 1}


def test_a_server_alone_cannot_keep_three_copies_and_says_so(tmp_path):
    with Server(tmp_path / "nats", *free_ports(1)) as server:
        done = make_stream(f"nats://{server.address}")
    assert done.returncode == 1
    assert "replicas > 1 not supported in non-clustered mode" in done.stderr
