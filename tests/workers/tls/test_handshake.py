"""Facts of a handshake, by example."""

from __future__ import annotations

import pytest
from tls_bytes import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT,
    FINISHED,
    HANDSHAKE,
    HELLO_DONE,
    RETRY_RANDOM,
    SERVER,
    USUAL,
    alert,
    alpn,
    certificate,
    client_hello,
    full_1_2,
    full_1_3,
    key_exchange,
    message,
    record,
    server_hello,
    server_hello_1_3,
    server_name,
    supported_versions,
)

from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake

MILLISECOND = 1_000_000


def read(turns, **limits):
    """A Handshake that was fed these turns, a millisecond between two of them, and its connection ended."""
    handshake = Handshake(TlsContext(**limits))
    for place, (side, data) in enumerate(turns):
        handshake.feed(side, data, place * MILLISECOND)
    handshake.finish()
    return handshake


def tls(turns, **limits):
    return read(turns, **limits).facts()["tls"]


def extra(turns, **limits):
    return read(turns, **limits).facts()["appliance"]["tls"]


def hello(*extensions, **parts):
    return (CLIENT, record(HANDSHAKE, client_hello(extensions, **parts)))


def answer(body):
    return (SERVER, record(HANDSHAKE, body))


# -- whole handshakes ------------------------------------------------------------------------------------------------


def test_a_full_handshake_of_1_2():
    assert read(full_1_2()).facts() == {
        "tls": {
            "version": "1.2",
            "version_protocol": "tls",
            "cipher": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "curve": "secp256r1",
            "next_protocol": "h2",
            "resumed": False,
            "established": True,
            "client": {"server_name": "a.example"},
        },
        "appliance": {
            "tls": {
                "ja4": "t12d0205h2_c1929292aa6b_876bcc86782c",
                "alpn_offered": ["h2", "http/1.1"],
                "versions_offered": ["1.2"],
                "client_hello": {"complete": True},
                "server_hello": {"complete": True},
                "handshake_ns": 3 * MILLISECOND,
                "bytes": {
                    side: sum(len(data) for each, data in full_1_2() if each == number)
                    for side, number in (("client", CLIENT), ("server", SERVER))
                },
            }
        },
    }


def test_a_full_handshake_of_1_3():
    facts = read(full_1_3()).facts()
    assert facts["tls"] == {
        "version": "1.3",
        "version_protocol": "tls",
        "cipher": "TLS_AES_128_GCM_SHA256",
        "curve": "x25519",
        "resumed": False,
        "established": True,
        "client": {"server_name": "a.example"},
    }
    assert facts["appliance"]["tls"]["versions_offered"] == ["1.3", "1.2"]
    assert facts["appliance"]["tls"]["handshake_ns"] == 2 * MILLISECOND


def test_what_is_known_is_said_once_and_then_costs_nothing():
    handshake = Handshake(TlsContext())
    said = [handshake.feed(side, data) for side, data in full_1_2()]
    assert said == ["going on", "going on", "going on", "known", "over", "over"]


def test_a_side_that_is_no_tls_says_so():
    handshake = Handshake(TlsContext())
    handshake.feed(*hello(*USUAL))
    assert handshake.feed(SERVER, b"HTTP/1.1 400 Bad Request\r\n\r\n") == "other"
    assert handshake.finish()


def test_bytes_that_are_no_tls_make_no_event():
    handshake = Handshake(TlsContext())
    assert handshake.feed(CLIENT, b"GET / HTTP/1.1\r\n\r\n") == "other"
    assert not handshake.finish()


def test_the_client_may_be_either_side():
    handshake = read([(1 - side, data) for side, data in full_1_2()])
    assert handshake.client == 1
    assert handshake.facts() == read(full_1_2()).facts()


# -- hellos ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x0300, 0x0301, 0x0302, 0x0303])
def test_the_version_is_that_of_the_server(code):
    facts = tls([hello(), answer(server_hello(version=code))])
    assert (facts["version"], facts["version_protocol"]) == {
        0x0300: ("3.0", "ssl"),
        0x0301: ("1.0", "tls"),
        0x0302: ("1.1", "tls"),
        0x0303: ("1.2", "tls"),
    }[code]


def test_a_draft_of_1_3_is_named_as_one():
    assert tls([hello(), answer(server_hello([(43, b"\x7f\x17")]))])["version"] == "1.3-draft23"


def test_an_early_draft_has_neither_session_id_nor_compression():
    body = b"\x7f\x12" + bytes(32) + b"\x13\x01" + b"\0\0"
    facts = tls([hello(), answer(message(2, body))])
    assert (facts["version"], facts["cipher"]) == ("1.3-draft18", "TLS_AES_128_GCM_SHA256")


def test_a_cipher_without_a_name_is_its_number():
    assert tls([hello(), answer(server_hello(cipher=0xCC13))])["cipher"] == "0xCC13"


def test_ech_is_offered():
    assert extra([hello((0xFE0D, b"\0" * 40))])["ech_offered"] is True


def test_grease_is_no_version():
    assert extra([hello(supported_versions(0x8A8A, 0x0304, 0x0303))])["versions_offered"] == ["1.3", "1.2"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"a.example", "a.example"),
        ("bücher.example".encode(), "bücher.example"),
        (b"\xba\xad", "\\xba\\xad"),
        (b"\\x41", "\\x5cx41"),
        (b"a\0b", "a\0b"),
    ],
)
def test_names_are_wire_bytes(name, text):
    turns = [hello(server_name(name), alpn(name))]
    assert tls(turns)["client"]["server_name"] == text
    assert extra(turns)["alpn_offered"] == [text]


def test_the_first_host_name_counts():
    names = b"\x01\0\1z" + b"\0\0\1a" + b"\0\0\1b"
    assert tls([hello((0, len(names).to_bytes(2, "big") + names))])["client"]["server_name"] == "a"


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0", b"\0\5\0\0\1a", b"\0\4\0\0\1a!", b"\0\3\0\0\0"])
def test_a_server_name_that_is_none_is_left_out(body):
    assert "client" not in tls([hello((0, body))])


def test_a_hello_without_extensions_is_whole():
    handshake = read([(CLIENT, record(HANDSHAKE, client_hello(None)))])
    assert handshake.facts()["appliance"]["tls"]["ja4"] == "t12i020000_c1929292aa6b_000000000000"


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_hello_whose_lengths_contradict_has_no_fingerprint(cut):
    body = client_hello(USUAL)[4:]
    context = TlsContext()
    handshake = Handshake(context)
    handshake.feed(CLIENT, record(HANDSHAKE, message(1, body[: len(body) - cut])))
    handshake.finish()
    assert "ja4" not in handshake.facts()["appliance"]["tls"]
    assert context.counts()["malformed_hellos"] == 1


# -- resumption ------------------------------------------------------------------------------------------------------


def resumed_1_2(session=b"", ticket=b"", echo=b""):
    """A handshake of 1.2 whose server goes on with what both know already."""
    return [
        hello(*USUAL, (35, ticket), session=session),
        (SERVER, record(HANDSHAKE, server_hello([], session=echo)) + FINISHED),
        (CLIENT, FINISHED),
    ]


@pytest.mark.parametrize(
    ("turns", "resumed"),
    [
        (resumed_1_2(session=b"s" * 32, echo=b"s" * 32), True),
        (resumed_1_2(session=b"s" * 32, ticket=b"t" * 99, echo=b"s" * 32), True),
        (resumed_1_2(ticket=b"t" * 99), True),
        (full_1_2(), False),
        (full_1_2(extensions=[*USUAL, (35, b"t" * 99)]), False),
        (full_1_3(), False),
        ([hello(supported_versions(0x0304), (41, b"x")), answer(server_hello_1_3(more=[(41, b"\0\0")]))], True),
        ([hello(*USUAL, session=b"s" * 32), answer(server_hello([], session=b"r" * 32))], False),
    ],
)
def test_resumption(turns, resumed):
    assert tls(turns)["resumed"] is resumed


def test_a_ticket_that_is_not_answered_yet_tells_nothing():
    assert "resumed" not in tls([hello(*USUAL, (35, b"t" * 99)), answer(server_hello([]))])


@pytest.mark.parametrize("behind", [certificate(b"x"), key_exchange(), HELLO_DONE])
def test_what_only_a_full_handshake_has(behind):
    turns = [hello(*USUAL, (35, b"t" * 99), session=b"s" * 32), answer(server_hello([], session=b"s" * 32) + behind)]
    assert tls(turns)["resumed"] is False


# -- hello retry -----------------------------------------------------------------------------------------------------


def retried():
    retry = server_hello([(43, b"\3\4"), (51, b"\0\x17")], cipher=0x1302, random=RETRY_RANDOM)
    return [
        hello(*USUAL, supported_versions(0x0304), session=b"s" * 32),
        (SERVER, record(HANDSHAKE, retry) + record(CHANGE_CIPHER_SPEC, b"\1")),
        (CLIENT, record(CHANGE_CIPHER_SPEC, b"\1") + record(HANDSHAKE, client_hello([supported_versions(0x0304)]))),
        (SERVER, record(HANDSHAKE, server_hello_1_3(0x1302, 23)) + record(APPLICATION_DATA, b"\1" * 900)),
        (CLIENT, record(APPLICATION_DATA, b"\2" * 69)),
    ]


def test_of_two_hellos_the_first_counts():
    facts = read(retried()).facts()
    assert facts["appliance"]["tls"]["hello_retry"] is True
    assert facts["appliance"]["tls"]["ja4"].startswith("t13d0206h2_")
    assert facts["tls"]["client"]["server_name"] == "a.example"
    assert (facts["tls"]["version"], facts["tls"]["curve"], facts["tls"]["established"]) == ("1.3", "secp256r1", True)


def test_a_retry_alone_names_version_cipher_and_group():
    facts = tls(retried()[:2])
    assert (facts["version"], facts["cipher"], facts["curve"]) == ("1.3", "TLS_AES_256_GCM_SHA384", "secp256r1")
    assert "resumed" not in facts


# -- established -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 4))
def test_an_unfinished_handshake_of_1_2_is_not_established(count):
    assert tls(full_1_2()[:count])["established"] is False


def test_a_client_of_1_3_that_sends_an_alert_does_not_establish():
    turns = [*full_1_3()[:2], (CLIENT, record(CHANGE_CIPHER_SPEC, b"\1") + record(APPLICATION_DATA, b"\1" * 19))]
    assert tls(turns)["established"] is False


def test_early_data_alone_do_not_establish():
    turns = full_1_3([(42, b"")])
    early = (CLIENT, record(CHANGE_CIPHER_SPEC, b"\1") + record(APPLICATION_DATA, b"\1" * 500))
    assert tls([turns[0], early, turns[1]])["established"] is False
    assert tls([turns[0], early, *turns[1:]])["established"] is True


def test_one_side_that_goes_on_alone_tells_nothing():
    assert "established" not in tls([turn for turn in full_1_2() if turn[0] == CLIENT])
    assert "established" not in tls([turn for turn in full_1_3() if turn[0] == CLIENT])


def test_the_server_alone_tells_its_part():
    handshake = read([turn for turn in full_1_2() if turn[0] == SERVER])
    assert handshake.client == CLIENT
    assert handshake.facts()["tls"]["cipher"] == "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    assert handshake.facts()["tls"]["resumed"] is False
    assert "client_hello" not in handshake.facts()["appliance"]["tls"]
    assert handshake.facts()["tls"]["established"] is True
    assert "established" not in tls([turn for turn in full_1_2() if turn[0] == SERVER][:2])
    assert "established" not in tls([turn for turn in full_1_3() if turn[0] == SERVER])


# -- alerts ----------------------------------------------------------------------------------------------------------


def test_a_fatal_alert_ends_it():
    handshake = Handshake(TlsContext())
    handshake.feed(*hello(*USUAL))
    assert handshake.feed(SERVER, alert(2, 40)) == "known"
    assert handshake.facts()["appliance"]["tls"]["alert"] == {
        "level": "fatal",
        "description": "handshake_failure",
        "by": "server",
    }
    assert handshake.facts()["tls"]["established"] is False


def test_a_warning_does_not_end_it():
    turns = full_1_2()
    turns.insert(1, (SERVER, alert(1, 112)))
    facts = read(turns).facts()
    assert facts["appliance"]["tls"]["alert"]["description"] == "unrecognized_name"
    assert facts["tls"]["established"] is True


def test_an_encrypted_alert_tells_nothing():
    turns = [*full_1_2()[:3], (SERVER, record(CHANGE_CIPHER_SPEC, b"\1") + record(ALERT, b"\2\x28" * 13))]
    assert "alert" not in extra(turns)


def test_a_description_without_a_name_is_its_number():
    assert extra([hello(), (SERVER, alert(2, 200))])["alert"]["description"] == "200"


# -- curves ----------------------------------------------------------------------------------------------------------


def test_the_prime_of_a_finite_field_is_no_curve():
    exchange = message(12, b"\3\0" + bytes(768))
    facts = tls([hello(), answer(server_hello([], cipher=0x009E) + exchange)])
    assert "curve" not in facts


# -- limits ----------------------------------------------------------------------------------------------------------


def test_lists_are_cut_at_their_limit():
    context = TlsContext(max_values=2)
    handshake = Handshake(context)
    handshake.feed(*hello(alpn(b"a", b"b", b"c"), supported_versions(0x0304, 0x0303, 0x0302)))
    facts = handshake.facts()["appliance"]["tls"]
    assert facts["alpn_offered"] == ["a", "b"]
    assert facts["versions_offered"] == ["1.3", "1.2"]
    assert context.counts()["values_over_limit"] == 2


def test_a_server_name_beyond_its_limit_is_left_out():
    context = TlsContext(max_name_bytes=9)
    handshake = Handshake(context)
    handshake.feed(*hello(server_name(b"a" * 10)))
    assert "client" not in handshake.facts()["tls"]
    assert context.counts()["values_over_limit"] == 1


def test_a_hello_beyond_its_limit_is_read_up_to_it():
    context = TlsContext(max_hello_bytes=200)
    handshake = Handshake(context)
    handshake.feed(*hello(*USUAL, (21, bytes(300))))
    facts = handshake.facts()
    assert facts["tls"]["client"]["server_name"] == "a.example"
    assert facts["appliance"]["tls"]["client_hello"] == {"complete": False}
    assert "ja4" not in facts["appliance"]["tls"]
    assert context.counts()["hellos_over_limit"] == 1


def test_the_limit_of_all_connections_gives_up_a_message():
    context = TlsContext(max_total_bytes=1000)
    body = record(HANDSHAKE, client_hello([server_name(b"a.example"), (21, bytes(1500))]))
    first, second = Handshake(context), Handshake(context)
    first.feed(CLIENT, body[:900])
    second.feed(CLIENT, body[:900])
    assert context.buffered <= 1000
    assert context.counts()["abandoned_messages"] == 1
    first.finish()
    second.finish()
    assert context.buffered == 0
