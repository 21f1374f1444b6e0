"""Segments with hostile numbers through the whole path: order, overlaps, wraps, lengths that lie, cuts by snaplen."""

from __future__ import annotations

import struct

from builders import MILLISECOND, START_NS, Conversation, get, post, spoken, talk
from cases import Case, Item
from drive import CONFIGS, Wired, through
from impair import drop, duplicate, reorder
from packets import segment
from target_http import WORDS, responses
from targets import Target
from wire import ACK, FIN, RST, SYN

ISNS = (1_000_000, 0, 0xFFFFFFFF, 0xFFFFFF00, 0x7FFFFFFF, 0x80000000, 0xFFFF0000)
STARTS = (START_NS, 0, 1, (1 << 64) - 10_000_000_000, (1 << 64) - 1)
SNAPLENS = (1 << 18, 1 << 18, 1 << 18, 96, 60)
FLAGS = (ACK, ACK, ACK | 8, SYN, SYN | ACK, FIN | ACK, FIN, RST, RST | ACK, 0, SYN | FIN, 0xFF)


def items(conversation: Conversation, flow: int, frames: list[tuple[int, bytes]] | None = None) -> list[Item]:
    """A conversation's frames as items: numbers relative to where each side begins."""
    out = []
    before = START_NS
    for ts_ns, frame in conversation.frames if frames is None else frames:
        back = frame[34:36] == b"\0\x50"
        seq, ack, word = struct.unpack_from(">IIH", frame, 38)
        mine, peer = (conversation.server, conversation.client) if back else (conversation.client, conversation.server)
        numbers = (
            flow, back, seq - mine.isn & 0xFFFFFFFF, ack - peer.isn & 0xFFFFFFFF if word & ACK else 0, word & 0xFF,
            word >> 12, 0, 0, ts_ns - before,
        )  # fmt: skip
        out.append((numbers, frame[54:]))
        before = ts_ns
    return out


def seeds() -> list[Case]:
    midstream = Conversation().established().exchange(get(1)).exchange(get(2)).close()
    large = [post(1, 5000), get(2, body=b"y" * 4000, framing="chunked"), get(3, hints=(103,))]
    made = [
        talk(get(1), get(2)), talk(post(1, 3000), get(2)), talk(*large, close="server"), talk(get(1), close="reset"),
        talk(get(1), close=""), Conversation().handshake().pipeline([get(1), get(2), post(3)]).close(), midstream,
        talk(*large, mss=100), spoken(b"\x16\x03\x01" * 50, b"\0" * 99),
        spoken(b"GET / HTTP/1.1\r\n\r\n" * 3, responses(3)),
    ]  # fmt: skip
    cases = []
    for place, conversation in enumerate(made):
        flow = (0, 2, 4, 6, 9)[place % 5]
        plain = items(conversation, flow)
        cases.append(Case([0, 0, 0, 0, 0, 0, 0, 0], plain))
        frames = conversation.frames
        for other in (reorder(frames, 4, place), duplicate(frames, 0.5, place), drop(frames, 0.2, place)):
            cases.append(
                Case([place % 5, place % 3, place, place, place, 0, place, 0], items(conversation, flow, list(other)))
            )
    again = items(talk(get(1)), 0)
    cases.append(Case([0] * 8, again + [((*each[:8], 10 * MILLISECOND), data) for each, data in again]))
    return cases


def frames_of(case: Case) -> list[Wired]:
    """The frames that a case says."""
    client, server = ISNS[case.knob(3, len(ISNS))], ISNS[case.knob(4, len(ISNS))]
    now = STARTS[case.knob(5, len(STARTS))]
    snaplen = SNAPLENS[case.knob(6, len(SNAPLENS))]
    out = []
    for (flow, back, seq, ack, flags, words, lie, cut, step), data in case.items:
        mine, peer = (server, client) if back & 1 else (client, server)
        frame = segment(flow, bool(back & 1), mine + seq, peer + ack, flags, words, lie, data)
        kept = frame[: max(0, min(snaplen, len(frame) - cut))]
        now = now + step & 0xFFFFFFFFFFFFFFFF
        out.append((now, kept, len(frame)))
    return out


def run(case: Case) -> int:
    frames = frames_of(case)
    through(
        frames,
        CONFIGS[case.knob(0, len(CONFIGS))],
        workers=1 + case.knob(1, 3),
        exact=case.knob(2, 4) != 0,
        later_ns=(0, 1, 50, 2000, 400_000)[case.knob(7, 5)] * MILLISECOND,
    )
    return len(frames)


# flow, direction, seq, ack, flags, words of the header, added to the IP length, bytes not captured, ns since the last
TARGET = Target("segment", struct.Struct("<BBIIBBhHq"), seeds, run, [*WORDS, *(bytes((each,)) for each in FLAGS)])
