"""librdkafka's own mock cluster: brokers in this process that speak the protocol, and may be taken down.

The library's Python face knows no mock cluster, so this speaks to the same shared object."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from eventually import eventually

PRODUCER = 0
UNKNOWN_TOPIC = 3


def _library() -> ctypes.CDLL:
    """The librdkafka that confluent_kafka has loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split()[-1] for line in lines if "librdkafka" in line}
    assert len(paths) == 1, paths
    library = ctypes.CDLL(paths.pop())
    pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in [
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", integer, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [integer, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, integer]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", integer, [pointer, text, integer, integer]),
        ("rd_kafka_mock_topic_set_error", None, [pointer, text, integer]),
        ("rd_kafka_mock_broker_set_down", integer, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", integer, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """Brokers 1 to 3 with one topic. A with block ends them."""

    def __init__(self, topic: str = "appliance", partitions: int = 4) -> None:
        self.topic = topic
        self.partitions = partitions
        self._library = _library()
        quiet = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(quiet, b"log_level", b"0", None, 0)
        self._client = self._library.rd_kafka_new(PRODUCER, quiet, None, 0)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 3)
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 3)
        self.servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    @property
    def url(self) -> str:
        return f"kafka://{self.servers}/{self.topic}"

    def down(self, brokers: Sequence[int] = (1, 2, 3)) -> None:
        for broker in brokers:
            assert self._library.rd_kafka_mock_broker_set_down(self._cluster, broker) == 0

    def up(self, brokers: Sequence[int] = (1, 2, 3)) -> None:
        for broker in brokers:
            assert self._library.rd_kafka_mock_broker_set_up(self._cluster, broker) == 0

    def spoil(self, request: int, *errors: int) -> None:
        """The next requests of a kind are answered with these errors."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), array)

    def forget_topic(self) -> None:
        """Answer every request for the topic with the error that it is unknown."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, self.topic.encode(), UNKNOWN_TOPIC)

    def records(self, least: int) -> list[tuple[str, bytes]]:
        """Key and value of every record, once there are so many."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(self.topic, partition, 0) for partition in range(self.partitions)])
        found: list[tuple[str, bytes]] = []

        def enough() -> bool:
            for record in consumer.consume(1000, timeout=0.5):
                assert record.error() is None, record.error()
                found.append((record.key().decode(), record.value()))
            return len(found) >= least

        try:
            eventually(enough, f"{least} records are there")
            enough()  # and none beyond
        finally:
            consumer.close()
        return found

    def __enter__(self) -> MockCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)
