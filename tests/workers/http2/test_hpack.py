"""HPACK as RFC 7541 writes it down: its own examples, and what it forbids."""

from __future__ import annotations

import pytest
from hpack.huffman_constants import REQUEST_CODES
from hpack_encoder import STATIC, integer, string

from workers.http2 import huffman, static_table
from workers.http2.hpack import HpackDecoder

REQUESTS = (  # appendices C.3 and C.4: without and with Huffman codes
    ("828684410f7777772e6578616d706c652e636f6d", "828684418cf1e3c2e5f23a6ba0ab90f4ff"),
    ("828684be58086e6f2d6361636865", "828684be5886a8eb10649cbf"),
    (
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ),
)
READ = (
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
)  # fmt: skip
RESPONSES = (  # appendix C.6: a table of 256 bytes, which evicts
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab27"
    "0fb5291f9587316065c003ed4ee5b1063d5007",
)


def test_huffman_codes_follow_from_their_lengths():
    assert huffman.canonical_codes() == list(REQUEST_CODES)


def test_the_static_table_is_appendix_a():
    assert tuple(static_table.STATIC_TABLE) == STATIC


@pytest.mark.parametrize("data", [bytes([byte]) * count for byte in range(256) for count in (1, 2, 3)])
def test_huffman_codes_are_undone(data):
    coded = string(data, huffman=True)
    assert huffman.decode(coded[2:] if len(coded) > 128 else coded[1:]) == data


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(b"\xff\xff\xff\xff", id="EOS"),
        pytest.param(b"\xff", id="eight bits of padding"),
        pytest.param(b"\x00", id="padding of zeros"),
        pytest.param(b"\x1f\xff", id="a symbol and more than seven bits"),
    ],
)
def test_broken_huffman_codes_are_refused(coded):
    with pytest.raises(ValueError):
        huffman.decode(coded)


@pytest.mark.parametrize("kind", [0, 1])
def test_requests_of_appendix_c(kind):
    decoder = HpackDecoder()
    for blocks, fields in zip(REQUESTS, READ, strict=True):
        assert decoder.read(bytes.fromhex(blocks[kind])) == (fields, "exact", "sound")


def test_responses_of_appendix_c_with_evictions():
    decoder = HpackDecoder()
    assert decoder.read(integer(256, 5, 0x20))[2] == "sound"
    read = [decoder.read(bytes.fromhex(block)) for block in RESPONSES]
    assert [certainty for _, certainty, _ in read] == ["exact"] * 3
    assert read[1][0] == [
        (b":status", b"307"), (b"cache-control", b"private"), (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ]  # fmt: skip
    assert read[2][0][-1] == (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")


INSERTED = integer(0, 6, 0x40) + string(b"a", False) + string(b"b", False)


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        pytest.param(b"\x80", "index", id="index 0"),
        pytest.param(b"\xbe", "index", id="beyond an empty table"),
        pytest.param(INSERTED + b"\xbf", "index", id="beyond the table"),
        pytest.param(b"\x7e\x01a", "index", id="a name beyond the table"),
        pytest.param(b"\xff\x80\x80\x80\x80\x80\x00", "integer", id="an integer of six octets"),
        pytest.param(b"\xff\xff\xff\xff\xff\x7f", "integer", id="an integer of more than 32 bits"),
        pytest.param(b"\xff\x80", "truncated", id="an integer without its end"),
        pytest.param(b"\x40\x05ab", "truncated", id="a string without its end"),
        pytest.param(b"\x40\x81\xff\x00", "huffman", id="broken padding"),
        pytest.param(b"\x82\x20", "size_update", id="a size update behind a field"),
        pytest.param(integer(4097, 5, 0x20), "size_update", id="larger than SETTINGS allows"),
    ],
)
def test_what_rfc_7541_forbids_is_named(block, fault):
    assert HpackDecoder().read(block)[2] == fault


def test_behind_a_fault_the_table_is_unknown():
    decoder = HpackDecoder()
    decoder.read(INSERTED)
    decoder.read(b"\x80")
    assert decoder.read(b"\xbe\x82") == ([(None, None), (b":method", b"GET")], "joined", "sound")


def test_an_entry_larger_than_the_table_empties_it():
    decoder = HpackDecoder()
    decoder.read(INSERTED)
    large = integer(0, 6, 0x40) + string(b"c", False) + string(b"d" * 4096, False)
    assert decoder.read(large)[0] == [(b"c", b"d" * 4096)]
    assert decoder.read(b"\xbe")[2] == "index"


def test_a_larger_table_is_used_once_settings_allow_it():
    decoder = HpackDecoder()
    decoder.note_table_size(16384)
    assert decoder.read(integer(16384, 5, 0x20))[2] == "sound"
    entry = integer(0, 6, 0x40) + string(b"c", False) + string(b"d" * 9000, False)
    decoder.read(entry)
    assert decoder.read(b"\xbe")[0] == [(b"c", b"d" * 9000)]


def test_the_header_list_is_bounded_and_the_table_stays_right():
    decoder = HpackDecoder()
    decoder.read(integer(0, 6, 0x40) + string(b"n", False) + string(b"v" * 4000, False))
    fields, _, fault = decoder.read(b"\xbe" * 100_000 + INSERTED, limit=65536)
    assert (len(fields), fault) == (65536 // 4033 + 1, "sound")
    assert decoder.read(b"\xbe") == ([(b"a", b"b")], "exact", "sound")
    assert decoder.memory < 20_000


def test_what_a_table_beyond_64_kib_holds_is_unknown():
    decoder = HpackDecoder()
    decoder.note_table_size(1 << 30)
    decoder.read(integer(1 << 30, 5, 0x20))
    for number in range(40):
        decoder.read(integer(0, 6, 0x40) + string(b"n%d" % number, False) + string(b"v" * 4000, False))
    assert decoder.read(b"\xbe")[0] == [(b"n39", b"v" * 4000)]
    assert decoder.read(integer(62 + 39, 7, 0x80)) == ([(None, None)], "exact", "sound")
    assert decoder.memory < 1 << 18


def test_joined_late_known_entries_have_values_and_others_none():
    decoder = HpackDecoder(joined=True)
    fields, certainty, fault = decoder.read(b"\x82\xc0" + INSERTED + b"\xbe\xbf")
    assert fields == [(b":method", b"GET"), (None, None), (b"a", b"b"), (b"a", b"b"), (None, None)]
    assert (certainty, fault) == ("joined", "sound")


def test_a_block_cut_off_gives_its_whole_fields():
    decoder = HpackDecoder()
    assert decoder.read(INSERTED + b"\x40\x05ab", whole=False) == ([(b"a", b"b")], "exact", "sound")
    assert decoder.read(b"\x82\xbe")[0] == [(b":method", b"GET"), (None, None)]


def test_a_block_cut_off_between_fields_leaves_the_table_known():
    decoder = HpackDecoder()
    decoder.read(INSERTED, whole=False)
    assert decoder.read(b"\xbe") == ([(b"a", b"b")], "exact", "sound")


def test_a_size_update_that_was_lost_does_not_hide_entries():
    """A block cut off behind the first of two size updates: the table is as large as it may be."""
    decoder = HpackDecoder()
    decoder.read(INSERTED)
    decoder.read(b"\x20", whole=False)
    decoder.note_loss(3)
    assert decoder.read(INSERTED + b"\xbe") == ([(b"a", b"b")] * 2, "joined", "sound")
