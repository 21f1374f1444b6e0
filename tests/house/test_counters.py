"""A counter stands in one list, and every place in a list of names is that of its name."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from appliance.stats import names
from appliance.stats.pipeline_counters import COUNTERS, Counter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "ops"))
import counters as generator  # noqa: E402

SAME = "{}"
MIRRORS = (  # enums whose values are places in a list of names: file, first member, the list, the form of a member
    ("appliance/wire/ip_fragment.pxd", "MERGED", names.FRAGMENT_OUTCOMES, SAME),
    ("workers/http1/message.pxd", "LENGTH_AND_CHUNKED", names.ANOMALIES, SAME),
    ("workers/http2/anomalies.pxd", "HEAD_TOO_LONG", names.ANOMALIES, SAME),
    ("workers/http1/transaction.pxd", "METHOD_HEAD", names.METHODS, "METHOD_{}"),
    ("workers/http1/transaction.pxd", "ORDERED", names.PAIRINGS, SAME),
    ("workers/http1/body.pyx", "FAILED", names.BODY_OUTCOMES, SAME),
    ("workers/http2/body.pyx", "FAILED", names.BODY_OUTCOMES, SAME),
    ("workers/tcp/flow_record.pxd", "STATE_FIN", names.FLOW_STATES, "STATE_{}"),
    ("workers/tls/decryption.pxd", "UNDECIDED", names.DECRYPTED, SAME),
    ("workers/tls/decryption.pxd", "CLEAR_BYTES", names.TLS_BYTES, "{}_BYTES"),
    ("workers/websocket/frames.pxd", "RESERVED_BITS", names.WEBSOCKET_ANOMALIES, SAME),
    ("workers/http2/header_list.pxd", "EXACT", names.HTTP2_CERTAINTIES, SAME),
)
OTHER_NAMES = {"STILL_OPEN": "STATE_OPEN", "FROM_INFERRED": "INFERRED"}
NO_PLACE = {"GOOD", "OUTCOMES_END"}  # members that are no place


def members(text: str, first: str) -> dict[str, int]:
    """Return {member: its value, or the bit that it is} of the enum that has the member `first`."""
    found = next(block for block in re.findall(r"^cdef enum.*\n((?:    .*\n)+)", text, re.M) if f"    {first}" in block)
    values: dict[str, int] = {}
    following = 0
    for name, value, bit in re.findall(r"^    ([A-Z][A-Z_0-9]*)(?: = (\d+)(?:ULL << | << )?(\d+)?)?", found, re.M):
        values[name] = following = int(bit or value or following)
        following += 1
    return values


def wrong_places(text: str, first: str, listed: Sequence[str], form: str) -> list[str]:
    """Return the members of an enum whose value is not the place of their name."""
    return [
        member
        for member, place in members(text, first).items()
        if member not in NO_PLACE and OTHER_NAMES.get(member, member) != form.format(listed[place].upper())
    ]


def test_the_fields_of_the_counters_are_those_of_the_list() -> None:
    for file, text in generator.FILES.items():
        assert file.read_text() == text(), "run  python ops/counters.py"


@pytest.mark.parametrize("text", [generator.declaration, generator.definition], ids=["counts.pxd", "counts.pyx"])
def test_two_rows_with_each_others_fields_show(text: Callable[[Sequence[Counter]], str]) -> None:
    gaps, table = (next(row for row in COUNTERS if row.slot == slot) for slot in ("gaps", "http2_violations"))
    swapped = {gaps: gaps._replace(field=table.field), table: table._replace(field=gaps.field)}
    assert text([swapped.get(row, row) for row in COUNTERS]) != text(COUNTERS)


def test_two_rows_with_the_same_field_are_refused() -> None:
    with pytest.raises(ValueError, match="lost: another slot has the field gaps, too"):
        generator.definition([Counter("gaps", field="gaps"), Counter("lost", field="gaps")])


def test_a_slot_of_an_array_has_the_place_of_its_value() -> None:
    slots, fields, places = generator.spread(
        [
            Counter("connections", values=("silent", "http", "tls"), field="connections[]"),
            Counter("open", values=("http", "tls"), field="speaking[1:]"),
            Counter("blocks", values=("exact", "joined"), field="http2[BLOCKS]"),
            Counter("ended", values=("reported", "crash", "dropped"), field="http2[STREAMS_{}]"),
        ]
    )
    assert dict(slots) == {
        "connections.silent": "self.connections[0]",
        "connections.http": "self.connections[1]",
        "connections.tls": "self.connections[2]",
        "open.http": "self.speaking[1]",
        "open.tls": "self.speaking[2]",
        "blocks.exact": "self.http2[0]",
        "blocks.joined": "self.http2[1]",
        "ended.reported": "self.http2[2]",
        "ended.crash": "0",
        "ended.dropped": "self.http2[3]",
    }
    assert [(field.name, field.length) for field in fields] == [("connections", 3), ("speaking", 3), ("http2", 4)]
    assert places == [("BLOCKS", 0), ("STREAMS_REPORTED", 2), ("STREAMS_DROPPED", 3), ("HTTP2_COUNTS", 4)]


@pytest.mark.parametrize(("file", "first", "listed", "form"), MIRRORS, ids=[f"{m[0]}-{m[1]}" for m in MIRRORS])
def test_the_values_of_an_enum_are_the_places_of_its_names(
    file: str, first: str, listed: Sequence[str], form: str
) -> None:
    assert wrong_places((ROOT / file).read_text(), first, listed, form) == []


@pytest.mark.parametrize(("file", "first", "listed", "form"), MIRRORS, ids=[f"{m[0]}-{m[1]}" for m in MIRRORS])
def test_two_names_that_change_places_in_their_list_show(
    file: str, first: str, listed: Sequence[str], form: str
) -> None:
    found = members((ROOT / file).read_text(), first)
    places = [place for name, place in found.items() if name not in NO_PLACE]
    changed = list(listed)
    changed[places[0]], changed[places[-1]] = changed[places[-1]], changed[places[0]]
    assert len(wrong_places((ROOT / file).read_text(), first, changed, form)) == 2
