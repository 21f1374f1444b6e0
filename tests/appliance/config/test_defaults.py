"""A default is written once: help texts and constructors agree with the options, or have none of their own."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from appliance.capture.sharder import Sharder
from appliance.cli.options import size
from appliance.cli.run_command import run
from appliance.config.defaults import LONGEST_FRAME
from appliance.config.schema import Config

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = {
    f"{section.name}__{field.name}": field.default
    for section in msgspec.structs.fields(Config)
    for field in msgspec.structs.fields(section.type)
}
SAID = {
    str(option.name): found[1]
    for option in run.params
    if option.name in DEFAULTS and (found := re.search(r"\[([^\];]+)[^\]]*\]$", getattr(option, "help", None) or ""))
}
OF_LIBPCAP = {"snaplen", "promiscuous"}  # the library's API has libpcap's own defaults


def test_some_help_texts_tell_a_default():
    assert {"capture__snaplen", "capture__ring_bytes", "feed__replay", "metrics__bind"} <= set(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_help_text_tells_the_default_of_its_option(name: str):
    default = DEFAULTS[name]
    if isinstance(default, int | float) and not isinstance(default, bool) and default:
        assert size(SAID[name]) == default
    elif isinstance(default, str) and default and default != "auto":
        assert SAID[name] == default


def test_the_longest_frame_is_that_of_libpcap():
    assert Config().capture.snaplen == LONGEST_FRAME


def test_no_constructor_has_a_number_as_the_default_of_an_option():
    """Require that compiled classes take these values from the configuration; a second default drifts unseen."""
    names = {name.partition("__")[2] for name in DEFAULTS} - OF_LIBPCAP
    stems = names | {re.sub(r"_(s|ms)$", "_ns", name) for name in names}
    default = re.compile(rf"\b({'|'.join(sorted(stems))})(: \w+)? ?= ?[\d-]")
    signature = re.compile(r"def (?:__c?init__|configure)\((.*?)\)(?: -> None)?:", re.S)
    found = [
        f"{path.relative_to(ROOT)}: {said[0]}"
        for top in ("appliance", "workers")
        for suffix in ("pyx", "pyi")
        for path in sorted((ROOT / top).rglob(f"*.{suffix}"))
        for parameters in signature.findall(path.read_text())
        for said in default.finditer(parameters)
    ]
    assert found == []


def test_a_sharder_without_options_has_their_defaults():
    made, said = Sharder(bytes(16), 1), Sharder(bytes(16), 1, Config())
    assert made.link_type == said.link_type
    assert made.counts() == said.counts()
