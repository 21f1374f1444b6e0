"""The sharder and QUIC: a datagram that may open a connection goes to a worker, other UDP is counted and left out."""

from __future__ import annotations

import struct

import pytest
from builders import KEY, batches_of, sharder_of, talk
from ip_fragments import all_fragmented
from quic_packets import V2, ZERO_RTT, crypto, initial, other
from wire import udp

from appliance.ipc.frame_batch import frames

UDP_FLOW = 0x1000
REASSEMBLED = 1 << 46
HELLO = initial(crypto(0, b"\1\0\0\4four"), b"8 bytes.")
ENDS = {4: ("192.0.2.10", "198.51.100.20"), 6: ("2001:db8::10", "2001:db8:1::20")}


def out(payload=HELLO, family=4, port=40000, **how):
    client, server = ENDS[family]
    return udp(client, server, (port, 443), payload, **how)


def back(payload=HELLO, family=4, port=40000, **how):
    client, server = ENDS[family]
    return udp(server, client, (443, port), payload, client=False, **how)


def records(*sent, **how):
    """(hash, vlans, length, net, tcp) of each record, and the counters."""
    (messages,), counts = batches_of(list(enumerate(sent)), **how)
    found = []
    for message in messages:
        at = 64
        for _, _, frame in frames(message):
            _, flow, vlans, caplen, _, length, net, tcp = struct.unpack_from("<QQQIIIHH", message, at)
            assert message[at + 40 : at + 40 + caplen] == frame
            found.append((flow, vlans, length, net, tcp))
            at += 40 + (caplen + 7) // 8 * 8
    return found, counts


@pytest.mark.parametrize("family", [4, 6])
def test_a_datagram_has_a_record_with_its_header(family):
    ((_, vlans, length, net, tcp),), counts = records(out(family=family))
    assert (vlans, length) == (UDP_FLOW, 8 + len(HELLO))
    assert (net, tcp) == (14, 34 if family == 4 else 54)
    assert counts["offered.0"] == counts["frames"] == 1


def test_other_udp_is_counted_and_has_none():
    found, counts = records(out(b"x" * 100), out(b"\x40" + bytes(50)), out())
    assert len(found) == 1
    assert (counts["rejected.not_tcp"], counts["offered.0"]) == (2, 1)


@pytest.mark.parametrize("family", [4, 6])
def test_both_directions_have_the_same_hash(family):
    (one, other), _ = records(out(family=family), back(family=family))
    assert one[0] == other[0]


def test_tcp_on_the_same_ports_is_another_flow():
    segment = talk(client=ENDS[4][0], server=ENDS[4][1], client_port=40000, server_port=443).frames[0][1]
    (one, other), _ = records(out(), segment)
    assert one[0] != other[0]


def test_a_flow_has_its_vlans():
    (one, other), _ = records(out(vlans=(5,)), back(vlans=(5,)))
    assert one[0] == other[0]
    assert one[1] == 0x8005 | UDP_FLOW
    (one, other), _ = records(out(vlans=(5,)), out(vlans=(6,)))
    assert one[0] != other[0]


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_become_a_datagram(family):
    parts = [frame for _, frame in all_fragmented([(0, out(family=family))], 32)]
    assert len(parts) > 1
    (whole,), _ = records(out(family=family))
    (found,), counts = records(*parts)
    assert found[1] == whole[1] | REASSEMBLED
    assert (found[0], found[2]) == (whole[0], whole[2])
    assert (counts["reassembled"], counts["rejected.fragment"]) == (1, len(parts))
    assert counts["offered.0"] == 1


def test_with_the_limit_0_it_keeps_the_verdict_of_other_udp():
    found, counts = records(out(), quic=0)
    assert found == []
    assert counts["rejected.not_tcp"] == 1


def shed(steps, *sent):
    """Return the number of frames left out at this share, and their flows."""
    made = sharder_of(KEY)
    made.shed(0, steps)
    for number, frame in enumerate(sent):
        made.push(number, frame)
    counts = made.counts()
    return counts["shed_frames"], counts["shed_flows"]


def test_an_overloaded_capture_sheds_whole_flows():
    for port in range(40000, 40100):
        flow = (out(port=port), back(port=port), out(other(ZERO_RTT), port=port))
        assert shed(128, *flow) in ((0, 0), (3, 1))


def test_it_sheds_about_the_share_that_is_asked_for():
    flows = [out(initial(b"\1", b"8 bytes.", version=V2), port=port) for port in range(10000, 12000)]
    frames_out, flows_out = shed(128, *flows)
    assert frames_out == flows_out
    assert 800 < frames_out < 1200


def test_a_flow_that_began_before_stays():
    assert shed(255, out(other(ZERO_RTT)), out(other(ZERO_RTT))) == (0, 0)
