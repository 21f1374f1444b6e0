"""The child processes of the supervisor, and what it hears of them and of signals.

The first children are forked: all that they have in common is loaded by then, and a file of a second would else wait
for it a fifth of that. One that starts again is executed, from nothing: whoever crashed it learned nothing of where
things lie in its memory, and by then we may have threads. Their standard input is a pipe that nobody writes to: it
ends when we die.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from appliance import oneself
from appliance.config import entrusted
from appliance.sandbox import regain
from appliance.station import leave
from appliance.stats import READY, STARTING, Page

UNUSABLE = 2  # the exit code of a process that cannot do what the configuration asks; it has said why

FIRST_DELAY_S = 1.0
LAST_DELAY_S = 16.0
STEADY_S = 10.0  # a process that ran this long has earned an immediate restart again
LONGEST_LOOK_S = 2.0  # between two looks at a process, as far as its stillness is concerned
DEFAULT_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]  # what each child starts with
FIRST_OWN = 3  # descriptor; those below are the child's input and outputs


class Lifeline:
    """The pipe behind every child's standard input. Only this process holds the writing end."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


class Backoff:
    """When to start again: at once after a steady run, else after a delay that doubles from 1 s to 16 s."""

    def __init__(self) -> None:
        self._delay = 0.0

    def next_delay(self, uptime_s: float) -> float:
        if uptime_s >= STEADY_S:
            self._delay = 0.0
        delay = self._delay
        self._delay = min(LAST_DELAY_S, max(FIRST_DELAY_S, delay * 2))
        return delay


class Pulse:
    """How long a process has not turned its loop while somebody looked.

    A look that comes late counts for a short one: after a pause of the whole machine nobody seems to hang."""

    def __init__(self) -> None:
        self.still_s = 0.0
        self._turned = -1
        self._looked = 0.0

    def look(self, now: float, turned: int) -> float:
        """The time so far, in seconds. turned: what changes with every turn of its loop."""
        if turned != self._turned:
            self.still_s = 0.0
        else:
            self.still_s += min(max(now - self._looked, 0.0), LONGEST_LOOK_S)
        self._turned, self._looked = turned, now
        return self.still_s


class Child:
    """One process of the run: how it is started, what its page says, and how it ended."""

    def __init__(
        self, kind: str, index: int, run_dir: Path, page: Page, *, module: str, stdin: int | None, stdout: int
    ) -> None:
        self.kind = kind
        self.index = index
        self.page = page
        self.name = kind if kind == "feed" else f"{kind} {index}"
        self.pid = 0
        self.pidfd = -1
        self.started_at = 0.0
        self.restart_at: float | None = None  # time.monotonic(); None: not waiting for a restart
        self.finished = False  # nothing more will come from it
        self.ever_ready = False
        self.false_starts = 0  # while it has never been ready
        self.hung = False  # and was killed for that
        self.pulse = Pulse()
        self._backoff = Backoff()
        self._files = [(stdout, 1)]
        if stdin is not None:  # None: it reads its frames there, and finds out otherwise when the supervisor dies
            self._files.append((stdin, 0))
        self._run_dir = run_dir
        self._argv = [sys.executable, "-P", "-m", module, str(run_dir)]
        if kind != "feed":
            self._argv.append(str(index))

    @property
    def alive(self) -> bool:
        return self.pid != 0

    def start(self, now: float, *, fork: bool = False) -> None:
        """Starts the process in its own group, so that a Ctrl-C in the terminal reaches only the supervisor.

        fork: as a copy of this process, if that does nothing but supervise. Raises OSError when the system has no room
        for it; nothing runs then."""
        self.page["state"] = STARTING
        self.page["error"] = 0
        self.page["generation"] = self.page["wanted_generation"]  # of what it is entrusted with
        self.restart_at = None
        self.started_at = now
        self.hung = False
        self.pulse = Pulse()
        forked = fork and threading.active_count() == 1
        pid = self._fork() if forked else self._execute()
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self.pid = pid

    def _execute(self) -> int:
        return os.posix_spawn(
            self._argv[0],
            self._argv,
            child_environment() | entrusted(self._run_dir),
            file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in self._files],
            setpgroup=0,
            setsigdef=DEFAULT_SIGNALS,
        )

    def _fork(self) -> int:
        sys.stdout.flush()  # or both would write what is in there
        signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULT_SIGNALS)  # in the child, our handlers would tell us
        try:
            pid = os.fork()
            if pid == 0:
                self._begin()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFAULT_SIGNALS)
        return pid

    def _begin(self) -> NoReturn:
        """The forked child: leaves everything behind that is the supervisor's, and becomes what its argv says."""
        code = 1
        try:
            os.setpgid(0, 0)
            for descriptor, place in self._files:
                os.dup2(descriptor, place)
            os.closerange(FIRST_OWN, os.sysconf("SC_OPEN_MAX"))
            signal.set_wakeup_fd(-1)
            for number in DEFAULT_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFAULT_SIGNALS)
            os.environ.update(entrusted(self._run_dir))
            module, *words = self._argv[3:]
            oneself.be_called(self.name, ["python", "-m", module, *words])
            regain()
            code = import_module(module).main([module, *words])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())  # as the interpreter does at the end of a process
        finally:
            leave(code)

    def reap(self) -> int:
        """The exit code, negative for a signal. Call it once the pidfd is readable."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.pid, self.pidfd = 0, -1
        code = os.waitstatus_to_exitcode(status)
        if code != UNUSABLE and self.page["state"] >= READY:
            self.ever_ready = True
        self.false_starts += 1
        return code

    def schedule_restart(self, now: float) -> float:
        """Plans the next start; returns the delay in seconds."""
        delay = self._backoff.next_delay(now - self.started_at)
        self.restart_at = now + delay
        return delay

    def send(self, number: int) -> None:
        if self.pid:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass

    def waits_for_kernel(self) -> bool:
        """Whether it is inside the kernel, most likely at a disk, where no signal reaches it."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] == b"D"
        except OSError:
            return False

    def progress_age_s(self, monotonic_ns: int) -> float:
        """Seconds since the last turn of its loop; since its start when it has not turned yet."""
        turned = max(self.page["progress_ns"], int(self.started_at * 1e9))
        return max(0, monotonic_ns - turned) / 1e9


def child_environment() -> dict[str, str]:
    """This environment, with the place of this package when it is not an installed one.

    `-P` keeps the current directory out of a child's import path (it may be anybody's, and we may be root), so a
    source tree that is run in place has to be named."""
    environment = dict(os.environ)
    root = Path(__file__).resolve().parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else str(root)
    return environment


@contextmanager
def signals_on_pipe(numbers: Sequence[int]) -> Iterator[int]:
    """Yields a descriptor that delivers one byte per signal received; ignored signals stay ignored."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {}
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
