"""Work is linear in bytes for every element of the grammar that a sender can repeat, however the bytes are cut.

Processor time for 4n bytes in one pipeline, beside n bytes in each of four that stand side by side: as many bytes and
as much memory, so what caches and the kernel's pages cost is on both sides. The same is linear, 4 times as much is
quadratic. `make bench-linear` prints the figures.
"""

from __future__ import annotations

import pytest
from elements import ELEMENTS, Runner, batches, size_of

pytestmark = pytest.mark.slow

SEGMENTS = {1: 1 << 13, 100: 1 << 15, 1460: 1 << 16}  # n for each size of a segment
TIMES = 4
MOST = 1.3
LEAST_S = 0.002
TRIES = 6

NAMES = [element.name for element in ELEMENTS]


def growth(element, segment):
    """Time for 4n bytes over time for n in each of four pipelines, put right for what a scene is longer than that."""
    runner = Runner(element.headers, bool(element.coding))
    small, large = (element.turns(times * SEGMENTS[segment]) for times in (1, TIMES))
    few, many = batches(small, segment), batches(large, segment)
    scale = TIMES * size_of(small) / size_of(large)
    tries = []
    for _ in range(TRIES):
        one, four = runner.seconds(many, LEAST_S, best_of=2), runner.seconds(few, LEAST_S, best_of=2, together=TIMES)
        tries.append(scale * one / four)
        if tries[-1] <= MOST:
            break
    return min(tries)


@pytest.mark.parametrize("segment", SEGMENTS)
@pytest.mark.parametrize("element", ELEMENTS, ids=NAMES)
def test_four_times_the_bytes_take_four_times_the_work(element, segment):
    assert growth(element, segment) <= MOST


def test_elements_have_names_of_their_own():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("element", ELEMENTS, ids=NAMES)
def test_a_scene_grows_by_its_element_alone(element):
    small, large = size_of(element.turns(10_000)), size_of(element.turns(40_000))
    assert 2.5 <= large / small <= 5


@pytest.mark.parametrize(
    ("name", "counter", "least"),
    [
        ("many fields", "anomalies.too_many_headers", 0),
        ("folded without end", "anomalies.folded_header", 1),
        ("chunks of one byte", "messages.complete", 2),
        ("interim responses", "responses.1xx", 500),
        ("pipelined requests", "responses.2xx", 200),
        ("answers to nothing", "pairing.response_only", 400),
        ("garbage behind a message", "skipped_bytes", 16_000),
        ("requests that are refused", "skipped_bytes", 16_000),
        ("responses in one line", "skipped_bytes", 15_000),
        ("late starts, not HTTP", "not_http_bytes", 16_000),
        ("unknown codings", "anomalies.unknown_coding", 1),
        ("HTTP/0.9 body", "body_bytes.response", 16_000),
    ],
)
def test_a_scene_is_what_it_says(name, counter, least):
    element = ELEMENTS[NAMES.index(name)]
    counts = Runner(element.headers, bool(element.coding)).counts(batches(element.turns(1 << 14), 1460))
    assert counts[counter] >= least, counts
    assert counts["payload.out_of_window"] == counts["gaps"] == 0


def test_quadratic_work_is_seen(monkeypatch):
    def once(self, made, together=1):
        return together * (sum(map(len, made)) * 1e-6) ** 2

    monkeypatch.setattr(Runner, "once", once)
    assert growth(ELEMENTS[0], 1460) > MOST
