"""Where `appliance forward` publishes to, who it is there, and what every kind of server has in common.

Credentials are read from a file that nobody else may read, or from the environment; never from a URL or the command
line, which other users can see. No message of ours holds any.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from appliance.config import split_address
from appliance.window import Sending

NATS, KAFKA = "nats", "kafka"
PORTS = {NATS: 4222, KAFKA: 9092}
DEFAULTS = {NATS: "APPLIANCE", KAFKA: "appliance"}  # the stream or topic that ops/forward/ defines
EXAMPLES = "nats://HOST:PORT/STREAM or kafka://HOST:PORT/TOPIC"
ENVIRONMENT = "APPLIANCE_FORWARD_"  # before the name of a credential in capitals
CONNECT_S = 5.0  # for a connection to stand
_NAMES = {NATS: re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]{1,255}"), KAFKA: re.compile(r"[A-Za-z0-9._-]{1,249}")}


class TargetFault(ValueError):
    """A URL or file of credentials that cannot be used. The text is for a person and holds no secret."""


class Target(NamedTuple):
    """kind: NATS or KAFKA. servers: HOST:PORT of any members of one cluster. name: of the stream or topic."""

    kind: str
    servers: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}://{','.join(self.servers)}/{self.name}"


def parse(text: str) -> Target:
    """A URL such as nats://a:4222,b:4222/STREAM; port and name may be left out. Raises TargetFault."""
    kind, separator, rest = text.partition("://")
    if not separator or kind not in PORTS:
        raise TargetFault(f"not a place to forward to; it looks like {EXAMPLES}")
    if "@" in rest:
        raise TargetFault("holds credentials, which other users of this machine can see; use --credentials FILE")
    hosts, _, name = rest.partition("/")
    name = name or DEFAULTS[kind]
    if not _NAMES[kind].fullmatch(name):
        what = "stream" if kind == NATS else "topic"
        raise TargetFault(f"{name!r} cannot be the name of a {what}")
    servers = []
    for host in hosts.split(","):
        bare = ":" not in host or host.endswith("]")
        try:
            address, port = split_address(f"{host}:{PORTS[kind]}" if bare else host)
        except ValueError as error:
            raise TargetFault(f"{error}; it looks like {EXAMPLES}") from error
        if address == "*" or port == 0:
            raise TargetFault(f"{host!r} is not an address to connect to; it looks like {EXAMPLES}")
        servers.append(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    return Target(kind, tuple(servers), name)


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may stand in the file of --credentials; all of it is optional."""

    user: str = ""
    password: str = ""
    token: str = ""  # NATS
    creds: str = ""  # NATS: path of a .creds file (JWT and NKEY)
    mechanism: str = ""  # Kafka: of SASL; SCRAM-SHA-512 where there is a user
    tls: bool = False  # true also where one of the following is given
    ca: str = ""  # path of the certificates that are trusted; the system's if ""
    certificate: str = ""  # path of our own
    key: str = ""  # path of its key

    def __repr__(self) -> str:
        return "Credentials(…)"

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls or bool(self.ca or self.certificate)


def credentials(file: Path | None, environment: Mapping[str, str]) -> Credentials:
    """What the file says, then what the environment says (APPLIANCE_FORWARD_USER, …). Raises TargetFault."""
    said: dict[str, object] = dict(_read(file)) if file else {}
    for field in msgspec.structs.fields(Credentials):
        value = environment.get(f"{ENVIRONMENT}{field.name.upper()}")
        if value is not None:
            said[field.name] = value in ("1", "true", "yes") if field.type is bool else value
    try:
        return msgspec.convert(said, Credentials)
    except msgspec.ValidationError as error:
        raise TargetFault(f"{file or 'environment'}: {error}") from error


def _read(file: Path) -> dict[str, object]:
    try:
        about = os.stat(file)
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise TargetFault(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TargetFault(f"{file}: is not UTF-8") from error
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise TargetFault(f"{file}: others can read or change these credentials; do: chmod 0600 {file}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # says a line and what it expected there, nothing that stands in it
        raise TargetFault(f"{file}: not TOML: {error}") from error


# -- sinks -----------------------------------------------------------------------------------------------------------


class SinkFault(Exception):
    """The server cannot be used. The text is for a person.

    final: it answered, and will go on saying no; else it may come back."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class Answers(NamedTuple):
    """Whom a sink tells what became of an event; always from the event loop's thread. lost: of the connection."""

    accepted: Callable[[int, bool], None]  # number, whether the server had it already
    failed: Callable[[int, str], None]  # number, why
    refused: Callable[[int, str], None]
    lost: Callable[[str], None]
    note: Callable[[str], None]  # something that a person should know; the sink copes


class Sink(Protocol):
    """A server that takes events. `open` may be called again after `lost`."""

    answer_s: float | None  # for Window
    retries: int  # that the library made on its own

    async def open(self) -> str:
        """Connects and looks whether events can be published there; what there is, in words. Raises SinkFault."""

    async def send(self, event: Sending) -> None:
        """Hands an event to the client library. Raises SinkFault when the connection is gone."""

    async def close(self) -> None:
        """Ends the connection, at once. May be called at any time, and more than once."""
