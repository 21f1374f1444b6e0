"""Publishing to Kafka: the only module that uses confluent-kafka, and with it librdkafka.

Each event is one record with its `event.id` as the key. The producer is idempotent: librdkafka retries unconfirmed
records without a limit, and brokers drop duplicates. So a partition keeps its order, and one producer makes no
duplicates. Records that a later producer sends again have the same key.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from appliance.config.rules import how_to_install
from appliance.forward.in_flight import InFlightEvent
from appliance.forward.target import CONNECT_TIMEOUT_S, Credentials, SinkCallbacks, SinkFault, Target

try:
    from confluent_kafka import KafkaError, KafkaException, Producer
except ImportError as error:
    raise SinkFault(
        f"kafka:// needs the library confluent-kafka ({error}): {how_to_install('forward')}",
        final=True,
    ) from error

POLL_S = 0.1  # blocking in librdkafka for answers
LINGER_MS = 20  # a batch fills for this long, as the batches of the feed do
STATISTICS_MS = 1000
TRUST = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL)
FORBIDDEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
TOO_LARGE = (KafkaError._INVALID_ARG, KafkaError.MSG_SIZE_TOO_LARGE)


class Kafka:
    """A producer for a topic, one at a time."""

    answer_s: float | None = None  # librdkafka retries by itself

    def __init__(
        self, target: Target, secret: Credentials, on: SinkCallbacks, extra: dict[str, Any] | None = None
    ) -> None:
        """Make a sink. extra: settings of librdkafka beside ours."""
        self.target = target
        self.retries = 0
        self._secret = secret
        self._on = on
        self._extra = extra or {}
        self._producer: Any = None
        self._poller: asyncio.Task[None] | None = None
        self._told: list[tuple[int, Any]] = []  # number and error: filled and drained by turns, never at once
        self._notes: list[tuple[int, str]] = []  # errors that belong to no record: code, text
        self._produced = 0
        self._before = 0  # retries of earlier producers
        self._fatal = ""

    @property
    def _at(self) -> str:
        return f"kafka://{','.join(self.target.servers)}"

    def _settings(self) -> dict[str, Any]:
        secret = self._secret
        settings: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.target.servers),
            "client.id": "appliance-forward",
            "enable.idempotence": True,  # implies acks=all
            "message.timeout.ms": 0,  # no expiry: the window is bounded, and reading pauses meanwhile
            "compression.type": "lz4",
            "linger.ms": LINGER_MS,
            "queue.buffering.max.messages": 0,  # the window is the bound
            "queue.buffering.max.kbytes": (1 << 31) - 1,
            "reconnect.backoff.max.ms": 10000,
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._statistics,
            "error_cb": self._error,
            "log_level": 0,  # error_cb reports the relevant errors
        }
        if secret.user:
            settings["sasl.mechanism"] = secret.mechanism or "SCRAM-SHA-512"
            settings |= {"sasl.username": secret.user, "sasl.password": secret.password}
        files = {"ssl.ca.location": secret.ca, "ssl.certificate.location": secret.certificate}
        settings |= {name: path for name, path in {**files, "ssl.key.location": secret.key}.items() if path}
        protocol = ("sasl_" if secret.user else "") + ("ssl" if secret.encrypted else "plaintext")
        return {**settings, "security.protocol": protocol, **self._extra}

    # -- callbacks, in the thread that polls -----------------------------------------------------------------------

    def _statistics(self, text: str) -> None:
        """Count retransmitted records: transmitted minus produced, exact if the queue is empty."""
        topics = json.loads(text).get("topics", {}).values()
        sent = sum(partition["txmsgs"] for topic in topics for partition in topic["partitions"].values())
        self.retries = max(self.retries, self._before + sent - self._produced)

    def _error(self, error: Any) -> None:
        self._notes.append((error.code(), error.str()))
        if error.fatal():
            self._fatal = error.str()

    def _delivered(self, number: int, error: Any) -> None:
        self._told.append((number, error))

    # -- the event loop --------------------------------------------------------------------------------------------

    async def open(self) -> str:
        """Connect; see Sink."""
        await self.close()
        self._notes.clear()
        self._fatal = ""
        try:
            producer = Producer(self._settings())
        except (KafkaException, ValueError) as error:
            raise SinkFault(f"{self._at}: {_text(error)}", final=True) from error
        try:
            text = await asyncio.to_thread(self._check, producer)
        except BaseException:
            _drop(producer)
            raise
        self._producer = producer
        self._produced = 0
        self._poller = asyncio.create_task(self._poll(producer))
        return text

    def _check(self, producer: Any) -> str:
        """Check the topic before publishing."""
        name = self.target.name
        try:
            found = producer.list_topics(name, timeout=CONNECT_TIMEOUT_S).topics[name]
        except KafkaException as error:
            producer.poll(0)  # fetches the reasons
            for code, text in self._notes:
                if code in TRUST:
                    raise SinkFault(f"{self._at} refuses us (--credentials): {text}", final=True) from error
            why = self._notes[0][1] if self._notes else _text(error)
            raise SinkFault(f"{self._at} is not reachable: {why}") from error
        if found.error is not None:
            code = found.error.code()
            if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                raise SinkFault(
                    f"{self._at} has no topic {name}; make one with the settings in ops/forward/kafka-topic.properties",
                    final=True,
                )
            final = code in (*FORBIDDEN, KafkaError.TOPIC_EXCEPTION)
            raise SinkFault(f"{self._at}, topic {name}: {found.error.str()}", final=final)
        replicas = max((len(partition.replicas) for partition in found.partitions.values()), default=0)
        return f"topic {name}, {len(found.partitions)} partitions, {replicas} replicas"

    async def send(self, event: InFlightEvent) -> None:
        """Send an event; see Sink."""
        producer, number = self._producer, event.number
        if producer is None:
            raise SinkFault(self._fatal or "the producer is closed")
        try:
            self._produced += 1
            producer.produce(
                self.target.name,
                event.body,
                event.id,
                on_delivery=lambda error, _, number=number: self._delivered(number, error),
            )
        except KafkaException as error:
            if error.args[0].code() in TOO_LARGE:
                self._on.refused(number, f"{len(event.body):,} bytes exceed message.max.bytes")
            else:
                raise SinkFault(_text(error)) from error
        except BufferError:
            self._on.failed(number, "the queue of librdkafka is full")

    async def _poll(self, producer: Any) -> None:
        while self._producer is producer:
            await asyncio.to_thread(producer.poll, POLL_S)
            self._hear()
            notes, self._notes = self._notes, []
            for code, text in notes:
                if code == KafkaError._ALL_BROKERS_DOWN:
                    self._on.note(f"{self._at} is not reachable; librdkafka keeps trying")
                # of one broker: another may be reachable
                elif code not in (KafkaError._TRANSPORT, KafkaError._RESOLVE):
                    self._on.note(f"{self._at}: {text}")
            if self._fatal and self._producer is producer:
                self._producer = None
                _drop(producer)
                self._hear(lost=True)
                self._on.lost(self._fatal)

    def _hear(self, *, lost: bool = False) -> None:
        """Deliver the answers of librdkafka. lost: failures belong to a closed producer and are ignored."""
        told, self._told = self._told, []
        for number, error in told:
            if error is None or not lost:
                self._answered(number, error)

    def _answered(self, number: int, error: Any) -> None:
        if error is None:
            self._on.accepted(number, False)
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._on.refused(number, error.str())
        else:
            self._on.failed(number, error.str())

    async def close(self) -> None:
        """Close the producer; see Sink."""
        producer, self._producer = self._producer, None
        if self._poller is not None:
            await asyncio.gather(self._poller, return_exceptions=True)
            self._poller = None
        if producer is not None:
            _drop(producer)
        self._hear(lost=True)
        self._before = self.retries


def _drop(producer: Any) -> None:
    """Purge its queue: the window has these events, and the close would wait for the brokers."""
    producer.purge()
    producer.poll(0)


def _text(error: Exception) -> str:
    first = error.args[0] if error.args else error
    return str(first.str() if isinstance(first, KafkaError) else first)


def make_sink(target: Target, secret: Credentials, prefix: str, topics: tuple[str, ...], on: SinkCallbacks) -> Kafka:
    """Return the sink of this module."""
    del prefix, topics  # a topic of Kafka has no subjects
    return Kafka(target, secret, on)
