"""The tutorial, line for line: each of its programs runs on a host whose eth0 carries web traffic, in its order."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import read_line
from hosts import ROOT, Host, administer
from scene import make_network

pytestmark = pytest.mark.root

TEXT = (ROOT / "ops/docs/developers/tutorial.md").read_text()
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
VISITOR = """
import http.client, itertools
for number in itertools.count():
    connection = http.client.HTTPConnection("192.0.2.1", 80)
    connection.request("GET", f"/length/100?{number}")
    connection.getresponse().read()
    connection.close()
"""
# What each program has to show, by its place: one of the lines of its output matches each pattern.
SHOWN = [
    [r"eth0", r"IP : 192\.0\.2\.1", r"NetMask : 255\.255\.255\.240"],
    [r"PACKET: \d+ bytes, .*, eth0", r"- Layer 3 \(\d+ bytes\) = TCP .*port=80 .*"],
    [r"web"],
    [r"source mac address : ([0-9a-f]{2}:){5}[0-9a-f]{2}"],
    [
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00 \d{19} \d+ \d+ False",
        r"\['Ethernet', 'IP', 'TCP', 'Request'\]",
        r".* 64 80",
        r"192\.0\.2\.2->192\.0\.2\.1 \d+->80 80->\d+",
        r".*'host', '192\.0\.2\.1'.*|.*'host': '192\.0\.2\.1'.*",
        r"-- FULL PACKET DATA .*",
        r"00000000  .*\|",
    ],
    [],
    [r"GET /length/100\?\d+"],
    [],
    [r"192\.0\.2\.2->192\.0\.2\.1 \d+->80 GET /length/100\?\d+ HTTP/1\.1"],
]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with eth0, a web server on port 80, and somebody who visits it all the time."""
    network = make_network()
    server = network.server
    try:
        for words in (("down",), ("name", "eth0"), ("up",)):
            administer("-n", server.name, "link", "set", "s0" if words != ("up",) else "eth0", *words)
        web = server.python("web_server.py", 80, stdout=-1)
        assert read_line(web.stdout) == b"ready\n"
        network.client.start(sys.executable, "-c", VISITOR)
        yield server
    finally:
        network.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the programs run, one after the other: a file of one is there for the next."""
    return tmp_path_factory.mktemp("tutorial")


def test_every_program_of_the_tutorial_is_known_here() -> None:
    assert len(BLOCK.findall(TEXT)) == len(SHOWN)


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_a_program_of_the_tutorial_runs_and_shows_what_it_says(number: int, host: Host, directory: Path) -> None:
    program = BLOCK.findall(TEXT)[number]
    lines = host.run(sys.executable, "-W", "error", "-c", program, cwd=directory).splitlines()
    for pattern in SHOWN[number]:
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, lines[:20])
