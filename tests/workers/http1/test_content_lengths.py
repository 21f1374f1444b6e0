"""Lengths that are repeated, listed, signed, padded, huge or no numbers. Digits only; everything else is told."""

from __future__ import annotations

import pytest
from body_summaries import OK, Reading, reading, request_reading, response_reading
from builders import outcome_of, request, response, spoken

BODY = b"hello"
GOOD = {
    b"5": set(),
    b"\t5 ": set(),
    b"05": {"length_leading_zeros"},
    b"0000000000000000000000005": {"length_leading_zeros"},
    b"5,5": {"length_repeated"},
    b"5 ,\t5": {"length_repeated"},
    b"5, 05": {"length_repeated", "length_leading_zeros"},
}
BAD = {  # the other reading: the digits that are there, for who reads as far as it can
    b"": [],
    b"+5": ["length 5"],
    b"-5": [],
    b"--5": [],
    b"+-5": [],
    b"++5": [],
    b"0x5": [],
    b"5_0": ["length 5"],
    b"5.0": ["length 5"],
    b"5e0": ["length 5"],
    b"5;q=1": ["length 5"],
    b"5 0": ["length 5"],
    b'"5"': [],
    b"\xa05": [],
    b"5\x85": ["length 5"],
    b"\x0b5": [],
    b"\xd9\xa5": [],  # an Arabic five, in UTF-8
    b"\xb2": [],  # a superscript two, in Latin-1: a digit for some
    b"five": [],
    b"99999999999999999999": [],  # 20 digits
    b"18446744073709551621": [],  # 2^64 + 5
    b"4294967301" * 10: [],
    b";5": [],
}


@pytest.mark.parametrize("value", GOOD)
def test_digits_are_a_length(value):
    expected = Reading(5, True, GOOD[value], []), True
    field = b"Content-Length:" + value
    assert request_reading(request(b"/", field, method=b"POST") + BODY) == expected
    assert response_reading(response(b"200 OK", field, body=BODY)) == expected


@pytest.mark.parametrize("value", BAD)
def test_anything_else_is_none(value):
    # RFC 9112 section 6.3, 5.: an unrecoverable error. A request has no body then, so that what comes is looked at.
    control = {"control_in_head"} if b"\x0b" in value else set()
    found, follows = request_reading(request(b"/", b"Content-Length: " + value, method=b"POST"))
    assert (found, follows) == (Reading(0, True, {"bad_length", *control}, BAD[value]), True)
    found, follows = response_reading(response(b"200 OK", b"Content-Length: " + value, body=BODY))
    assert not follows
    others = ["length 0"] if value.startswith(b"0") else BAD[value]  # of a request, that is no other reading
    assert (found.anomalies, found.others) == ({"bad_length", *control}, others)


@pytest.mark.parametrize("fields", [(b"+3", b"5"), (b"5", b"+3"), (b"5, +3",), (b"+3,5",)])
def test_a_good_length_beside_a_bad_one_counts(fields):
    fields = tuple(b"Content-Length: " + value for value in fields)
    expected = Reading(5, True, {"bad_length"}, ["length 3"]), True
    assert request_reading(request(b"/", *fields, method=b"POST") + BODY) == expected
    assert response_reading(response(b"200 OK", *fields, body=BODY)) == expected


@pytest.mark.parametrize("value", [b"5,", b",5", b"5,,5"])
def test_an_empty_member_is_bad_and_the_others_count(value):
    found, follows = request_reading(request(b"/", b"Content-Length: " + value, method=b"POST") + BODY)
    assert follows
    assert (found.body, found.anomalies - {"length_repeated"}, found.others) == (5, {"bad_length"}, [])


@pytest.mark.parametrize("together", [True, False], ids=["in a list", "in fields"])
@pytest.mark.parametrize(
    ("values", "others", "anomalies"),
    [
        ((b"5", b"7"), ["length 7"], {"lengths_differ"}),
        ((b"5", b"0"), ["length 0"], {"lengths_differ"}),
        ((b"5", b"7", b"5"), ["length 7"], {"lengths_differ", "length_repeated"}),
        ((b"5", b"7", b"7", b"8"), ["length 7", "length 8"], {"lengths_differ"}),
        ((b"5", b"6", b"7", b"8", b"9", b"10"), [f"length {n}" for n in (6, 7, 8, 9)], {"lengths_differ"}),
    ],
)
def test_of_lengths_that_differ_the_first_decides_and_a_few_others_are_told(values, others, anomalies, together):
    values = (b",".join(values),) if together else values
    fields = tuple(b"Content-Length: " + value for value in values)
    expected = Reading(5, True, anomalies, others), True
    assert request_reading(request(b"/", *fields, method=b"POST") + BODY) == expected
    assert response_reading(response(b"200 OK", *fields, body=BODY)) == expected


@pytest.mark.parametrize("value", [6, 1 << 31, 1 << 32, (1 << 63) - 1, 9_999_999_999_999_999_999])
def test_a_length_beyond_what_comes_leaves_the_body_incomplete(value):
    field = b"Content-Length: %d" % value
    outcome = outcome_of(
        spoken(request(b"/", field, method=b"POST") + BODY, response(b"200 OK", field, body=BODY)).frames
    )
    assert reading(outcome.only, "request")[:2] == (5, False)
    assert reading(outcome.only, "response")[:2] == (5, False)
    assert outcome.counts["messages.truncated"] == 2


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", b"200 OK"), (b"GET", b"304 Not Modified"), (b"HEAD", b"304 Not Modified")]
)
@pytest.mark.parametrize("value", [b"5", b"5, 7", b"+5", b"", b"99999999999999999999"])
def test_a_length_of_a_body_that_is_not_sent_frames_nothing(method, status, value):
    # RFC 9112 section 6.3, 1.: ended by the empty line, whatever the fields say; so there is no other framing.
    found, follows = response_reading(
        response(status, b"Content-Length: " + value), asked=request(method=method, target=b"/")
    )
    assert follows
    assert (found.body, found.complete, found.others) == (0, True, [])


def test_a_length_behind_the_last_field_that_is_looked_at_still_counts():
    fields = (*[b"X: y"] * 2000, b"Content-Length: 5")
    expected = Reading(5, True, {"too_many_headers"}, []), True
    assert request_reading(request(b"/", *fields, method=b"POST") + BODY) == expected
    folded = (*[b"X: y"] * 2000, b"Content-Length:", b" 5")
    found, follows = response_reading(response(b"200 OK", *folded, body=BODY))
    assert (found.body, follows) == (5, True)


def test_a_length_of_zero_ends_a_message_at_its_head():
    said = request(b"/", b"Content-Length: 0", method=b"POST")
    assert request_reading(said) == (Reading(0, True, set(), []), True)
    assert response_reading(OK) == (Reading(0, True, set(), []), True)
