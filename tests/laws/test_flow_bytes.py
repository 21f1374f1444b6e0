"""Law 10: the sum of `since_last` over all flow events of a run is the captured payload, byte for byte.

builders.outcome_of() checks the sum in every test of the data path; this one has intervals, evictions and losses.
"""

from __future__ import annotations

from collections import defaultdict

from builders import START_NS, config, differences, outcome_of
from hypothesis import given
from hypothesis import strategies as st
from impair import drop, duplicate, reorder
from tcp_strategies import frames_of, talks

seeds = st.integers(0, 2**32)
FULL = {
    "max_connections": 16,
    "max_half_open": 1,
    "max_pending_bytes": 1024,
    "max_total_pending_bytes": 1500,
    "gap_timeout_s": 0.1,
    "idle_timeout_s": 30,
    "closed_linger_s": 0.0,
}
SUMMED = ("payload_bytes", "packets", "bytes")


def slower(frames, times):
    """The same frames with all times between them so many times longer."""
    return [(START_NS + (ns - START_NS) * times, frame) for ns, frame in frames]


@given(
    talks(most=5, longest=2000),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
    st.integers(0, 8),
    st.integers(1, 3),
    st.sampled_from((1, 1000, 100_000)),
    st.sampled_from((1, 7, 300)),
    st.booleans(),
    seeds,
)
def test_law_10_each_byte_is_in_one_flow_event(drawn, lost, twice, window, workers, times, interval, full, seed):
    frames = slower(drop(duplicate(reorder(frames_of(drawn, 300, 300), window, seed), twice, seed), lost, seed), times)
    options = config(events={"interval_s": interval}, tcp=FULL if full else {})
    outcome = outcome_of(frames, workers, options)
    assert differences(outcome) == {}
    lasting, ended = defaultdict(list), []
    for flow in outcome.flows:
        facts = lasting[flow["appliance"]["connection"]]
        facts.append(flow["appliance"]["flow"])
        if facts[-1]["final"]:  # what is evicted may come again at the same time, under the same id
            ended.append(lasting.pop(flow["appliance"]["connection"]))
    assert not lasting
    assert len(ended) == outcome.counts["flows_opened"]
    for facts in ended:
        assert [one["index"] for one in facts] == list(range(len(facts)))
        assert [one["final"] for one in facts] == [False] * (len(facts) - 1) + [True]
        assert [one["state"] == "open" for one in facts] == [not one["final"] for one in facts]
        for name in SUMMED:
            assert facts[-1]["totals"][name] == sum(one["since_last"][name] for one in facts)
        assert facts[-1]["transactions"] == sum(one["since_last"]["transactions"] for one in facts)
    assert (
        sum(flow["network"]["packets"] for flow in outcome.flows if flow["appliance"]["flow"]["final"])
        == (outcome.counts["segments"])
    )
