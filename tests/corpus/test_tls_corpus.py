"""Real captures of TLS with expected answers: no value is wrong, and what is not given is known by name and reason.

The captures stand beside the project, not in it; where they are absent these tests are skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from flat import all_events_of
from handshakes import flat

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
if not (CORPORA / "compare2.py").exists():
    pytest.skip("the captures are not here: there is no shared/corpora beside the project", allow_module_level=True)
sys.path.append(str(CORPORA))
import compare2  # noqa: E402

# Not as expected, and why what comes out is right.
ARGUED = {
    "tls-ndpi/ocs.pcap": "no server was captured, and its clients go on to application data: not `established: false`",
    "tls-ndpi/tls_1.2_unidirectional_client_no_cert.pcapng": "as ocs",
    "tls-ndpi/yandex.pcapng": "as ocs, in four connections",
    "tls-ndpi/tls_client_certificate_with_missing_server_one.pcapng": "as ocs: the server's part is missing",
    "tls-ndpi/tls_multiple_synack_different_seq.pcapng": "for TCP the first SYN-ACK counts: the rest is out of window",
}
TRUTHS = {
    truth["pcap"].removeprefix("pcaps/"): truth
    for truth in compare2.truths([str(CORPORA / "truth")], ["tls"], None, False)
}


def with_ends(event):
    """An event with (address, port) of both ends, as the library's handshakes have them."""
    return {**event, **{end: (event[end]["ip"], event[end]["port"]) for end in ("source", "destination")}}


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_a_capture_gives_the_expected_handshakes(name):
    events = all_events_of(CORPORA / "pcaps" / name, {"tls.ja3": True})
    rows = [flat(with_ends(event)) for event in events if "tls" in event and event["network"]["protocol"] == "tls"]
    if "unscored" in TRUTHS[name]["tags"]:
        return  # that it ends is all that is asked
    found, _, faults = compare2.compare(TRUTHS[name], rows)
    assert found["wrong"] == found["extra"] == found["missing"] == 0, faults
    assert not found["partial"] or name in ARGUED, faults
