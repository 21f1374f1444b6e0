"""The programs measured side by side: libpcap alone, the appliance, the peers that are installed, a dpkt loop."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = Path.home() / ".cache" / "appliance-peers"
_SURICATA_READS = {  # settings beside suricata.yaml, by dataset: that protocol and no other
    "http": (),
    "tls": ("app-layer.protocols.http.enabled=no", "app-layer.protocols.tls.enabled=yes"),
    "http2": ("app-layer.protocols.http.enabled=no", "app-layer.protocols.http2.enabled=yes"),
}
_SURICATA_MARKS = {"http2": b'"version":"2"'}  # of its events, where it is not their type


@dataclass(frozen=True, slots=True)
class Contender:
    """One program. `timed` makes its command for a file, its output thrown away; `counted` one whose output is kept.

    Both get (file, scratch directory). The events of a counted run are the lines with `mark` in scratch/`events`;
    `stdout` says that the program writes them there itself.
    """

    name: str
    timed: Callable[[Path, Path], list[str]]
    counted: Callable[[Path, Path], list[str]] | None = None
    events: str = "events"
    mark: bytes = b"\n"
    stdout: bool = False
    peer: bool = False
    slow: bool = False  # run once or twice, not in every round


def program() -> list[str]:
    """Return the command that starts the appliance of this environment."""
    script = Path(sys.executable).parent / "appliance"
    return [str(script)] if script.exists() else [sys.executable, "-m", "appliance"]


def appliance(extra: Sequence[str]) -> Contender:
    """The appliance from the environment this runs in, all output channels but the file off."""
    start = program()

    def command(file: Path, out: str, ledger: Sequence[str] = ()) -> list[str]:
        return [*start, "run", "-r", str(file), "-o", out, "--feed", "off", "--metrics", "off", *ledger, *extra]

    return Contender(
        "appliance",
        timed=lambda file, scratch: command(file, os.devnull),
        counted=lambda file, scratch: command(
            file, str(scratch / "events"), ["--ledger", str(scratch / "ledger.json")]
        ),
    )


def floor(program: Path) -> Contender:
    """libpcap with an empty callback: no program on libpcap can be faster."""
    return Contender("libpcap floor", timed=lambda file, scratch: [str(program), str(file)])


def dpkt() -> Contender:
    """A Python loop that decodes and keeps nothing."""
    loop = str(HERE / "dpkt_loop.py")
    return Contender("dpkt loop", timed=lambda file, scratch: [sys.executable, loop, str(file)], slow=True)


def find(name: str) -> str | None:
    """A peer's program, on PATH or where the peers are kept."""
    return shutil.which(name) or shutil.which(name, path=str(PEERS))


def _suricata(program: str, mode: str, events: str) -> Contender:
    def command(file: Path, scratch: Path, out: str) -> list[str]:
        fixed = ["-c", str(HERE / "suricata.yaml"), "-k", "none", "-S", os.devnull, "--runmode", mode]
        settings = [f"outputs.0.eve-log.filename={out}", *_SURICATA_READS[events]]
        return [program, *fixed, "-l", str(scratch), "-r", str(file), *(f"--set={setting}" for setting in settings)]

    return Contender(
        f"suricata {mode}",
        timed=lambda file, scratch: command(file, scratch, os.devnull),
        counted=lambda file, scratch: command(file, scratch, str(scratch / "events")),
        mark=_SURICATA_MARKS.get(events, f'"event_type":"{events}"'.encode()),
        peer=True,
    )


def _gopeer(program: str) -> Contender:
    def command(file: Path, scratch: Path) -> list[str]:
        return [program, str(file)]

    return Contender("gopacket", timed=command, counted=command, mark=b'"status":', stdout=True, peer=True)


def _tshark(program: str) -> Contender:
    def command(file: Path, scratch: Path) -> list[str]:
        return [program, "-r", str(file), "-Y", "http.response", "-T", "fields", "-e", "http.response.code"]

    return Contender("tshark", timed=command, counted=command, stdout=True, peer=True, slow=True)


def peers(*, with_tshark: bool, events: str) -> list[Contender]:
    """The peers that are installed here and make events of this dataset; the others are left out."""
    found: list[Contender] = []
    if program := find("suricata"):
        found += [_suricata(program, "single", events), _suricata(program, "autofp", events)]
    if events != "http":
        return found
    if program := find("gopeer"):
        found.append(_gopeer(program))
    if with_tshark and (program := find("tshark")):
        found.append(_tshark(program))
    return found


def count(file: Path, mark: bytes) -> int:
    """Return the number of lines of a file that hold `mark` (each counts once)."""
    if mark == b"\n":
        with open(file, "rb") as source:
            return sum(block.count(b"\n") for block in iter(lambda: source.read(1 << 20), b""))
    with open(file, "rb") as source:
        return sum(mark in line for line in source)
