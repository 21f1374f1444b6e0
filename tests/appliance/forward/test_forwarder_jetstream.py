"""Forwarding into NATS JetStream: real servers, a real feed, real deaths."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest

pytest.importorskip("nats", reason="needs nats-py")

from eventually import PATIENCE_S, eventually
from feed_process import FeedProcess, feed_config
from forward_process import Forward, Load, secret_file
from nats_cluster import (
    STREAM,
    Cluster,
    Server,
    ask,
    call,
    free_ports,
    make_stream,
    message_ids,
    nats_server,
)

pytestmark = pytest.mark.peer


@pytest.fixture
def feed(tmp_path):
    nats_server()
    (directory := tmp_path / "feed").mkdir()
    with FeedProcess(directory, feed_config()) as process:
        yield process


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "nats", *free_ports(1)) as process:
        yield process


def test_of_three_servers_the_leader_is_killed_under_load_and_nothing_is_lost_and_nothing_twice(feed, tmp_path):
    load = Load(feed)
    with Cluster(tmp_path) as cluster:
        make_stream(cluster.servers)  # as ops/forward/ defines it, without a change
        leader = cluster.leader()
        with Forward(f"nats://{leader.address}/APPLIANCE", feed.endpoint) as forward:
            load.send(100)
            forward.until("events_total", 500)
            load.send(300)
            leader.kill()
            for _ in range(60):
                load.send(10)
            forward.until("events_total", load.sent)
            assert forward.metric("gone_messages_total") == 0
            assert forward.metric("retries_total") > 0
            assert "0 messages lost" in forward.stop()
        ids = message_ids(cluster.living)
    assert len(ids) == len(set(ids))
    assert set(ids) == set(load.ids)


def test_after_an_outage_longer_than_every_queue_the_rest_comes_from_the_feeds_store(tmp_path):
    nats_server()
    (directory := tmp_path / "feed").mkdir()
    with (
        FeedProcess(directory, feed_config(subscriber_queue=4)) as feed,
        Server(tmp_path / "nats", *free_ports(1)) as server,
    ):
        make_stream([server], num_replicas=1)
        load = Load(feed)
        with Forward(f"nats://{server.address}", feed.endpoint, "--window", "10") as forward:
            load.send(1)
            forward.until("events_total", 10)
            server.kill()
            forward.told("lost the connection")
            load.send(120)
            load.send(100, size=200_000)  # more than lies between: two queues of messages, two buffers of bytes
            load.send(100)
            eventually(lambda: feed.published() == load.sent, "the feed has all")
            assert forward.metric("received_events_total") <= 20
            server.start()
            forward.until("events_total", load.sent)
            assert forward.metric("recovered_messages_total") > 0
            assert forward.metric("gone_messages_total") == 0
        assert sorted(message_ids([server])) == load.ids


def test_a_restarted_forwarder_sends_what_the_feed_has_and_the_stream_leaves_out_what_it_knows(feed, server):
    make_stream([server], num_replicas=1)
    load = Load(feed)
    load.send(20)
    with Forward(f"nats://{server.address}", feed.endpoint) as forward:
        forward.until("events_total", 200)
        forward.kill()
    load.send(20)
    with Forward(f"nats://{server.address}", feed.endpoint) as forward:
        forward.until("events_total", 400)
        assert forward.metric("duplicate_events_total") == 200
    assert sorted(message_ids([server])) == load.ids


def test_with_a_file_of_positions_nothing_acknowledged_is_sent_again(feed, server, tmp_path):
    make_stream([server], num_replicas=1)
    load, position = Load(feed), ("--position", str(tmp_path / "position"))
    load.send(20)
    with Forward(f"nats://{server.address}", feed.endpoint, *position) as forward:
        forward.until("events_total", 200)
        forward.stop()
    load.send(5)
    with Forward(f"nats://{server.address}", feed.endpoint, *position) as forward:
        forward.until("events_total", 50)
        assert forward.metric("duplicate_events_total") == 0
        assert forward.metric("received_events_total") == 50
    assert message_ids([server]) == load.ids


def test_what_is_larger_than_the_server_takes_is_left_out_and_counted(feed, server):
    make_stream([server], num_replicas=1, max_msg_size=2000)
    load = Load(feed)
    feed.workers[0].send(1, b'{"event":{"id":"long"},"text":"' + b"x" * 3000 + b'"}')
    feed.workers[0].send(1, b'{"event":{"id":"longer"},"text":"' + b"x" * 1_100_000 + b'"}')
    load.send(1)
    with Forward(f"nats://{server.address}", feed.endpoint) as forward:
        forward.until("events_total", 10)
        forward.until("refused_events_total", 2)
        forward.told("permanently refuses an event")
    assert message_ids([server]) == load.ids


def test_a_full_stream_holds_the_events_back_until_there_is_room(feed, server):
    make_stream([server], num_replicas=1, discard="new", max_msgs=50)
    load = Load(feed)
    load.send(10)
    with Forward(f"nats://{server.address}", feed.endpoint) as forward:
        forward.until("events_total", 50)
        forward.told("maximum messages exceeded")
        ask(
            [server],
            lambda client: call(client, "STREAM.UPDATE.APPLIANCE", {**STREAM, "num_replicas": 1, "discard": "new"}),
        )
        forward.until("events_total", 100)
    assert sorted(message_ids([server])) == load.ids


def test_a_missing_stream_is_said_at_once(feed, server):
    with Forward(f"nats://{server.address}/OTHER", feed.endpoint) as forward:
        assert forward.end() == 1
        assert f"nats://{server.address} has no stream OTHER; ops/forward/make_stream.py makes it" in forward.log


def test_a_stream_of_other_subjects_is_said_at_once(feed, server):
    make_stream([server], num_replicas=1, subjects=["elsewhere.>"])
    with Forward(f"nats://{server.address}", feed.endpoint) as forward:
        assert forward.end() == 1
        assert "stream APPLIANCE takes elsewhere.>, not appliance.http.1xx: add appliance.>" in forward.log


def test_a_server_that_is_not_there_is_waited_for(feed, server):
    make_stream([server], num_replicas=1)
    server.kill()
    load = Load(feed)
    load.send(1)
    with Forward(f"nats://{server.address}", feed.endpoint) as forward:
        forward.told("is not reachable")
        assert forward.metric("connected") == 0
        server.start()
        forward.until("events_total", 10)
        assert message_ids([server]) == load.ids


@pytest.mark.parametrize("way", ["none", "wrong", "file", "environment"])
def test_credentials_come_from_a_file_or_the_environment_and_are_never_shown(feed, tmp_path, way):
    login = "authorization { user: sensor, password: s3cr3t }"
    known = {"user": "sensor", "password": "s3cr3t"}
    options, environment = [], {}
    if way == "file":
        options = ["--credentials", str(secret_file(tmp_path / "c", 'user = "sensor"\npassword = "s3cr3t"\n'))]
    elif way == "wrong":
        options = ["--credentials", str(secret_file(tmp_path / "c", 'user = "sensor"\npassword = "wr0ng"\n'))]
    elif way == "environment":
        environment = {"APPLIANCE_FORWARD_USER": "sensor", "APPLIANCE_FORWARD_PASSWORD": "s3cr3t"}
    load = Load(feed)
    load.send(1)
    with Server(tmp_path / "nats", *free_ports(1), login) as server:
        ask([server], _make, **known)
        with Forward(f"nats://{server.address}", feed.endpoint, *options, environment=environment) as forward:
            if way in ("none", "wrong"):
                assert forward.end() == 1
                assert "refuses " in forward.log
            else:
                forward.until("events_total", 10)
                forward.stop()
            assert "s3cr3t" not in forward.log
            assert "wr0ng" not in forward.log


async def _make(client):
    await client.jetstream().add_stream(name="APPLIANCE", subjects=["appliance.>"])


@pytest.mark.parametrize("trusted", [True, False])
def test_a_server_is_believed_only_when_its_certificate_is(feed, tmp_path, trusted):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, to make a certificate")
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    paths = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *about, *paths]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    tls = f'tls {{ cert_file: "{tmp_path}/cert.pem", key_file: "{tmp_path}/key.pem" }}'
    text = f'ca = "{tmp_path}/cert.pem"\n' if trusted else "tls = true\n"
    file = secret_file(tmp_path / "c", text)
    load = Load(feed)
    load.send(1)
    with Server(tmp_path / "nats", *free_ports(1), tls) as server:
        known = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        ask([server], _make, tls=known)
        with Forward(f"nats://{server.address}", feed.endpoint, "--credentials", str(file)) as forward:
            if trusted:
                forward.until("events_total", 10)
            else:
                assert forward.end() == 1
                assert "`ca` in --credentials names the trusted certificates" in forward.log
