"""Publishing to NATS JetStream: the only module that uses nats-py.

Each event is one message whose id is `event.id` (Nats-Msg-Id). The stream drops messages with an id that it has, and
acknowledges a message when a majority of its servers store it. The library's own reconnection would buffer messages
without reporting their outcome. So here a broken connection is closed, and the window sends again.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import msgspec

from appliance.config.rules import how_to_install
from appliance.forward.in_flight import InFlightEvent
from appliance.forward.target import CONNECT_TIMEOUT_S, Credentials, SinkCallbacks, SinkFault, Target
from appliance.stats.names import TOPICS

try:
    from nats.aio.client import Client
    from nats.errors import AuthorizationError, BadSubjectError, MaxPayloadError
    from nats.errors import Error as NatsError
    from nats.js.errors import NotFoundError
except ImportError as error:
    raise SinkFault(
        f"nats:// needs the library nats-py ({error}): {how_to_install('forward')}",
        final=True,
    ) from error

ANSWER_TIMEOUT_S = 5.0  # a stream elects a new leader within this time
NO_RESPONDERS = "503"
TOO_LARGE = 10054  # the server's error code for it
REFUSALS = ("authorization violation", "authentication", "user authentication", "permissions violation")


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    stream: str = ""
    duplicate: bool = False
    error: _Error | None = None


_answer = msgspec.json.Decoder(_Answer).decode


def covers(pattern: str, subject: str) -> bool:
    """Return whether a subject of a stream, with its * and >, matches a subject."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(tokens) > index
        if index >= len(tokens) or part not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)


class JetStream:
    """A connection to a stream, one at a time. Subjects are `prefix` and the topic: appliance.http.2xx."""

    answer_s: float | None = ANSWER_TIMEOUT_S
    retries = 0

    def __init__(
        self, target: Target, secret: Credentials, prefix: str, topics: tuple[str, ...], on: SinkCallbacks
    ) -> None:
        self.target = target
        self.prefix = prefix
        self._secret = secret
        self._topics = topics
        self._on = on
        self._client: Any = None
        self._servers = [f"nats://{server}" for server in target.servers]
        self._inbox = ""
        self._why = ""

    async def open(self) -> str:
        """Connect; see Sink."""
        await self.close()
        client = Client()
        self._why = ""
        try:
            await asyncio.wait_for(client.connect(**self._options(client)), 4 * CONNECT_TIMEOUT_S)
        except Exception as error:
            await _end(client)
            raise self._fault(error) from error
        self._client = client
        known = {*self._servers, *(url.geturl() for url in client.discovered_servers)}
        self._servers = sorted(known)  # other members serve when the named one is down
        try:
            text = await self._check(client)
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        except Exception:
            await self.close()
            raise
        return text

    def _options(self, client: Any) -> dict[str, Any]:
        secret = self._secret

        async def on_error(error: Exception) -> None:
            self._why = str(error).removeprefix("nats: ") or type(error).__name__
            if self._client is client:
                self._on.note(f"{self._at}: {self._why}")

        async def on_closed() -> None:
            if self._client is client:
                self._client = None
                self._on.lost(self._why or "the connection was closed")

        options: dict[str, Any] = {
            "servers": list(self._servers),
            "name": "appliance forward",
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0.1,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "ping_interval": 5,  # the client closes a silent connection after three
            "error_cb": on_error,
            "closed_cb": on_closed,
        }
        given = {"user": secret.user, "password": secret.password, "token": secret.token}
        options |= {name: value for name, value in given.items() if value}
        if secret.creds:
            options["user_credentials"] = secret.creds
        if secret.encrypted:
            options["tls"] = _tls(secret)
        return options

    def _fault(self, error: Exception) -> SinkFault:
        """Convert an error into a SinkFault, final if a retry cannot help."""
        text = str(error).removeprefix("nats: ").strip("'") or self._why or type(error).__name__
        if isinstance(error, AuthorizationError) or any(word in text.lower() for word in REFUSALS):
            had = "these credentials" if self._secret != Credentials() else "us without credentials (--credentials)"
            return SinkFault(f"{self._at} refuses {had}: {text}", final=True)
        if isinstance(error, ssl.SSLCertVerificationError):
            return SinkFault(
                f"{self._at}: {error.verify_message}; `ca` in --credentials names the trusted certificates", final=True
            )
        return SinkFault(f"{self._at} is not reachable: {self._why or text}")

    @property
    def _at(self) -> str:
        return f"nats://{','.join(self.target.servers)}"

    async def _check(self, client: Any) -> str:
        """Check the stream before publishing."""
        name = self.target.name
        try:
            info = await client.jetstream(timeout=CONNECT_TIMEOUT_S).stream_info(name)
        except NotFoundError as error:
            raise SinkFault(
                f"{self._at} has no stream {name}; ops/forward/make_stream.py makes it",
                final=True,
            ) from error
        except (TimeoutError, NatsError) as error:
            raise SinkFault(
                f"{self._at}: JetStream does not answer (is it enabled, has it a leader?): {error}"
            ) from error
        wanted = [topic for topic in TOPICS if topic.startswith(self._topics)]
        for subject in map(self.subject, wanted):
            if not any(covers(pattern, subject) for pattern in info.config.subjects or []):
                have = ", ".join(info.config.subjects or []) or "no subjects"
                raise SinkFault(f"stream {name} takes {have}, not {subject}: add {self.prefix}.>", final=True)
        window = float(info.config.duplicate_window or 0)
        return f"stream {name}, {info.config.num_replicas or 1} replicas, drops duplicates for {window:g} s"

    def subject(self, topic: str) -> str:
        """Return the subject of a topic of the feed."""
        return f"{self.prefix}.{topic.rstrip('.')}"

    async def send(self, event: InFlightEvent) -> None:
        """Send an event; see Sink."""
        client = self._client
        if client is None or not client.is_connected:
            raise SinkFault(self._why or "the connection is closed")
        headers = {"Nats-Msg-Id": event.id, "Nats-Expected-Stream": self.target.name}
        try:
            await client.publish(
                self.subject(event.topic), event.body, reply=f"{self._inbox}.{event.number}", headers=headers
            )
        except MaxPayloadError:
            self._on.refused(event.number, f"{len(event.body):,} bytes exceed the server's max_payload")
        except BadSubjectError:
            self._on.refused(event.number, f"{event.topic!r} makes no subject")
        except (NatsError, OSError) as error:
            raise SinkFault(str(error) or type(error).__name__) from error

    async def _answered(self, message: Any) -> None:
        number = int(message.subject.rpartition(".")[2])
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            self._on.failed(number, f"no stream takes {self.prefix}.> at the moment")
            return
        try:
            answer = _answer(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._on.failed(number, "the answer is not from JetStream")
            return
        if answer.error is None:
            self._on.accepted(number, answer.duplicate)
        elif answer.error.err_code == TOO_LARGE:
            self._on.refused(number, answer.error.description)
        else:
            self._on.failed(number, answer.error.description)

    async def close(self) -> None:
        """Close the connection; see Sink."""
        client, self._client = self._client, None
        if client is not None:
            await _end(client)


async def _end(client: Any) -> None:
    try:
        await asyncio.wait_for(client.close(), CONNECT_TIMEOUT_S)
    except Exception:  # the connection is closed either way; the error repeats the first one
        pass


def _tls(secret: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=secret.ca or None)
        if secret.certificate:
            context.load_cert_chain(secret.certificate, secret.key or None)
    except (OSError, ssl.SSLError) as error:
        raise SinkFault(f"ca, certificate or key of --credentials: {error}", final=True) from error
    return context


def make_sink(
    target: Target, secret: Credentials, prefix: str, topics: tuple[str, ...], on: SinkCallbacks
) -> JetStream:
    """Return the sink of this module."""
    return JetStream(target, secret, prefix, topics, on)
