"""Forwarding into Kafka: librdkafka's mock cluster of three brokers, a real feed, outages."""

from __future__ import annotations

import pytest

pytest.importorskip("confluent_kafka", reason="needs confluent-kafka")

from eventually import eventually
from feed_process import FeedProcess, feed_config
from forward_process import Forward, Load, event, secret_file
from kafka_cluster import MockCluster

pytestmark = pytest.mark.slow
PRODUCE = 0  # the number of this request in Kafka's protocol
NOT_LEADER, NOT_ENOUGH_REPLICAS, TIMED_OUT = 6, 19, 7


@pytest.fixture
def feed(tmp_path):
    (directory := tmp_path / "feed").mkdir()
    with FeedProcess(directory, feed_config()) as process:
        yield process


@pytest.fixture
def cluster():
    with MockCluster() as brokers:
        yield brokers


def test_each_event_is_a_record_with_its_id_as_key(feed, cluster):
    load = Load(feed)
    load.send(20)
    with Forward(cluster.url, feed.endpoint) as forward:
        forward.told(f"forwarding to {cluster.url}: topic appliance, 4 partitions, 3 replicas")
        forward.until("events_total", load.sent)
        assert forward.stop().startswith("appliance: 200 events forwarded")
    records = cluster.records(load.sent)
    assert sorted(key for key, _ in records) == load.ids
    assert sorted(value for _, value in records) == sorted(event(number) for number in range(load.sent))


def test_in_an_outage_of_every_broker_under_load_nothing_is_lost_and_nothing_twice(feed, cluster):
    load = Load(feed)
    with Forward(cluster.url, feed.endpoint, "--window", "500") as forward:
        load.send(100)
        forward.until("events_total", 300)
        cluster.down()
        load.send(200)
        eventually(lambda: feed.published() == load.sent, "the feed has all")
        forward.told("is not reachable; librdkafka keeps trying")
        assert forward.metric("outstanding_events") <= 500
        cluster.up()
        load.send(50)
        forward.until("events_total", load.sent)
        assert forward.metric("gone_messages_total") == 0
    assert sorted(key for key, _ in cluster.records(load.sent)) == load.ids


def test_what_brokers_refuse_for_the_moment_is_sent_again(feed, cluster):
    cluster.spoil(PRODUCE, NOT_LEADER, NOT_ENOUGH_REPLICAS, TIMED_OUT, NOT_LEADER)
    load = Load(feed)
    load.send(20)
    with Forward(cluster.url, feed.endpoint) as forward:
        forward.until("events_total", load.sent)
        forward.until("retries_total", 1)
    assert sorted(key for key, _ in cluster.records(load.sent)) == load.ids


def test_brokers_that_are_not_there_are_waited_for(feed, cluster):
    cluster.down()
    load = Load(feed)
    load.send(1)
    with Forward(cluster.url, feed.endpoint) as forward:
        forward.told("is not reachable")
        assert forward.metric("connected") == 0
        cluster.up()
        forward.until("events_total", load.sent)


def test_what_is_larger_than_a_record_may_be_is_left_out_and_counted(feed, cluster):
    load = Load(feed)
    feed.workers[0].send(1, b'{"event":{"id":"long"},"text":"' + b"x" * 1_100_000 + b'"}')
    load.send(1)
    with Forward(cluster.url, feed.endpoint) as forward:
        forward.until("events_total", 10)
        assert forward.metric("refused_events_total") == 1
        forward.told("permanently refuses an event")
    assert sorted(key for key, _ in cluster.records(10)) == load.ids


def test_a_missing_topic_is_said_at_once(feed, cluster):
    cluster.forget_topic()
    with Forward(cluster.url, feed.endpoint) as forward:
        assert forward.end() == 1
        assert "has no topic appliance; make one with the settings in ops/forward" in forward.log


def test_refused_credentials_are_said_and_never_shown(feed, cluster, tmp_path):
    file = secret_file(tmp_path / "c", 'user = "sensor"\npassword = "s3cr3t"\nmechanism = "PLAIN"\n')
    with Forward(cluster.url, feed.endpoint, "--credentials", str(file)) as forward:
        assert forward.end() == 1
        assert "refuses us (--credentials)" in forward.log
        assert "s3cr3t" not in forward.log
