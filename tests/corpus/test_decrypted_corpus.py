"""Real captures of TLS with their keys: every transaction inside is an event, and none is wrong.

The captures stand beside the project, not in it; where they are absent these tests are skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from flat import all_events_of, flat

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
if not (CORPORA / "compare2.py").exists():
    pytest.skip("the captures are not here: there is no shared/corpora beside the project", allow_module_level=True)
sys.path.append(str(CORPORA))
import compare2  # noqa: E402

TRUTHS = {
    f"{truth['pcap'].removeprefix('pcaps/')} {truth['kind']}": truth
    for truth in compare2.truths([str(CORPORA / "truth")], ["http1", "http2"], ["decrypted"], True)
    if "decrypted" in truth["tags"]
}
# More than expected, and why it is right.
ARGUED = {
    "tls-made/openssl-mixed-versions.pcap http1": "one connection has TLS 1.1, which the truth's reader does not open",
}


def rows_of(truth):
    """The transactions inside TLS, in the form of the scorer."""
    keylog = (CORPORA / truth["keys"]).read_bytes() if truth.get("keys") else b""
    for event in all_events_of(CORPORA / "pcaps" / truth["pcap"].removeprefix("pcaps/"), {}, keylog):
        if "http" not in event or event.get("url", {}).get("scheme") != "https":
            continue
        kind = "http2" if event["http"].get("version") == "2" else "http1"
        row = {"kind": kind, **flat(event)}
        if "port" in event["url"]:
            row["host"] += f":{event['url']['port']}"
        if kind == "http2":
            own = event["appliance"]["http2"]
            row |= {"stream": own["stream_id"], "reset": own.get("reset", {}).get("error"), "pushed": own.get("pushed")}
        if kind == truth["kind"]:
            yield row


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_a_capture_gives_the_transactions_inside_tls(name):
    found, _, faults = compare2.compare(TRUTHS[name], list(rows_of(TRUTHS[name])))
    assert found["wrong"] == found["missing"] == found["partial"] == 0, faults
    assert not found["extra"] or name in ARGUED, faults
