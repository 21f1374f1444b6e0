"""The registry of sinks: one row for each scheme of a URL that `appliance forward` understands.

A server is a module with `make_sink(target, secret, prefix, topics, on)`, a row here and an extra in pyproject.toml.
"""

from __future__ import annotations

from typing import NamedTuple


class SinkKind(NamedTuple):
    """A kind of server. Its module is loaded, and its library needed, when a URL names it."""

    module: str
    port: int
    what: str  # the thing on the server that a URL names
    name: str  # its default, which ops/forward/ defines
    pattern: str  # of a valid name


SINKS = {
    "nats": SinkKind("appliance.forward.jetstream", 4222, "stream", "APPLIANCE", r"[^\s.*>/\\\x00-\x1f\x7f]{1,255}"),
    "kafka": SinkKind("appliance.forward.kafka", 9092, "topic", "appliance", r"[A-Za-z0-9._-]{1,249}"),
}
EXAMPLES = " or ".join(f"{scheme}://HOST:PORT/{kind.what.upper()}" for scheme, kind in SINKS.items())
