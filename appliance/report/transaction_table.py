"""Output of `run -r FILE` without -o: a table of transactions on a terminal, a line each elsewhere.

A separate process reads the pipe that replaces standard output. The run writes its events there as with `-o -`, and
ends when the reader of the table has finished or gone. Memory is bounded: a terminal shows the first transactions.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import sys
from typing import NamedTuple

import msgspec

from appliance.config.schema import Config
from appliance.report import event_lines as show
from appliance.runtime import log
from appliance.runtime.child_environment import child_environment
from appliance.runtime.log import ERASE, takes_progress
from appliance.runtime.standard_streams import quiet, stand_in

SHOWN = 1000  # transactions in a table
LONGEST_CELL = 2000  # maximum characters of a URL in it
READ_BYTES = 1 << 16
AS_LINES = "lines"


class TransactionTable:
    """The process that shows the transactions. It replaces standard output of this process. Raises OSError."""

    def __init__(self, config: Config) -> None:
        words = [sys.executable, "-P", "-m", "appliance.report.transaction_table"]
        if config.source.file == "-" and not stat.S_ISREG(os.fstat(0).st_mode):
            words.append(AS_LINES)  # the pipe may stay open for hours
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = os.posix_spawn(
                words[0], words, child_environment(), file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)], setpgroup=0
            )
            os.dup2(writer, 1)
        finally:
            os.close(reader)
            os.close(writer)

    def finish(self, stop: int) -> bool:
        """Wait until all is shown, unless `stop` becomes readable; whether it was."""
        quiet()
        done = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([done, stop], [], [])
        finally:
            os.close(done)
        if stop in ready:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return stop in ready or os.waitstatus_to_exitcode(status) == 0


def has_no_other_output(config: Config) -> bool:
    """Return whether the events of a file have no other output."""
    return config.lossless and not config.output.path and config.feed.bind == "off"


# -- the other process -----------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    time: str
    number: int
    cells: dict[str, str]


def main(words: list[str]) -> int:
    """Show the events of standard input. Return the exit code."""
    stand_in()
    try:
        if AS_LINES in words or not sys.stdout.isatty():
            _lines()
        else:
            _table()
        sys.stdout.flush()
    except OSError as fault:
        quiet()
        if fault.errno != errno.EPIPE:
            log.warning(f"standard output: {fault.strerror}")
            return 1
    return 0


def _lines() -> None:
    """Print a line for each event as it arrives."""
    terminal = sys.stdout.isatty()
    colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    erase = ERASE if terminal and takes_progress() else ""
    headed, rest = not terminal, b""
    while chunk := os.read(0, READ_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        shown = [show.line(msgspec.json.decode(event), colours=colours) for event in whole]
        if shown and not headed:
            headed = True
            shown.insert(0, show.heading())
        if shown:
            sys.stdout.write(erase + "".join(f"{line}\n" for line in shown))
            sys.stdout.flush()


def _table() -> None:
    """Print the first transactions by time, at the end of the input."""
    rows: list[_Row] = []
    count = 0
    for line in sys.stdin.buffer:
        event = msgspec.json.decode(line)
        count += 1
        cells = {name: cell[:LONGEST_CELL] for name, cell in show.row(event).items()}
        rows.append(_Row(str(event.get("@timestamp", "")), count, cells))
        if len(rows) >= 2 * SHOWN:
            rows = sorted(rows)[:SHOWN]
    if not rows:
        return
    from rich.console import Console

    console = Console()
    shown = sorted(rows)[:SHOWN]
    erase = ERASE if takes_progress() else ""
    with console.capture() as text:
        console.print(show.drawn([row.cells for row in shown], console.width))
    more = f"… and {count - len(shown):,} more: -o FILE writes them all\n" if count > len(shown) else ""
    sys.stdout.write(f"{erase}{text.get()}{more}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
