"""Secrets that are not those of the connection: nothing is read with them, and the handshake's event stays right."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decryption import ALL, EVERY, SESSIONS, exchanges, frames_of, handshake, https, opened, told, values
from tls_writer import Session13

LABELS = tuple(Session13().secrets)[:4]
MODERN = pytest.mark.parametrize("kind", ["1.3 AES-GCM", "1.3 ChaCha20", "1.3 with ALPN"])


def spoiled(keylog: bytes, *places: int) -> bytes:
    """The key log with the last bytes of the secrets in these lines changed."""
    lines = keylog.splitlines(keepends=True)
    for place in places:
        lines[place] = lines[place][:-5] + b"beef\n"
    return b"".join(lines)


def of_other_sessions(keylog: bytes, count: int = 50) -> bytes:
    """The same secrets under other client randoms."""
    random = keylog.split()[1]
    assert len(random) == 64
    return b"".join(keylog.replace(random, b"%064x" % (number + 1)) for number in range(count))


def without_outcome(event):
    """A handshake's event without what decryption adds."""
    plain = copy.deepcopy(event)
    plain["appliance"]["tls"].pop("decrypted", None)
    plain["tls"].pop("next_protocol", None)
    return plain


def assert_no_wrong_value(events):
    for event in events:
        target, domain, status = values(event)
        assert target in (None, "/0", "/1", "/2"), event
        assert domain in (None, "a.example")
        assert status in (None, 200)


@EVERY
@pytest.mark.parametrize("when", [0, 3, 1 << 20], ids=["before", "during", "after"])
def test_the_log_of_other_sessions_opens_nothing(session, when):
    made = exchanges(session())
    frames = frames_of(made)
    outcome = opened(frames, of_other_sessions(made.keylog), when=when)
    assert https(outcome) == []
    event = handshake(outcome)
    assert event["appliance"]["tls"]["decrypted"] == "no_key"
    assert without_outcome(event) == without_outcome(handshake(opened(frames, b"")))
    assert outcome.counts["tls_records.opened"] == outcome.counts["tls_records.unverified"] == 0
    assert outcome.counts["tls_bytes.no_key"] > 3 * 12_800


@EVERY
@pytest.mark.parametrize("when", [0, 3, 1 << 20], ids=["before", "during", "after"])
def test_records_that_wrong_secrets_do_not_open_are_counted(session, when):
    made = exchanges(session())
    frames = frames_of(made)
    keylog = spoiled(made.keylog, *range(len(made.keylog.splitlines())))
    outcome = opened(frames, keylog, when=when)
    assert https(outcome) == []
    assert without_outcome(handshake(outcome)) == without_outcome(handshake(opened(frames, b"")))
    assert outcome.counts["tls_records.unverified"] > 0
    assert outcome.counts["tls_bytes.unverified"] > 0
    assert outcome.counts["tls_records.opened"] == 0


@MODERN
@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("when", [0, 3, 1 << 20], ids=["before", "during", "after"])
def test_one_wrong_secret_makes_no_value_wrong(kind, label, when):
    made = exchanges(SESSIONS[kind]())
    frames = frames_of(made)
    outcome = opened(frames, spoiled(made.keylog, LABELS.index(label)), when=when)
    assert_no_wrong_value(https(outcome))
    assert without_outcome(handshake(outcome)) == without_outcome(handshake(opened(frames, b"")))
    assert outcome.counts["tls_records.unverified"] > 0


@MODERN
@pytest.mark.parametrize("label", LABELS[:2])
def test_a_wrong_secret_of_the_handshake_hides_no_request(kind, label):
    made = exchanges(SESSIONS[kind]())
    outcome = opened(frames_of(made), spoiled(made.keylog, LABELS.index(label)))
    assert [told(event) for event in https(outcome)] == ALL


@MODERN
def test_the_requests_are_events_though_the_answers_have_a_wrong_secret(kind):
    made = exchanges(SESSIONS[kind]())
    outcome = opened(frames_of(made), spoiled(made.keylog, LABELS.index("SERVER_TRAFFIC_SECRET_0")))
    assert [event["url"]["original"] for event in https(outcome)] == ["/0", "/1", "/2"]


@EVERY
def test_right_secrets_in_place_of_wrong_ones_open_what_has_waited(session):
    made = exchanges(session())
    outcome = opened(frames_of(made), spoiled(made.keylog, 0) + made.keylog)
    assert [told(event) for event in https(outcome)] == ALL


@given(st.sampled_from(sorted(SESSIONS)), st.data())
@settings(max_examples=60)
def test_any_wrong_secrets_at_any_time_make_no_value_wrong(kind, data):
    made = exchanges(SESSIONS[kind](), size=data.draw(st.sampled_from([300, 4000, 16384])))
    frames = frames_of(made)
    places = range(len(made.keylog.splitlines()))
    wrong = data.draw(st.sets(st.sampled_from(places), min_size=1))
    lost = data.draw(st.sets(st.integers(3, len(frames) - 1), max_size=4))
    left = [frame for place, frame in enumerate(frames) if place not in lost]
    outcome = opened(left, spoiled(made.keylog, *wrong), when=data.draw(st.integers(0, 20)))
    assert_no_wrong_value(https(outcome))
