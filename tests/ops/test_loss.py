"""The loss benchmark: its crowd is what it says, and its scorer sees every kind of failure."""

from __future__ import annotations

import copy

import loss
import pytest
from crowd import Crowd, head_end
from loss import IMPAIRMENTS, Event, Score, events_of, holds, score

NONE = IMPAIRMENTS[0]


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return Crowd(3, 30)


@pytest.fixture
def events(crowd) -> list[Event]:
    """Return the events of the undamaged crowd."""
    return events_of(crowd.frames)


def swapped(events: list[Event]) -> list[Event]:
    """The first two whole transactions of one connection, with each other's response."""
    out = copy.deepcopy(events)
    port = next(one["source"]["port"] for one in out if sum(two["source"] == one["source"] for two in out) > 1)
    first, second, *_ = (one["http"] for one in out if one["source"]["port"] == port)
    first["response"], second["response"] = second["response"], first["response"]
    return out


def test_all_is_right_when_nothing_is_damaged(crowd, events):
    found = score(crowd.truths, crowd.frames, events)
    assert (found.right, found.failures) == (len(crowd.truths), [])
    assert found.eligible == found.transactions == found.right


def test_every_seed_is_another_crowd_and_the_same_one_each_time(crowd):
    assert Crowd(3, 30).frames == crowd.frames
    assert Crowd(4, 30).frames != crowd.frames


def test_the_crowd_holds_every_kind_of_exchange():
    truths = Crowd(5, 400).truths
    assert {truth.style for truth in truths} == {"one", "bursts", "sliding"}
    assert {truth.status for truth in truths} >= {200, 204, 304, 404}
    assert {truth.method for truth in truths} >= {"GET", "HEAD", "POST", "PUT"}
    assert any(len(truth.heads) > 2 for truth in truths)


def test_a_swapped_pair_is_wrong(crowd, events):
    found = score(crowd.truths, crowd.frames, swapped(events))
    assert (found.wrong, found.right) == (2, len(crowd.truths) - 2)
    assert not holds(NONE, [found])


def test_a_wrong_pair_fails_even_a_goal_of_nothing():
    assert not holds(loss.Impairment("", 0.0, NONE.damage), [Score(wrong=1)])
    assert not holds(loss.Impairment("", 0.0, NONE.damage), [Score(invented=1)])
    assert holds(loss.Impairment("", 0.0, NONE.damage), [Score(eligible=1)])
    assert not holds(loss.Impairment("", 0.5, NONE.damage), [Score(eligible=3, right=1)])


@pytest.mark.parametrize(
    ("half", "key", "value"),
    [("request", "method", "BREW"), ("response", "reason", "Fake"), ("response", "status_code", 599)],
)
def test_what_was_never_sent_is_invented(crowd, events, half, key, value):
    events[5]["http"][half][key] = value
    found = score(crowd.truths, crowd.frames, events)
    assert (found.invented, found.wrong, found.right, found.missing) == (1, 0, len(crowd.truths) - 1, 1)


def test_what_is_reported_twice_is_invented(crowd, events):
    found = score(crowd.truths, crowd.frames, [*events, events[7]])
    assert (found.invented, found.right) == (2, len(crowd.truths))


def test_halves_of_their_own_are_not_right(crowd, events):
    apart = copy.deepcopy(events[7])
    del events[7]["http"]["request"], apart["http"]["response"]
    found = score(crowd.truths, crowd.frames, [*events, apart])
    assert (found.apart, found.missing, found.right) == (1, 0, len(crowd.truths) - 1)


def test_what_is_not_reported_is_missing(crowd, events):
    found = score(crowd.truths, crowd.frames, events[1:])
    assert (found.missing, found.right) == (1, len(crowd.truths) - 1)


def test_a_transaction_counts_only_if_its_heads_were_captured(crowd):
    lost = crowd.truths[11].heads[0]
    frames = [(ts_ns, data) for ts_ns, data in crowd.frames if data is not lost]
    found = score(crowd.truths, frames, [])
    carried = sum(any(head is lost for head in truth.heads) for truth in crowd.truths)
    assert found.eligible == len(crowd.truths) - carried


@pytest.mark.parametrize("impairment", IMPAIRMENTS, ids=lambda one: one.name)
def test_every_damage_is_done(crowd, impairment):
    damaged = impairment.damage(crowd.frames, 11)
    assert (damaged == crowd.frames) == (impairment is NONE)
    assert damaged == impairment.damage(crowd.frames, 11)


def test_the_command_says_whether_the_goals_are_met(capsys, tmp_path):
    made = tmp_path / "figures.json"
    assert loss.main(["--seeds", "1", "--connections", "10", "--only", "5 %", "--json", str(made), "--show", "1"]) in (
        0,
        1,
    )
    assert loss.main(["--seeds", "1", "--connections", "10", "--only", "reordered"]) == 0
    assert "100.000%" in capsys.readouterr().out
    assert '"eligible"' in made.read_text()


def test_the_end_of_a_head_is_behind_its_empty_line():
    assert head_end(b"GET / HTTP/1.1\r\n\r\nx") == 18
    assert head_end(b"no head") == 0
