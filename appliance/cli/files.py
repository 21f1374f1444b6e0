"""The `appliance files` command: names each new file of a sensor, or runs a command for it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from appliance.files.new_files import NewFiles
from appliance.native.safe_files import Unusable
from appliance.runtime.standard_streams import quiet
from appliance.text.terminal import safe, stderr_line

PLACE = "{}"  # in a command: the path of the file
IDLE_S = 0.25  # between two looks at an empty queue
TURN_S = 0.01  # between two looks at running commands
NAMED = 256  # files that are named at once


class FilesArgs(NamedTuple):
    """The arguments of the command. command: words of the command for each file; none: name the files."""

    folder: Path
    command: Sequence[str] = ()
    done_codes: Sequence[int] = (0,)
    jobs: int = 1
    timeout_s: float = 60.0
    once: bool = False


class _Job(NamedTuple):
    path: Path
    process: subprocess.Popen[bytes]
    deadline: float  # time.monotonic()


class Scan:
    """The work on the queue, until stop is set or, with `once`, until nothing is due."""

    def __init__(self, args: FilesArgs, files: NewFiles) -> None:
        self.args = args
        self.files = files
        self.stop = 0  # the exit code of a signal
        self.done = self.failed = 0
        self._jobs: list[_Job] = []

    def run(self) -> None:
        """Do the work. Raises OSError."""
        while not self.stop:
            self._look()
            room = self.args.jobs - len(self._jobs) if self.args.command else NAMED
            found = self.files.due(room, time.monotonic()) if room else []
            for path in found:
                self._begin(path)
            if self._jobs:
                time.sleep(TURN_S)
            elif not found:
                if self.args.once:
                    return
                time.sleep(IDLE_S)
        for job in self._jobs:  # their files stay in the queue
            _kill(job.process)

    def _begin(self, path: Path) -> None:
        if not self.args.command:
            print(path, flush=True)
            self._end(path, "")
            return
        words = [word.replace(PLACE, str(path)) for word in self.args.command]
        if words == list(self.args.command):
            words.append(str(path))
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as fault:
            self._end(path, f"{words[0]}: {fault.strerror}")
            return
        self._jobs.append(_Job(path, process, time.monotonic() + self.args.timeout_s))

    def _look(self) -> None:
        """End the jobs whose commands have ended, and those that take too long."""
        for job in list(self._jobs):
            code = job.process.poll()
            late = code is None and time.monotonic() >= job.deadline
            if late:
                _kill(job.process)
                self._jobs.remove(job)
                self._end(job.path, f"no end after {self.args.timeout_s:g} s (--timeout)")
            elif code is not None:
                self._jobs.remove(job)
                self._end(job.path, _fault(code, self.args.done_codes))

    def _end(self, path: Path, fault: str) -> None:
        if not fault:
            self.done += 1
            self.files.done(path)
            return
        self.failed += 1
        pause = self.files.failed(path, time.monotonic())
        again = "" if self.args.once else f"; again in {pause:g} s"
        stderr_line(safe(f"{path.name}: {fault}{again}"))


def _fault(code: int, done_codes: Sequence[int]) -> str:
    """Return why a command that ended has not done its work; "" if it has."""
    if code in done_codes:
        return ""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def watch_files(args: FilesArgs) -> int:
    """Name or scan the files of a queue, and return the exit code. Raises Unusable."""
    scan = Scan(args, NewFiles(args.folder, retry=not args.once))

    def on_signal(number: int, _: object) -> None:
        scan.stop = 128 + number

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        scan.run()
    except BrokenPipeError:  # the reader closed the pipe; the last file stays in the queue
        quiet()
    except OSError as fault:
        where = fault.filename or args.folder
        raise Unusable(f"{where}: {fault.strerror}; files.announce = true makes the queue of new files") from fault
    if args.command:
        stderr_line(f"{scan.done:,} files done, {scan.failed:,} commands failed")
    return scan.stop or (1 if args.once and scan.failed else 0)
