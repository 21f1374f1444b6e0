"""The lock of the feed: who has a key on the list reads, and nobody else, not even the past."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from eventually import PATIENCE_S, eventually, read_all, read_line
from feed_process import ROOT, FeedProcess, feed_config
from zmq.auth import load_certificate

from appliance.pubsub.curve_keys import KeyFault, make_keys, read_allowed, read_pair
from appliance.pubsub.protocol import FEED_HEADER
from appliance.subscriber.subscriber import Subscriber

pytestmark = pytest.mark.slow


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Keys of a server and of two clients; bob's is not in the folder of those who may read."""
    folder = tmp_path / "keys"
    make_keys(folder, ["alice", "bob"])
    (folder / "clients" / "bob.key").rename(folder / "bob.key")
    return folder


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


def locked(run_dir: Path, keys: Path) -> FeedProcess:
    lock = {"curve_key": str(keys / "server.key_secret"), "curve_clients": str(keys / "clients")}
    return FeedProcess(run_dir, feed_config(**lock))


def reader(feed: FeedProcess, keys: Path, name: str, **how: object) -> Subscriber:
    return Subscriber(feed.endpoint, ["http."], server_key=keys / "server.key", key=keys / f"{name}.key_secret", **how)  # type: ignore[arg-type]


def hears(subscriber: Subscriber) -> bool:
    """Receive for a moment, and return whether a heartbeat has come."""
    subscriber.receive(0.05)
    return subscriber.heartbeats > 0


def raw(keys: Path, name: str, kind: int) -> tuple[zmq.Context[zmq.Socket[bytes]], zmq.Socket[bytes]]:
    """A plain socket with the keys of a client."""
    context = zmq.Context()
    socket = context.socket(kind)
    socket.curve_serverkey = load_certificate(keys / "server.key")[0]
    socket.curve_publickey, socket.curve_secretkey = load_certificate(keys / f"{name}.key_secret")
    return context, socket


def reload(feed: FeedProcess, times: int = 1) -> None:
    feed.page.add("wanted_generation", 1)
    eventually(lambda: feed.page["reloads"] == times, "the folder is read again")


def test_who_is_on_the_list_reads_and_recovers(run_dir: Path, keys: Path) -> None:
    with locked(run_dir, keys) as feed:
        feed.workers[0].send(1, b"{}")
        eventually(lambda: feed.published() == 1, "it is published")
        with reader(feed, keys, "alice", backfill=True) as alice:
            assert alice.receive(PATIENCE_S) is not None
            assert alice.backfilled == 1
        assert (feed.page["clients_allowed"], feed.page["refused.key"]) == (1, 0)


def test_an_unknown_key_is_refused_and_counted(run_dir: Path, keys: Path) -> None:
    with locked(run_dir, keys) as feed, reader(feed, keys, "bob") as bob, reader(feed, keys, "alice") as alice:
        eventually(lambda: feed.page["refused.key"], "bob is refused")
        eventually(lambda: hears(alice), "alice follows the feed")
        feed.workers[0].send(1, b"{}")
        assert alice.receive(PATIENCE_S) is not None
        assert bob.receive(0) is None
        assert bob.heartbeats == 0


def test_who_shows_no_key_is_refused_and_counted(run_dir: Path, keys: Path) -> None:
    with locked(run_dir, keys) as feed, Subscriber(feed.endpoint) as stranger:
        eventually(lambda: feed.page["refused.handshake"], "the stranger is refused")
        assert stranger.receive(0) is None
        assert stranger.heartbeats == 0


def test_the_past_is_behind_the_same_lock(run_dir: Path, keys: Path) -> None:
    with locked(run_dir, keys) as feed:
        wanted = json.dumps({"topic": "status.", "epoch": feed.page["epoch"], "from": 1, "to": 1}).encode()
        for name in ("bob", "alice"):
            context, socket = raw(keys, name, zmq.DEALER)
            socket.connect(feed.replay)
            socket.send_multipart([b"", wanted])
            if name == "bob":
                eventually(lambda: feed.page["refused.key"], "bob is refused")
                assert not socket.poll(100)
            else:
                assert socket.poll(PATIENCE_S * 1000)
                assert FEED_HEADER.unpack(socket.recv_multipart()[2])[1] == 1
            context.destroy(linger=0)


def test_a_key_that_is_added_comes_in_after_a_hangup(run_dir: Path, keys: Path) -> None:
    with locked(run_dir, keys) as feed, reader(feed, keys, "bob") as bob:
        eventually(lambda: feed.page["refused.key"], "bob is refused")
        shutil.copy(keys / "bob.key", keys / "clients" / "bob.key")
        reload(feed)
        eventually(lambda: hears(bob), "bob follows the feed")
        assert feed.page["clients_allowed"] == 2


def test_a_key_that_is_removed_is_out_at_once_and_the_others_lose_nothing(run_dir: Path, keys: Path) -> None:
    shutil.copy(keys / "bob.key", keys / "clients" / "bob.key")
    with locked(run_dir, keys) as feed, reader(feed, keys, "bob") as bob, reader(feed, keys, "alice") as alice:
        eventually(lambda: hears(bob) and hears(alice), "both follow the feed")
        for _ in range(20):
            feed.workers[0].send(1, b"{}")
        assert [bob.receive(PATIENCE_S) is not None for _ in range(20)]
        (keys / "clients" / "bob.key").unlink()
        reload(feed)
        for _ in range(20):
            feed.workers[0].send(1, b"{}")
        got = [alice.receive(PATIENCE_S) for _ in range(40)]
        assert [message.sequence for message in got if message] == list(range(1, 41))
        eventually(lambda: feed.page["refused.key"], "bob is refused")
        assert bob.receive(0) is None
        assert (alice.lost, bob.messages) == (0, 20)


def test_a_file_without_a_key_among_those_who_may_read_is_left_out(run_dir: Path, keys: Path) -> None:
    (keys / "clients" / "broken.key").write_text('curve\n    public-key = "short"\n')
    (keys / "clients" / "notes.txt").write_text("nothing of ours")
    with locked(run_dir, keys) as feed:
        assert feed.page["clients_allowed"] == 1
        feed.process.terminate()
        assert feed.wait() == 0
        assert feed.process.stderr is not None
        assert b"broken.key: holds no CURVE key" in read_all(feed.process.stderr)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_reach_is_refused(run_dir: Path, keys: Path, mode: int) -> None:
    (keys / "server.key_secret").chmod(mode)
    with locked(run_dir, keys) as feed:
        assert feed.wait() == 2
        assert feed.process.stderr is not None
        assert b"run: chmod 0600" in read_all(feed.process.stderr)
    with pytest.raises(KeyFault, match="chmod 0600"):
        read_pair(keys / "server.key_secret")


def test_what_is_no_secret_key_is_refused(keys: Path) -> None:
    with pytest.raises(KeyFault, match="No such file"):
        read_pair(keys / "nobody.key_secret")
    os.chmod(keys / "bob.key", 0o600)
    with pytest.raises(KeyFault, match="holds no secret key"):
        read_pair(keys / "bob.key")


def keygen(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", "keygen", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)


def test_keygen_makes_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    os.umask(before := os.umask(0))  # whatever the umask is
    assert before is not None
    done = keygen(folder, "carol")
    assert done.returncode == 0
    for name in ("server.key_secret", "carol.key_secret"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert str(folder / name) in done.stdout
    assert folder.stat().st_mode & 0o077 == 0
    assert list(read_allowed(folder / "clients")[0].values()) == ["carol"]


def test_keygen_never_replaces_a_key(tmp_path: Path) -> None:
    keygen(tmp_path / "new", "carol")
    server = (tmp_path / "new" / "server.key").read_bytes()
    assert keygen(tmp_path / "new", "dave").returncode == 0
    assert (tmp_path / "new" / "server.key").read_bytes() == server
    again = keygen(tmp_path / "new", "carol")
    assert again.returncode == 2
    assert "remove it first" in again.stderr


@pytest.mark.parametrize("name", ["server", "../x", "a b", "", ".hidden"])
def test_keygen_refuses_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    assert "cannot be a client's name" in keygen(tmp_path, name).stderr


def test_events_needs_both_keys(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "appliance", "events", "--key", str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "belong together" in done.stderr


def test_events_reads_a_locked_feed(run_dir: Path, keys: Path) -> None:
    with locked(run_dir, keys) as feed:
        feed.workers[0].send(1, b'{"@timestamp": "2999-01-01"}')
        command = [sys.executable, "-m", "appliance", "events", "--connect", feed.endpoint, "--since", "1d", "--json"]
        command += ["-n", "1", "--server-key", str(keys / "server.key"), "--key", str(keys / "alice.key_secret")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
        assert done.stdout == '{"@timestamp": "2999-01-01"}\n'


def test_events_says_that_it_is_refused(run_dir: Path, keys: Path) -> None:
    with locked(run_dir, keys) as feed:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", "events", "--connect", feed.endpoint],
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stderr is not None
        assert b"refuses us: it is locked" in read_line(process.stderr)
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_a_client_whose_secret_was_taken_away_keeps_its_key(tmp_path):
    make_keys(tmp_path, ["alice"])
    (tmp_path / "alice.key_secret").unlink()  # she has it now
    known = (tmp_path / "clients" / "alice.key").read_bytes()
    with pytest.raises(KeyFault, match="remove it first"):
        make_keys(tmp_path, ["alice"])
    assert (tmp_path / "clients" / "alice.key").read_bytes() == known
