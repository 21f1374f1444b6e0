"""The demonstration of `make run`: the appliance at work on a sample capture, or live on an interface.

usage: demo.py [INTERFACE]"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from appliance.report import event_lines as show

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path("build/sample.pcap")
EVENTS = Path("build/events.jsonl")
SHOWN = 20

NEXT = """\
type next (after  . .venv/bin/activate):
  appliance run -r build/sample.pcap             all of them, on the terminal
  appliance run -r build/sample.pcap -o - | jq . the same events, into any tool
  sudo .venv/bin/appliance run -i eth0           live capture, until Ctrl-C;
                                                 or: sudo make run SOURCE=eth0
  appliance devices                              the interfaces there are
  appliance events                               in a second terminal, while it
                                                 captures: each transaction
  curl -s http://127.0.0.1:9470/metrics          what it saw, and what it lost
  appliance config > appliance.toml              every option, explained
"""


def main(arguments: list[str]) -> int:
    """The demonstration; its exit code is that of the appliance."""
    return live(arguments[1]) if len(arguments) > 1 else sample()


def appliance(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "appliance", *arguments]


def sample() -> int:
    """Runs the sample capture through the real processes."""
    if not SAMPLE.exists():
        SAMPLE.parent.mkdir(exist_ok=True)
        part = SAMPLE.with_suffix(".part")
        subprocess.run([sys.executable, str(ROOT / "ops/bench/traffic.py"), "sample", str(part)], check=True)
        part.replace(SAMPLE)
    command = ["run", "-r", str(SAMPLE), "--workers", "2", "-o", str(EVENTS)]
    print(f"$ appliance {' '.join(command)}\n", flush=True)
    code = subprocess.run(appliance(*command)).returncode
    if code:
        return code
    events = [json.loads(line) for line in EVENTS.read_bytes().splitlines()]
    events.sort(key=lambda event: str(event.get("@timestamp")))
    present(events)
    print(NEXT, end="")
    return 0


def present(events: list[show.Event]) -> None:
    """The first events as a table."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    print(flush=True)
    console.print(show.table(events[:SHOWN], width=console.width))
    print(f"\nthe first {min(SHOWN, len(events))} of {len(events)} transactions in {EVENTS}\n")


def live(interface: str) -> int:
    """Captures on the interface and shows each transaction as a line, until Ctrl-C."""
    print(f"$ appliance run -i {interface} -o -      (Ctrl-C ends it)\n", flush=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the appliance gets it too, drains, and so ends our input
    child = subprocess.Popen(
        appliance("run", "-i", interface, "-o", "-", "-v"),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdout is not None
    for event in child.stdout:
        print(show.line(json.loads(event)), flush=True)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
