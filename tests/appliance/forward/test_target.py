"""The target to forward to, and its credentials: the accepted forms, and the messages about the rest."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from appliance.forward.sinks import SINKS
from appliance.forward.target import Credentials, Target, TargetFault, credentials, parse


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("nats://h", Target("nats", ("h:4222",), "APPLIANCE")),
        ("nats://h:1/S", Target("nats", ("h:1",), "S")),
        ("nats://a:1,b,[::1]:3,[::1]/S-1", Target("nats", ("a:1", "b:4222", "[::1]:3", "[::1]:4222"), "S-1")),
        ("kafka://h", Target("kafka", ("h:9092",), "appliance")),
        ("kafka://h:1/http.events", Target("kafka", ("h:1",), "http.events")),
    ],
)
def test_a_url_names_servers_of_one_cluster_and_a_stream_or_topic(text, target):
    assert parse(text) == target
    assert parse(str(target)) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "looks like nats://HOST:PORT/STREAM or kafka://"),
        ("h:4222", "looks like nats://HOST:PORT/STREAM or kafka://"),
        ("http://h", "looks like nats://HOST:PORT/STREAM or kafka://"),
        ("nats://", "looks like"),
        ("nats://h:x", "'x' is not a port"),
        ("nats://h:0", "not an address to connect to"),
        ("nats://*", "not an address to connect to"),
        ("nats://::1", "looks like"),
        ("nats://h/A.B", "'A.B' cannot be the name of a stream"),
        ("nats://h/A*", "cannot be the name of a stream"),
        ("kafka://h/a b", "'a b' cannot be the name of a topic"),
    ],
)
def test_a_url_that_is_wrong_is_said_to_be(text, why):
    with pytest.raises(TargetFault, match=why):
        parse(text)


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(TargetFault, match="--credentials FILE") as raised:
        parse("nats://user:s3cr3t@h")
    assert "s3cr3t" not in str(raised.value)


def test_the_environment_says_more_than_the_file(tmp_path):
    (file := tmp_path / "c").write_text('user = "a"\npassword = "b"\ntls = true\n')
    file.chmod(0o600)
    known = credentials(file, {"APPLIANCE_FORWARD_PASSWORD": "other", "APPLIANCE_FORWARD_TLS": "0", "HOME": "x"})
    assert known == Credentials(user="a", password="other")


def test_credentials_do_not_show_in_texts():
    assert "s3cr3t" not in repr(Credentials(password="s3cr3t"))


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ('user = "a"', 0o640, "others can read .*chmod 0600"),
        ("user = ", 0o600, "not TOML"),
        ("user = 1", 0o600, "Expected `str`"),
        ('usr = "a"', 0o600, "unknown field `usr`"),
    ],
)
def test_a_file_that_is_wrong_is_said_to_be(tmp_path, text, mode, why):
    (file := tmp_path / "c").write_text(text)
    file.chmod(mode)
    with pytest.raises(TargetFault, match=why):
        credentials(file, {})


def test_a_file_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(TargetFault, match="No such file"):
        credentials(tmp_path / "c", {})


@pytest.mark.parametrize("scheme", SINKS)
def test_a_row_of_the_registry_is_enough_for_a_url(scheme):
    kind = SINKS[scheme]
    assert parse(f"{scheme}://h") == Target(scheme, (f"h:{kind.port}",), kind.name)
    assert find_spec(kind.module) is not None
