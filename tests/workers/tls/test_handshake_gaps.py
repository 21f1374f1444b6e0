"""Missing bytes: what is known stays known, what is not is said, and nothing is invented."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_bytes import CLIENT, FINISHED, HANDSHAKE, SERVER, USUAL, certificate, client_hello, full_1_2, full_1_3, record

from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake

HELLO = record(HANDSHAKE, client_hello(USUAL))


def read(*steps, context=None):
    """A Handshake after steps: (side, bytes) or (side, count of missing ones)."""
    handshake = Handshake(context or TlsContext())
    for side, step in steps:
        if isinstance(step, int):
            handshake.lose(side, step)
        else:
            handshake.feed(side, step)
    handshake.finish()
    return handshake


def test_a_hello_with_a_gap_says_how_much_is_missing():
    facts = read((CLIENT, HELLO[:90]), (CLIENT, 10), (CLIENT, HELLO[100:])).facts()
    assert facts["appliance"]["tls"]["client_hello"] == {"complete": False, "missing_bytes": 10}
    assert facts["tls"]["client"]["server_name"] == "a.example"
    assert "ja4" not in facts["appliance"]["tls"]


def test_two_gaps_in_one_hello_add_up():
    steps = [(CLIENT, HELLO[:60]), (CLIENT, 5), (CLIENT, HELLO[65:80]), (CLIENT, 7), (CLIENT, HELLO[87:])]
    assert read(*steps).facts()["appliance"]["tls"]["client_hello"] == {"complete": False, "missing_bytes": 12}


def test_a_gap_over_the_end_of_a_hello_counts_its_rest():
    facts = read((CLIENT, HELLO[:100]), (CLIENT, 5000)).facts()
    assert facts["appliance"]["tls"]["client_hello"]["missing_bytes"] == len(HELLO) - 100


@pytest.mark.parametrize("missing", [0, 1])
def test_a_gap_inside_encrypted_data_is_counted_off_their_record(missing):
    turns = full_1_2()
    data = turns[2][1]
    steps = [*turns[:2], (CLIENT, data[:-10]), (CLIENT, 10), *turns[3:]] if missing else turns
    assert read(*steps).facts()["tls"]["established"] is True


def test_behind_a_gap_records_are_found_again():
    turns = full_1_2()
    context = TlsContext()
    steps = [turns[0], (SERVER, len(turns[1][1])), *turns[2:]]
    facts = read(*steps, context=context).facts()
    assert context.counts()["resynchronised"] == 1
    assert facts["tls"]["established"] is True
    assert "cipher" not in facts["tls"]


def test_a_certificate_behind_a_gap_is_read():
    context = TlsContext(certificates=Certificates())
    turns = full_1_2()
    flight = record(HANDSHAKE, certificate(b"no der"))
    facts = read(turns[0], (SERVER, 300), (SERVER, flight), context=context).facts()
    assert set(facts["tls"]["server"]) == {"hash"}


def test_encrypted_bytes_behind_a_gap_are_no_messages():
    turns = full_1_2()
    steps = [
        *turns[:3],
        (SERVER, 209),
        (SERVER, record(HANDSHAKE, b"\x0b\xff\xff\xff" + b"\1" * 36)),
        (SERVER, FINISHED),
    ]
    facts = read(*steps).facts()
    assert "server" not in facts["tls"]


def test_a_resumption_is_not_inferred_behind_a_gap():
    turns = full_1_2(extensions=[*USUAL, (35, b"t" * 99)])
    hello = turns[1][1][:60]
    steps = [turns[0], (SERVER, hello), (SERVER, len(turns[1][1]) - 60), turns[3], turns[2]]
    assert "resumed" not in read(*steps).facts()["tls"]


def contradictions(whole, part):
    """The fields of `part` that `whole` has otherwise."""
    for name, value in part.items():
        if name in ("bytes", "handshake_ns", "client_hello", "server_hello"):
            continue
        if isinstance(value, dict):
            yield from contradictions(whole[name], value)
        elif value != whole[name]:
            yield name, value


LOSS = st.tuples(st.integers(0, 5), st.floats(0, 1), st.integers(1, 3000))


@given(st.sampled_from([full_1_2(), full_1_3()]), st.lists(LOSS, min_size=1, max_size=4))
def test_losses_take_facts_away_and_change_none(turns, losses):
    whole = read(*turns).facts()
    steps = []
    for place, (side, said) in enumerate(turns):
        at = 0
        for start, count in sorted((int(part * len(said)), count) for turn, part, count in losses if turn == place):
            if at <= start < len(said):
                stop = min(len(said), start + count)
                steps += [(side, said[at:start]), (side, stop - start)]
                at = stop
        steps.append((side, said[at:]))
    context = TlsContext()
    assert list(contradictions(whole, read(*steps, context=context).facts())) == []
    assert context.buffered == 0
