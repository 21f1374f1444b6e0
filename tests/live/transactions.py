"""Transactions, as the clients and as the events report them, in the same words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from event_contract import event_of

Event = dict[str, Any]


class Transaction(NamedTuple):
    """One request with its response; targets are unique."""

    target: str
    method: str
    status: int
    request_body: int
    response_body: int
    client_port: int  # -1 for this and the next: not known
    index: int  # in its connection

    def anywhere(self) -> Transaction:
        """The same, whatever its connection."""
        return self._replace(client_port=-1, index=-1)


def read_events(path: Path) -> list[Event]:
    """The events of a file of JSON Lines, every line of which has to be one."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [event_of(line) for line in text.splitlines()]


def of_event(event: Event) -> Transaction:
    """Return the transaction that an event reports; 0 for the numbers that it lacks."""
    request, response = event["http"].get("request", {}), event["http"].get("response", {})
    return Transaction(
        event.get("url", {}).get("original", ""),
        request.get("method", ""),
        response.get("status_code", 0),
        request.get("body", {}).get("bytes", 0),
        response.get("body", {}).get("bytes", 0),
        event["source"]["port"],
        event["appliance"]["transaction"],
    )


def of_client(text: str) -> list[Transaction]:
    """Return the transactions that web_client.py wrote."""
    return [Transaction(**one) for one in json.loads(text)]


def of_curl(text: str, methods: Mapping[str, str], *, parallel: bool) -> list[Transaction]:
    """Return the transactions of curl's output, a JSON object per transfer; methods: by target, where curl's differ.

    A redirect that was followed is two transactions. Curl does not tell their order in a connection when it does
    several transfers at a time."""
    indexes: Counter[int] = Counter()
    found = []

    def add(target: str, status: int, uploaded: int, downloaded: int, port: int, method: str) -> None:
        one = Transaction(target, method, status, uploaded, downloaded, port, indexes[port])
        found.append(one.anywhere() if parallel else one)
        indexes[port] += 1

    for one in map(json.loads, text.splitlines()):
        assert one["exitcode"] == 0, one["errormsg"]
        target, port = "/" + one["url"].split("/", 3)[3], one["local_port"]
        if one["num_redirects"]:
            add(target, 302, 0, len("elsewhere\n"), port, "GET")
            target = "/" + one["url_effective"].split("/", 3)[3]
        method = methods.get(target, one["method"])
        uploaded = one["size_upload"]
        if target.startswith("/echo"):  # curl counts the framing of a chunked upload; what came back is without it
            uploaded = min(uploaded, one["size_download"])
        add(target, one["response_code"], uploaded, one["size_download"], port, method)
    return found


def assert_same(seen: Iterable[Transaction], done: Iterable[Transaction]) -> None:
    """Every transaction exactly once, and nothing else."""
    done_times = Counter(done)
    anywhere = {one.target for one in done_times if one.index < 0}
    seen_times = Counter(one.anywhere() if one.target in anywhere else one for one in seen)
    extra, missing = sorted((seen_times - done_times).elements()), sorted((done_times - seen_times).elements())
    assert (extra, missing) == ([], []), (
        f"{len(extra)} events that are not: {extra[:5]}; {len(missing)} missing: {missing[:5]}"
    )


def assert_whole(events: Iterable[Event]) -> None:
    """Nothing of any of them was lost, and the appliance knows it."""
    for event in events:
        about = event["appliance"]
        assert about["pairing"] in ("ordered", "verified"), event
        for part in ("request", "response"):
            assert about[part] == {"complete": True, "missing_bytes": 0}, event
        assert not about["midstream"], event
        assert "anomalies" not in about, event


def assert_in_order(events: Iterable[Event]) -> None:
    """Of each connection they stand in the order in which they ended, although their topics change in between."""
    last: dict[tuple[str, ...], tuple[int, int]] = {}
    turned = False
    for event in events:
        ends = [str(event[side][name]) for side in ("source", "destination") for name in ("ip", "port")]
        connection = (*ends, str(event["network"].get("vlan")))
        place, topic = event["appliance"]["transaction"], event["http"]["response"]["status_code"] // 100
        before, of = last.get(connection, (-1, topic))
        assert place in (before + 1, 0), event  # 0: the ports are used again
        turned |= place > 0 and topic < of
        last[connection] = place, topic
    assert turned


def assert_contiguous(messages: Sequence[Sequence[Any]], start: int | None = None) -> None:
    """Sequence numbers of every topic follow each other within each epoch; the first one is `start` when given."""
    expected: dict[tuple[str, int], int] = {}
    for topic, epoch, sequence, _ in messages:
        wanted = expected.get((topic, epoch), sequence if start is None else start)
        assert sequence == wanted, f"{topic}: {sequence} after {wanted - 1}"
        expected[topic, epoch] = sequence + 1
