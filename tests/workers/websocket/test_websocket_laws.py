"""Laws of WebSocket: any cut into segments and any loss, against a reader in plain Python."""

from __future__ import annotations

from builders import MILLISECOND, SECOND, differences, outcome_of
from hypothesis import given
from hypothesis import strategies as st
from ws_wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Read, frame, lost, read, websocket

# No byte of these sizes is above 0x7f, and none of a payload or mask: only the first byte of a frame looks like one.
SIZES = st.sampled_from((0, 1, 2, 5, 30, 100, 125, 126, 127, 300, 1000, 1400, 4000, 70000 - 70000 % 128 + 3))
OPCODES = st.sampled_from((TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE))
KEYS = st.binary(min_size=4, max_size=4).map(lambda key: bytes(byte & 127 for byte in key))


@st.composite
def sides(draw, masks: bool) -> bytes:
    """Draw the bytes of a side: mostly frames that RFC 6455 allows."""
    out = b""
    for _ in range(draw(st.integers(0, 8))):
        opcode = draw(OPCODES)
        size = draw(SIZES)
        if opcode >= CLOSE:
            size = min(size, 125)
        payload = (draw(st.binary(min_size=1, max_size=8)) * (size // 1 + 1))[:size]
        payload = bytes(byte & 127 for byte in payload)
        fin = draw(st.booleans()) or opcode >= CLOSE
        mask = draw(KEYS) if masks != draw(st.sampled_from((False,) * 9 + (True,))) else None
        out += frame(opcode, payload, fin=fin, mask=mask)
    return out


@st.composite
def cut(draw, data: bytes, losses: bool) -> list[bytes | int]:
    """A stream in segments; a number is the size of a lost one."""
    pieces: list[bytes | int] = []
    at = 0
    while at < len(data):
        size = draw(st.sampled_from((1, 2, 3, 7, 50, 1000, 1460, 20000)))
        piece = data[at : at + size]
        pieces.append(len(piece) if losses and at and draw(st.integers(0, 5)) == 0 else piece)
        at += size
        if len(pieces) > 60:
            pieces.append(data[at:])
            break
    while pieces and (
        isinstance(pieces[-1], int) or not pieces[-1]
    ):  # the connection shows no byte behind the last one
        pieces.pop()
    return pieces


def found(pieces: list[bytes | int], side: int) -> Read:
    """Return the event's account of a side that sends these segments."""
    made = websocket(end="")
    for piece in pieces:
        if isinstance(piece, int):
            lost(made, side, bytes(piece))
        else:
            (made.server_sends if side else made.client_sends)(piece)
    made.idle(MILLISECOND)
    (made.client_sends if side else made.server_sends)(frame(PING, mask=b"1234" if side else None))
    outcome = outcome_of(made.idle(SECOND).close().frames)
    assert differences(outcome) == {}
    (event,) = [event for event in outcome.events if event["event"]["dataset"] == "appliance.websocket"]
    counts = dict(event["appliance"]["websocket"]["server" if side else "client"])
    return Read(counts, counts.pop("complete"))


@given(st.data(), st.sampled_from((0, 1)))
def test_any_cut_gives_the_counts_of_the_reference_reader(data, side):
    pieces = data.draw(sides(side == 0).flatmap(lambda sent: cut(sent, False)))
    assert found(pieces, side) == read(pieces, side == 0)


@given(st.data(), st.sampled_from((0, 1)))
def test_any_loss_gives_those_counts_or_says_that_it_does_not(data, side):
    sent = data.draw(sides(side == 0))
    pieces = data.draw(cut(sent, True))
    ours, reference = found(pieces, side), read(pieces, side == 0)
    assert ours.complete == reference.complete
    if reference.complete:
        assert ours == reference
        return
    size = sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
    whole = read([sent[:size]], side == 0).counts
    for name in ("messages", "text", "binary", "ping", "pong", "fragments", "bytes"):
        assert reference.counts[name] <= ours.counts[name] <= whole[name], name
