"""The Packet API shows what the data path follows: every link, extension header and tunnel of the locator's samples."""

from __future__ import annotations

import pytest
from sample_frames import SAMPLES, Sample

from appliance.packet.packet import Packet


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_the_segment_lies_where_the_locator_finds_it(sample: Sample) -> None:
    parts = Packet(sample.frame, link_type=sample.link_type).parts()
    segments = [part.start for part in parts if type(part.layer).__name__ == "TCP"]
    assert segments[-1:] == [sample.tcp], [type(part.layer).__name__ for part in parts]
