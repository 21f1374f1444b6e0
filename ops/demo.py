"""What `make run` shows: the appliance at work on a sample capture, or live on an interface.

usage: demo.py [INTERFACE]"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from appliance import show

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path("build/sample.pcap")
EVENTS = Path("build/events.jsonl")
SHOWN = 20

NEXT = """\
type next (after  . .venv/bin/activate):
  sudo .venv/bin/appliance run -i eth0              live capture, until Ctrl-C; or: sudo make run SOURCE=eth0
  appliance devices                                 the interfaces there are
  appliance events                                  in a second terminal: subscribe to a running appliance
  curl -s http://127.0.0.1:9470/metrics             while it runs: what it saw, and what it lost
  appliance run -r build/sample.pcap -o - | jq .    the same events, into any tool
  appliance config > appliance.toml                 every option, explained
"""


def main(arguments: list[str]) -> int:
    """The demonstration; its exit code is that of the appliance."""
    return live(arguments[1]) if len(arguments) > 1 else sample()


def appliance(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "appliance", *arguments]


def sample() -> int:
    """Runs the sample capture through the real processes."""
    if not SAMPLE.exists():
        SAMPLE.parent.mkdir(exist_ok=True)
        part = SAMPLE.with_suffix(".part")
        subprocess.run([sys.executable, str(ROOT / "ops/bench/traffic.py"), "sample", str(part)], check=True)
        part.replace(SAMPLE)
    command = ["run", "-r", str(SAMPLE), "--workers", "2", "-o", str(EVENTS)]
    print(f"$ appliance {' '.join(command)}\n", flush=True)
    done = subprocess.run(appliance(*command), stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        return done.returncode
    events = [json.loads(line) for line in EVENTS.read_bytes().splitlines()]
    events.sort(key=lambda event: str(event.get("@timestamp")))
    present(events)
    print(done.stderr)
    print(NEXT, end="")
    return 0


def present(events: list[show.Event]) -> None:
    """The first events as a table, and how many there are of each class."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(show.table(events[:SHOWN]))
    classes = ", ".join(f"{name} {count}" for name, count in show.count_by_class(events).items() if count)
    print(f"\n{len(events)} transactions in {EVENTS}: {classes}; the first {min(SHOWN, len(events))} above\n")


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
