"""`appliance forward` on the command line: what is said of options that cannot be."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner
from forward_process import Forward

from appliance.cli.main import main


def run(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["forward", *options])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--to", "amqp://h"], "--to: not a target URL; it looks like nats://HOST:PORT/STREAM"),
        (["--to", "nats://u:p@h"], "--to: holds credentials, which other users of this machine can see"),
        (["--to", "nats://h", "--credentials", "/nowhere"], "--credentials: /nowhere: No such file or directory"),
        (["--to", "nats://h", "--metrics", "0.0.0.0:1"], "--metrics 0.0.0.0:1: reachable from other hosts"),
        (["--to", "nats://h", "--metrics", "x"], "--metrics: 'x' is not HOST:PORT"),
        (["--to", "nats://h", "--subject", "a b"], "--subject 'a b': words with dots between them"),
        (["--to", "nats://h", "--subject", "a.>"], "--subject 'a.>': words with dots between them"),
    ],
)
def test_an_option_that_cannot_be_is_named(options, why):
    code, output = run(*options)
    assert code == 2
    assert why in output


def test_an_endpoint_that_is_none_is_named():
    pytest.importorskip("nats", reason="needs nats-py")
    with Forward("nats://127.0.0.1:1", "nonsense") as forward:
        assert forward.end() == 2
        assert "--connect nonsense" in forward.log


@pytest.mark.parametrize(("url", "module"), [("nats://h", "jetstream"), ("kafka://h", "kafka")])
def test_a_missing_client_library_is_named_with_the_extra_that_brings_it(monkeypatch, url, module):
    library = {"jetstream": "nats", "kafka": "confluent_kafka"}[module]
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"appliance.{module}", raising=False)
    for name in [name for name in sys.modules if name.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    code, output = run("--to", url)
    assert code == 2
    assert "make setup EXTRAS=forward" in output


def test_a_file_of_positions_that_is_something_else_is_not_overwritten(tmp_path):
    pytest.importorskip("nats", reason="needs nats-py")
    (file := tmp_path / "notes").write_text("mine")
    code, output = run("--to", "nats://127.0.0.1:1", "--position", str(file))
    assert code == 2
    assert "not a file of positions" in output
    assert file.read_text() == "mine"
