"""Law 9 over whole connections: with any segments lost, or joined anywhere, no header value is wrong."""

from __future__ import annotations

import random

from h2_wire import CLIENT, HEADERS, Talk, read, told
from hypothesis import example, given
from hypothesis import strategies as st

from workers.http2.driver import Http2Driver

seeds = st.integers(0, 2**48)
SECTIONS = ("request", "response", "response_trailers")


def wrong(got: dict[int, dict[str, object]], want: dict[int, dict[str, object]]) -> list[object]:
    """Header values, sizes and status codes that no frame of their stream carries."""
    out: list[object] = []
    for stream, row in got.items():
        truth = want[stream]
        for section in SECTIONS:
            fields = row[section] or []
            possible = list(truth[section] or []) + [(b":status", b"%d" % code) for code in truth["interim"]]
            if section == "response":
                possible += truth["response_trailers"] or []
            for name, value in fields:
                if not any(name in (None, n) and value in (None, v) for n, v in possible):
                    out.append((stream, section, name, value))
        for side in ("client", "server"):
            size = row[f"{side}_body_bytes"]
            if row[f"{side}_ended"] and not row[f"{side}_loss"] and size != truth[f"{side}_body_bytes"]:
                out.append((stream, side, size))
    return out


def lose(pieces: list[tuple[int, bytes]], chance: random.Random, share: float) -> list[tuple[int, bytes | int]]:
    """Replace some segments by gaps; the first of each side stays."""
    seen: set[int] = set()
    out: list[tuple[int, bytes | int]] = []
    for side, data in pieces:
        if side in seen and chance.random() < share:
            out.append((side, len(data)))
        else:
            out.append((side, data))
        seen.add(side)
    return out


@example(6660, 0.01)  # a response behind an informational one of unknown status
@example(2337, 0.05)  # … and one whose own status was inferred
@example(6806, 0.05)  # DATA whose header section was lost before the request was read
@given(seeds, st.sampled_from((0.01, 0.05, 0.3)))
def test_with_segments_lost_no_value_is_wrong(seed, share):
    talk = Talk(seed, sensible=seed % 2 == 0)
    chance = random.Random(seed)
    connection = read(lose(talk.pieces(chance), chance, share))
    assert wrong(told(connection), talk.expected()) == []


@given(seeds)
def test_joined_anywhere_no_value_is_wrong(seed):
    talk = Talk(seed, sensible=seed % 2 == 0)
    chance = random.Random(seed)
    pieces = talk.pieces(chance)
    first = chance.randrange(len(pieces))
    connection = read(pieces[first:], Http2Driver(joined_client=True, joined_server=True))
    got = told(connection)
    for row in got.values():
        row["client_loss"] = row["server_loss"] = True  # what came before the join is unknown
    assert wrong(got, talk.expected()) == []


def test_most_of_a_long_connection_is_known_behind_losses():
    """Beside being right it has to say something: the shares are low bounds of what this seed gives."""
    right = asked = 0
    for seed in range(12):
        talk = Talk(seed, count=60, sensible=True)
        chance = random.Random(seed)
        got = told(read(lose(talk.said, chance, 0.01)))
        for row in got.values():
            if row["request"] is not None:
                asked += 1
                right += {name for name, value in row["request"] if value is not None} >= {b":method", b":path"}
    assert asked > 600
    assert right >= 0.8 * asked


def test_a_late_join_reads_the_streams_that_begin_behind_it():
    talk = Talk(3, count=20)
    asked = [
        (place, int.from_bytes(data[5:9], "big")) for place, (side, data) in enumerate(talk.said)
        if side == CLIENT and data[3] == HEADERS
    ]  # fmt: skip
    begins = {stream: place for place, stream in reversed(asked)}
    cut = begins[21]
    got = told(read(talk.said[cut:], Http2Driver(joined_client=True, joined_server=True)))
    behind = {stream for stream, place in begins.items() if place >= cut}
    assert behind <= {stream for stream, row in got.items() if row["request"]}
