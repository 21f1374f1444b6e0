"""The secrets of extracted connections: those of their sessions and no others, from key logs and captures."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from builders import Conversation
from hypothesis import given
from hypothesis import strategies as st
from ip_fragments import all_fragmented
from pcapfile import Frame
from tls_bytes import HANDSHAKE, USUAL, client_hello, record

from appliance.extract.session_secrets import ClientRandoms, key_log, secrets_of
from appliance.extract.sources import Seen
from appliance.keylog.secrets import CLIENT_TRAFFIC, MASTER, Secret
from appliance.ring.pcapng import SECRETS_IN_BLOCK, PcapngWriter

RANDOM = bytes(range(32))  # of client_hello()
HELLO = record(HANDSHAKE, client_hello(USUAL))
ETHERNET = 1


def looked_at(frames: list[Frame]) -> set[bytes]:
    randoms = ClientRandoms()
    for stamp, frame in frames:
        randoms.look(Seen(frame, stamp, len(frame), ETHERNET, ""))
    return randoms.found


def talk(*pieces: bytes, cut: int | None = None, **how: object) -> list[Frame]:
    made = Conversation(**how).handshake()
    for piece in pieces:
        made.client_sends(piece, cut)
    return made.frames


@pytest.mark.parametrize("cut", [None, 1, 2, 7, 37, 38, 700])
@pytest.mark.parametrize(
    "before", [b"", b"EHLO a.example\r\nSTARTTLS\r\n", b"\x01" * 60], ids=["first", "late", "ones"]
)
def test_the_random_of_a_hello_is_found_at_any_split_and_place(before: bytes, cut: int | None) -> None:
    assert RANDOM in looked_at(talk(before + HELLO, cut=cut))


def test_padding_and_repeated_segments_are_no_part_of_the_stream() -> None:
    frames = talk(HELLO, cut=1)
    padded = [(stamp, frame.ljust(60, b"\x01")) for stamp, frame in frames]
    twice = [one for frame in padded for one in (frame, frame)]
    assert looked_at(twice) == {RANDOM}


def test_the_random_is_found_over_ipv6_and_over_a_wrapped_number() -> None:
    assert looked_at(talk(HELLO, cut=5, client="2001:db8::1", server="2001:db8::2", client_isn=2**32 - 20)) == {RANDOM}


def test_what_is_no_hello_has_none() -> None:
    assert looked_at(talk(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n" * 100)) == set()
    assert looked_at(all_fragmented(talk(HELLO), 24)) == set()


@given(st.binary(max_size=400), st.integers(0, 60))
def test_any_frame_may_come(data: bytes, cut: int) -> None:
    frames = talk(data or b"x")
    looked_at([(stamp, frame[: len(frame) - cut]) for stamp, frame in frames])


def session(number: int) -> Secret:
    return (MASTER, number.to_bytes(32), random.Random(number).randbytes(48))


def keylog_file(path: Path, secrets: list[Secret], end: bytes = b"") -> str:
    path.write_bytes(b"# comment\n\xff\xfejunk\n" + key_log(secrets) + end)
    return str(path)


def test_only_secrets_of_the_sessions_are_taken(tmp_path: Path) -> None:
    sessions = list(map(session, range(2000)))
    path = keylog_file(tmp_path / "keys", sessions)
    wanted = {sessions[7][1], sessions[1999][1], b"x" * 32}
    assert secrets_of(wanted, [path], []) == [sessions[7], sessions[1999]]


def test_the_latest_secret_counts_and_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    old, new = session(1), (MASTER, session(1)[1], b"n" * 48)
    traffic = (CLIENT_TRAFFIC, session(1)[1], b"t" * 32)
    path = keylog_file(tmp_path / "keys", [old, traffic], key_log([new])[:-1])
    assert secrets_of({old[1]}, [path], []) == [new, traffic]


@pytest.mark.parametrize("count", [1, SECRETS_IN_BLOCK + 1])
def test_secrets_of_a_capture_are_read_back(tmp_path: Path, count: int) -> None:
    sessions = list(map(session, range(count)))
    path = tmp_path / "capture.pcapng"
    with path.open("wb") as out:
        writer = PcapngWriter(out, "", key_log(sessions))
        for stamp, frame in talk(HELLO):
            writer.write(frame, stamp, len(frame), ETHERNET, "")
    assert secrets_of({one[1] for one in sessions}, [], [str(path)]) == sessions
