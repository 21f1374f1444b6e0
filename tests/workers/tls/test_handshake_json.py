"""The JSON of a handshake is what its facts are, and what the types say."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_bytes import (
    CLIENT,
    HANDSHAKE,
    RETRY_RANDOM,
    SERVER,
    alert,
    alpn,
    client_hello,
    full_1_2,
    full_1_3,
    record,
    server_hello,
    server_name,
    supported_versions,
)

from workers.events.schema_tls import OwnTls, Tls
from workers.tls.certificate import Certificates, ServerCertificate
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake
from workers.tls.handshake_json import handshake_json


class Parts(msgspec.Struct, forbid_unknown_fields=True):
    tls: Tls
    appliance: dict[str, OwnTls]


def written(turns, lost=0):
    """The JSON of a handshake, which is held to its facts and to the types."""
    handshake = Handshake(TlsContext(certificates=Certificates(), ja3=True))
    for place, (side, data) in enumerate(turns):
        handshake.feed(side, data, place * 1000)
    if lost:
        handshake.lose(CLIENT, lost)
    handshake.finish()
    text = handshake_json(handshake)
    assert json.loads(text) == handshake.facts()
    msgspec.json.decode(text, type=Parts)
    return text


SCENES = {
    "1.2": full_1_2(),
    "1.2 with a certificate": full_1_2(b"no der"),
    "1.3": full_1_3(),
    "one side": [turn for turn in full_1_2() if turn[0] == SERVER],
    "nothing": [],
    "hello alone": full_1_3()[:1],
    "no extensions": [(CLIENT, record(HANDSHAKE, client_hello(None)))],
    "no protocols": [(CLIENT, record(HANDSHAKE, client_hello([(16, b"\0\0"), (0xFE0D, b"")])))],
    "alert": [*full_1_2()[:1], (SERVER, alert(2, 40))],
    "warning of the client": [*full_1_2()[:1], (CLIENT, alert(1, 222))],
    "retry": [*full_1_3()[:1], (SERVER, record(HANDSHAKE, server_hello([(43, b"\3\4")], random=RETRY_RANDOM)))],
    "unknown numbers": [
        (CLIENT, record(HANDSHAKE, client_hello([supported_versions(0x7F17, 0x1234)]))),
        (SERVER, record(HANDSHAKE, server_hello([(43, b"\x12\x34"), (51, b"\x12\x34")], cipher=0x9999))),
    ],
    "sslv3": [(SERVER, record(HANDSHAKE, server_hello(version=0x0300)))],
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_json_is_the_facts(scene):
    written(SCENES[scene])


def test_missing_bytes_are_in_it():
    assert b'"missing_bytes":50' in written([(CLIENT, full_1_2()[0][1][:60])], lost=50)


NAME = st.binary(min_size=1, max_size=40)


@given(st.binary(max_size=60), st.lists(NAME, max_size=5), NAME)
def test_names_of_any_bytes(name, offered, chosen):
    hello = client_hello([server_name(name), alpn(*offered)])
    turns = [(CLIENT, record(HANDSHAKE, hello)), (SERVER, record(HANDSHAKE, server_hello([alpn(chosen)])))]
    text = written(turns)
    assert not any(byte < 32 or byte == 127 for byte in text)


def test_the_longest_names_fit():
    control = b"\x01" * 255
    extensions = [alpn(*[control] * 200), supported_versions(*[0x7FFE] * 100), server_name(control * 4)]
    hello = client_hello(extensions)
    context = TlsContext(max_values=1 << 20, max_name_bytes=1 << 20)
    handshake = Handshake(context)
    for at in range(0, len(hello), 16_000):
        handshake.feed(CLIENT, record(HANDSHAKE, hello[at : at + 16_000]))
    assert json.loads(handshake_json(handshake)) == handshake.facts()


def test_a_certificate_is_plain_ascii():
    made = ServerCertificate({"subject": "CN=\x7f\x85\u2028ü"}, True)
    assert made.json == b'{"subject":"CN=\\u007f\\u0085\\u2028\\u00fc"}'
