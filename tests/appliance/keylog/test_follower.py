"""KeyLogFollower: growing, absent, truncated, replaced and hostile files."""

from __future__ import annotations

import os

import pytest

from appliance.keylog.follower import LEAST_TAIL, KeyLogFollower

EVERYTHING = 1 << 30


def line(number):
    return f"CLIENT_RANDOM {number:064x} {'ab' * 48}\n"


def numbers(secrets):
    return [int.from_bytes(random, "big") for _, random, _ in secrets]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "keys.log"


@pytest.fixture
def follower(log):
    made = KeyLogFollower(str(log), 1000)
    yield made
    made.close()


def test_lines_are_read_as_they_grow_even_in_parts(log, follower):
    with log.open("w") as file:
        file.write(line(1) + line(2)[:40])
        file.flush()
        assert numbers(follower.poll(EVERYTHING)) == [1]
        assert numbers(follower.poll(EVERYTHING)) == []
        file.write(line(2)[40:])
        file.flush()
        assert numbers(follower.poll(EVERYTHING)) == [2]


def test_an_absent_file_is_a_plain_fault_until_it_is_there(log, follower):
    assert follower.poll(EVERYTHING) == []
    assert follower.fault == "No such file or directory"
    log.write_text(line(1))
    assert numbers(follower.poll(EVERYTHING)) == [1]
    assert follower.fault == ""


def test_a_truncated_file_is_read_from_its_beginning(log, follower):
    log.write_text(line(1) + line(2))
    follower.poll(EVERYTHING)
    log.write_text(line(3))
    assert numbers(follower.poll(EVERYTHING)) == [3]
    assert follower.restarts == 1


def test_a_replaced_file_is_read_after_the_rest_of_the_old_one(log, follower):
    log.write_text(line(1))
    follower.poll(EVERYTHING)
    with log.open("a") as old:
        old.write(line(2).rstrip("\n"))
    log.rename(log.with_suffix(".1"))
    log.write_text(line(3))
    assert numbers(follower.poll(EVERYTHING)) == [2, 3]


def test_a_removed_file_stays_open_until_another_one_comes(log, follower):
    with log.open("w") as file:
        file.write(line(1))
        file.flush()
        follower.poll(EVERYTHING)
        log.unlink()
        file.write(line(2))
        file.flush()
        assert numbers(follower.poll(EVERYTHING)) == [2]
    log.write_text(line(3))
    assert numbers(follower.poll(EVERYTHING)) == [3]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_without_waiting(log, follower, make):
    make(log)
    assert follower.poll(EVERYTHING) == []
    assert follower.fault


def test_a_turn_reads_no_more_than_asked_for(log):
    follower = KeyLogFollower(str(log), 100_000)
    log.write_text("".join(map(line, range(40_000))))
    first = follower.poll(1 << 20)
    assert 0 < len(first) < 40_000
    while more := follower.poll(1 << 20):
        first += more
    assert numbers(first) == list(range(40_000))
    follower.close()


def test_of_a_file_much_longer_than_the_limit_only_the_end_is_read(log):
    follower = KeyLogFollower(str(log), 16)
    count = 3 * LEAST_TAIL // len(line(0))
    log.write_text("".join(map(line, range(count))))
    found = numbers(follower.poll(EVERYTHING))
    assert found == list(range(count - len(found), count))
    assert len(found) * len(line(0)) <= LEAST_TAIL
    follower.close()
