"""Real captures of QUIC with expected answers: each is exactly as expected.

The captures stand beside the project, not in it; where they are absent these tests are skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from handshakes import flat, quic_handshakes_of

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
if not (CORPORA / "compare2.py").exists():
    pytest.skip("the captures are not here: there is no shared/corpora beside the project", allow_module_level=True)
sys.path.append(str(CORPORA))
import compare2  # noqa: E402

TRUTHS = {
    (truth["pcap"].removeprefix("pcaps/")): truth
    for truth in compare2.truths([str(CORPORA / "truth")], ["quic"], None, False)
}


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_a_capture_gives_the_expected_handshakes(name):
    rows = [flat(each, "quic") for each in quic_handshakes_of(CORPORA / "pcaps" / name, ja3=True)]
    if "unscored" in TRUTHS[name]["tags"]:
        return  # that it ends is all that is asked
    found, _, faults = compare2.compare(TRUTHS[name], rows)
    assert found["wrong"] == found["extra"] == found["missing"] == found["partial"] == 0, faults
