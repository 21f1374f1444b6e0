"""The wire contract of the feed, byte for byte: subscribers of other versions read it."""

from __future__ import annotations

import msgspec
import pytest

from appliance.pubsub.protocol import FEED_HEADER, Epoch, Heartbeat, Question, Status, Word

QUESTION = Question("http.2xx.", 7, 3, 9)
SAID = {
    "question": (QUESTION, b'{"topic":"http.2xx.","epoch":7,"from":3,"to":9}'),
    "gone": (
        Word(gone=QUESTION, reason="it is not stored any more"),
        b'{"gone":{"topic":"http.2xx.","epoch":7,"from":3,"to":9},"reason":"it is not stored any more"}',
    ),
    "error": (Word(error="too many"), b'{"error":"too many"}'),
    "end": (
        Word(end=True, topic="http.2xx.", epoch=0, first=3, last=0),
        b'{"end":true,"topic":"http.2xx.","epoch":0,"from":3,"to":0}',
    ),
    "end of what was no question": (Word(end=True), b'{"end":true}'),
    "status": (
        Status("ready", 7, "2026-01-01T00:00:00Z"),
        b'{"state":"ready","epoch":7,"time":"2026-01-01T00:00:00Z"}',
    ),
    "heartbeat": (
        Heartbeat(7, {"a.": 2}, {"a.": 5}, {"a.": 1}, "tcp://h:1", [Epoch(6, {"a.": 4})], "ready", "now"),
        b'{"epoch":7,"last":{"a.":2},"events":{"a.":5},"first":{"a.":1},"replay":"tcp://h:1",'
        b'"before":[{"epoch":6,"last":{"a.":4}}],"state":"ready","time":"now"}',
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_has_these_bytes_and_is_understood(name: str):
    struct, text = SAID[name]
    assert msgspec.json.encode(struct) == text
    assert msgspec.json.decode(text, type=type(struct)) == struct


def test_a_heartbeat_needs_no_more_than_its_epoch_and_the_last_numbers():
    assert msgspec.json.decode(b'{"epoch":1,"last":{},"new":0}', type=Heartbeat) == Heartbeat(1, {})


def test_the_header_is_three_numbers_in_network_byte_order():
    assert FEED_HEADER.pack(1, 2, 3) == bytes(7) + b"\1" + bytes(7) + b"\2" + bytes(7) + b"\3"
