"""Real captures with expected answers: what is exactly right stays so, and the rest is known by name and reason.

The captures stand beside the project, not in it; where they are absent these tests are skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from flat import events_of_file, flat, in_order

from appliance.pcap.opening import PcapError

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
if not (CORPORA / "compare.py").exists():
    pytest.skip("the captures are not here: there is no shared/corpora beside the project", allow_module_level=True)
sys.path.append(str(CORPORA))
import compare  # noqa: E402

# Not as expected, and why what comes out is right.
ARGUED = {
    "ndpi/default__pcap__1kxun.pcap": "acknowledgements show whose answer the one is that was not lost",
    "ndpi/default__pcap__instagram.pcap": "the expected list lacks a response that answers the second request",
    "ndpi/default__pcap__ndpi_match_string_subprotocol__error.pcapng": "a second POST is there, behind a gap",
    "pcapplusplus/ExamplesTest__pcap_examples__http-packets.pcap": "as 1kxun: the expected pairs are shifted by one",
    "suricata-verify/bug-5392__TPWhite-carved-out-7787-s1.pcap": "the request is there, in its first frame",
    "suricata-verify/bug-5437-01.pcap": "spaces in the target: url.original is all of it, not its first word",
    "suricata-verify/bug-5437-02.pcap": "as bug-5437-01",
    "suricata-verify/http-gap-beyond-body.pcap": "the response to /3 was captured whole",
    "zeek/http__http-11-request-then-cruft.pcap": "the server does answer the cruft, with a 400",
}
UNREADABLE = {  # and why
    "gopacket/pcapgo__tests__le__test901.pcapng": "version",
    "libpcap/pcap-invalid-version-1.pcap": "version",
    "libpcap/pcap-invalid-version-2.pcap": "version",
    "libpcap/pcapng-invalid-vers-1.pcapng": "version",
}

TRUTHS = {truth["pcap"].removeprefix("pcaps/"): truth for truth in compare.truths([str(CORPORA / "truth")], None, None)}
READABLE = [name for name in sorted(TRUTHS) if name not in UNREADABLE]


def is_http1(event):
    """The answers of these captures are of HTTP/1; those of other datasets and of HTTP/2 lie elsewhere."""
    return event["event"]["dataset"] == "appliance.http" and event["http"].get("version") != "2"


def scored(name):
    """Return the result of compare.py for a capture."""
    truth = TRUTHS[name]
    events = [flat(event) for event in in_order(filter(is_http1, events_of_file(CORPORA / "pcaps" / name)))]
    return compare.compare(truth["expected"], events, truth.get("ignore_flows", ()))


@pytest.mark.parametrize("name", [name for name in READABLE if TRUTHS[name]["expected"] and name not in ARGUED])
def test_a_capture_gives_exactly_the_expected_transactions(name):
    found = scored(name)
    assert (found["missed"], found["extra"], found["moved"]) == ([], [], 0)


@pytest.mark.parametrize("name", [name for name in READABLE if TRUTHS[name]["expected"] == []])
def test_a_capture_without_http_gives_no_event(name):
    assert scored(name)["exact"]


@pytest.mark.parametrize("name", [name for name in READABLE if TRUTHS[name]["expected"] is None])
def test_a_capture_that_nobody_has_scored_is_read_to_its_end(name):
    for event in events_of_file(CORPORA / "pcaps" / name):
        assert event["ecs"]["version"] == "8.11.0"


@pytest.mark.parametrize("name", sorted(ARGUED))
def test_what_is_argued_about_is_still_different(name):
    assert not scored(name)["exact"]


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_a_file_of_an_unknown_version_is_refused_with_its_reason(name):
    with pytest.raises(PcapError, match=UNREADABLE[name]):
        events_of_file(CORPORA / "pcaps" / name)
