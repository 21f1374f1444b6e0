"""Options by which several commands choose events, and the end of a command whose feed cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from appliance.cli.options import stop
from appliance.expression.event_filter import Test, WhereError, compile_where
from appliance.ipc.sockets import BusError
from appliance.native.safe_files import Unusable
from appliance.pubsub.curve_keys import KeyFault

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def chosen_by(where: str) -> Test:
    """Return the test of --where. End the command if it is no expression."""
    try:
        return compile_where(where)
    except WhereError as error:
        stop(f"--where {error}")


def moment(when: str | None, now: datetime, option: str = "--since") -> str:
    """Return a time as events write it, "" if it is not given: 90s, 10m, 2h, 1d ago, or ISO 8601 (UTC by default).

    End the command if it is none.
    """
    if when is None:
        return ""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", when)
    try:
        if ago:
            found = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            found = datetime.fromisoformat(when)
            found = found.replace(tzinfo=found.tzinfo or UTC)
        return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    except (ValueError, OverflowError):
        stop(f"{option} {when!r}: write how long ago (90s, 10m, 2h, 1d) or a time (2026-11-22T10:00)")


@contextmanager
def ends_at_faults() -> Iterator[None]:
    """End the command with a message at a fault of its files, its keys or its feed."""
    try:
        yield
    except Unusable as error:
        stop(str(error))
    except KeyFault as error:
        stop(f"--server-key, --key: {error}")
    except BusError as error:
        stop(f"--connect {error}")
