"""WebSocket inside TLS that is opened with its secrets."""

from __future__ import annotations

import pytest
from test_decryption import frames_of, handshake, opened
from tls_bytes import CLIENT, SERVER
from tls_writer import Session12, Session13
from ws_wire import MASK, PING, TEXT, UPGRADE, close, frame, switched


@pytest.mark.parametrize("cut", [None, 7])
@pytest.mark.parametrize("size", [16384, 5], ids=["whole records", "records of five bytes"])
@pytest.mark.parametrize("made", [Session13, Session12])
def test_a_websocket_is_an_event_with_its_messages(made, size, cut):
    session = made(b"http/1.1") if made is Session13 else made()
    session.says(CLIENT, UPGRADE).says(SERVER, switched())
    session.says(CLIENT, frame(TEXT, b"hello", mask=MASK), size)
    if made is Session13:
        session.update(CLIENT).update(SERVER)
    session.says(SERVER, frame(TEXT, b"x" * 300) + frame(PING, b"?"), size)
    session.says(CLIENT, close(1000, mask=MASK), size).says(SERVER, close(1000), size)
    outcome = opened(frames_of(session, cut), session.keylog)
    (event,) = [event for event in outcome.events if event["event"]["dataset"] == "appliance.websocket"]
    sides = event["appliance"]["websocket"]
    assert handshake(outcome)["appliance"]["tls"]["decrypted"] == "key"
    assert event["url"]["path"] == "/chat"
    assert (sides["client"]["messages"], sides["client"]["bytes"], sides["client"]["close_code"]) == (1, 5, 1000)
    assert (sides["server"]["messages"], sides["server"]["bytes"], sides["server"]["ping"]) == (1, 300, 1)
