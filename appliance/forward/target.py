"""Targets and credentials of `appliance forward`, and the interface that all kinds of servers share.

Credentials come from a file that no other user may read, or from the environment; never from a URL or the command line,
which other users can see. No message of ours contains any.
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

from appliance.config.address import split_address
from appliance.config.load import read_text
from appliance.forward.in_flight import InFlightEvent
from appliance.forward.sinks import EXAMPLES, SINKS

ENVIRONMENT = "APPLIANCE_FORWARD_"  # prefix of a credential's name in capitals
CONNECT_TIMEOUT_S = 5.0  # maximum time to connect


class TargetFault(ValueError):
    """A URL or a file of credentials cannot be used. The text is for a person and holds no secret."""


class Target(NamedTuple):
    """The address to forward to. kind: a scheme of SINKS. servers: HOST:PORT of members of one cluster. name: stream or
    topic.
    """

    kind: str
    servers: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}://{','.join(self.servers)}/{self.name}"


def parse(text: str) -> Target:
    """Parse a URL such as nats://a:4222,b:4222/STREAM; port and name are optional. Raises TargetFault."""
    kind, separator, rest = text.partition("://")
    if not separator or kind not in SINKS:
        raise TargetFault(f"not a target URL; it looks like {EXAMPLES}")
    if "@" in rest:
        raise TargetFault("holds credentials, which other users of this machine can see; use --credentials FILE")
    hosts, _, name = rest.partition("/")
    sink = SINKS[kind]
    name = name or sink.name
    if not re.fullmatch(sink.pattern, name):
        raise TargetFault(f"{name!r} cannot be the name of a {sink.what}")
    servers = []
    for host in hosts.split(","):
        bare = ":" not in host or host.endswith("]")
        try:
            address, port = split_address(f"{host}:{sink.port}" if bare else host)
        except ValueError as error:
            raise TargetFault(f"{error}; it looks like {EXAMPLES}") from error
        if address == "*" or port == 0:
            raise TargetFault(f"{host!r} is not an address to connect to; it looks like {EXAMPLES}")
        servers.append(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    return Target(kind, tuple(servers), name)


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of the file of --credentials; all are optional."""

    user: str = ""
    password: str = ""
    token: str = ""  # NATS
    creds: str = ""  # NATS: path of a .creds file (JWT and NKEY)
    mechanism: str = ""  # Kafka: SASL mechanism; SCRAM-SHA-512 if there is a user
    tls: bool = False  # implied by each of the following
    ca: str = ""  # path of the trusted certificates; the system's if ""
    certificate: str = ""  # path of our certificate
    key: str = ""  # path of its key

    def __repr__(self) -> str:
        return "Credentials(…)"

    @property
    def encrypted(self) -> bool:
        """Return whether the connection uses TLS."""
        return self.tls or bool(self.ca or self.certificate)


def credentials(file: Path | None, environment: Mapping[str, str]) -> Credentials:
    """Return the credentials of the file, overridden by the environment (APPLIANCE_FORWARD_USER, …). Raises
    TargetFault.
    """
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
        text = read_text(file)
    except OSError as error:
        raise TargetFault(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TargetFault(f"{file}: not UTF-8") from error
    if stat.S_IMODE(about.st_mode) & 0o077:
        raise TargetFault(f"{file}: others can read or change these credentials; run: chmod 0600 {file}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # the error has a line and the expected token, but no content
        raise TargetFault(f"{file}: not TOML: {error}") from error


# -- sinks -----------------------------------------------------------------------------------------------------------


class SinkFault(Exception):
    """The server cannot be used. The text is for a person. final: a retry cannot help."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class SinkCallbacks(NamedTuple):
    """The callbacks by which a sink reports outcomes, always in the event loop's thread. lost: of the connection."""

    accepted: Callable[[int, bool], None]  # number, whether the server had stored it before
    failed: Callable[[int, str], None]  # number, why
    refused: Callable[[int, str], None]
    lost: Callable[[str], None]
    note: Callable[[str], None]  # a message for a person; the sink continues


class Sink(Protocol):
    """A server that accepts events. `open` may be called again after `lost`."""

    answer_s: float | None  # for InFlightWindow
    retries: int  # by the library itself

    async def open(self) -> str:
        """Connect and verify that events can be published. Return a description of the server. Raises SinkFault."""

    async def send(self, event: InFlightEvent) -> None:
        """Pass an event to the client library. Raises SinkFault if the connection is closed."""

    async def close(self) -> None:
        """Close the connection at once. May be called at any time, and more than once."""
