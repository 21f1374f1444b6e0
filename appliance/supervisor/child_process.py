"""The child processes of the supervisor, and signals as bytes on a pipe.

The first children are forks of this process, which has loaded what several of them run (`load`); starting from nothing
would take 0.2 s of a run over a small file. A restarted child is executed from nothing. A fork would show an attacker
the same memory layout again, and the supervisor may have threads by then. The standard input of the children is a pipe
without writes; it ends when the supervisor dies.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from appliance.config import handover
from appliance.config.handover import ConfigSender, ConfigUpdate
from appliance.config.schema import Config
from appliance.keylog.link import VARIABLE, ChildSecretLink
from appliance.keylog.ring import KeyRing
from appliance.native import process_control as oneself
from appliance.runtime import log
from appliance.runtime.child import exit_now
from appliance.runtime.child_environment import child_environment
from appliance.runtime.sandbox import regain
from appliance.stats.names import READY, STARTING
from appliance.stats.page import Page

UNUSABLE = 2  # the exit code of a process that cannot follow the configuration; it has logged the reason

FIRST_DELAY_S = 1.0
LAST_DELAY_S = 16.0
STEADY_S = 10.0  # a process that ran this long has earned an immediate restart again
LONGEST_CHECK_INTERVAL_S = 2.0  # a longer interval between two checks of the progress counts as this one
DEFAULT_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]
LINK = 3  # the child's descriptor of its configuration link
SECRETS = 4  # … of its link of secrets
FIRST_OWN = 5  # descriptor; those below are the child's


def load(module: str, config: Config) -> None:
    """Load the code of children: here, once for several forks of this process, or in the only one of its kind.

    ZeroMQ has no thread and no socket before there is a context, which each child makes for itself. gc.freeze() exempts
    loaded objects from collection, which would write to every page of them, and each child would copy the page.
    """
    prepare = getattr(import_module(module), "prepare", None)
    if prepare:
        prepare(config)
    gc.freeze()


def _has_threads() -> bool:
    """Return whether this process has a second thread, of any library; a fork would lack it."""
    return len(os.listdir("/proc/self/task")) > 1


class ParentDeathPipe:
    """The pipe behind every child's standard input. Only this process holds the writing end."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


class Backoff:
    """The delays of restarts: none after a steady run, else one that doubles from 1 s to 16 s."""

    def __init__(self) -> None:
        self._delay = 0.0

    def next_delay(self, uptime_s: float) -> float:
        if uptime_s >= STEADY_S:
            self._delay = 0.0
        delay = self._delay
        self._delay = min(LAST_DELAY_S, max(FIRST_DELAY_S, delay * 2))
        return delay


class ProgressWatchdog:
    """The time for which a process has made no progress.

    Cap the interval of a late check, so that a suspended machine is not mistaken for a hung process.
    """

    def __init__(self) -> None:
        self.still_s = 0.0
        self._turned = -1
        self._looked = 0.0

    def look(self, now: float, turned: int) -> float:
        """Return the seconds without progress. turned: a value that changes with every turn of the loop."""
        if turned != self._turned:
            self.still_s = 0.0
        else:
            self.still_s += min(max(now - self._looked, 0.0), LONGEST_CHECK_INTERVAL_S)
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
        self.name = f"{kind} {index}" if kind in ("capture", "worker") else kind
        self.pid = 0
        self.pidfd = -1
        self.started_at = 0.0
        self.restart_at: float | None = None  # time.monotonic(); None: not waiting for a restart
        self.finished = False  # nothing more will come from it
        self.ever_ready = False
        self.false_starts = 0  # in a row, without any work
        self._work_before: list[int] = []  # _work() at the start
        self.hung = False  # and was killed for that
        self.watchdog = ProgressWatchdog()
        self._backoff = Backoff()
        self._files = [(stdout, 1)]
        if stdin is not None:  # None: it reads its frames there, and finds out otherwise when the supervisor dies
            self._files.append((stdin, 0))
        self._update: ConfigUpdate | None = None  # None: it gets no configuration
        self._sender: ConfigSender | None = None
        self.ring: KeyRing | None = None  # secrets for it; None: it gets none
        self.tells_secrets = False  # it sends those of its source
        self.secrets: ChildSecretLink | None = None  # the link of secrets of this life
        self.module = module
        self._argv = [sys.executable, "-P", "-m", module, str(run_dir)]
        if kind in ("capture", "worker"):
            self._argv.append(str(index))

    @property
    def alive(self) -> bool:
        return self.pid != 0

    def start(self, now: float, *, fork: Config | None = None) -> None:
        """Start the process in its own group, so that a Ctrl-C in the terminal reaches only the supervisor.

        fork: start a copy of this process, which must do nothing but supervise; the copy loads what this configuration
        needs and is not loaded yet. Raises OSError if the system has no room for the process; then none is running.
        """
        if self.page.repair():
            log.warning(f"{self.name}: its stats page was damaged; restored its last known values", reason="run")
        self.page["state"] = STARTING
        self.page["error"] = 0
        if self._update:
            self._sender = ConfigSender()
            self._sender.send(self._update)
            self.page["generation"] = self._update.generation
        if self.ring is not None or self.tells_secrets:
            self.secrets = ChildSecretLink()
            self.supply()
        self._work_before = self._work()
        self.restart_at = None
        self.started_at = now
        self.hung = False
        self.watchdog = ProgressWatchdog()
        try:
            pid = self._fork(fork) if fork and not _has_threads() else self._execute()
        except OSError:
            self._unlink()
            raise
        if self._sender:
            self._sender.started()
        if self.secrets:
            self.secrets.started()
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._unlink()
            raise
        self.pid = pid

    def inform(self, update: ConfigUpdate) -> None:
        """Send a configuration, now and at each start."""
        self._update = update
        self.page["wanted_generation"] = update.generation
        if self._sender:
            self._sender.send(update)

    def remind(self) -> None:
        """Send the configuration for which the link had no room."""
        if self._sender:
            self._sender.retry()

    def supply(self) -> None:
        """Send the secrets that are new."""
        if self.ring is not None and self.secrets:
            self.secrets.supply(self.ring)

    def _unlink(self) -> None:
        if self.secrets:
            self.secrets.close()
            self.secrets = None
        if self._sender:
            self._sender.close()
            self._sender = None

    def _descriptors(self) -> list[tuple[int, int]]:
        """Return pairs: (descriptor here, in the child)."""
        links = [(self._sender.theirs.fileno(), LINK)] if self._sender else []
        links += [(self.secrets.theirs.fileno(), SECRETS)] if self.secrets else []
        return [*self._files, *links]

    def _variables(self) -> dict[str, str]:
        found = {handover.VARIABLE: str(LINK)} if self._sender else {}
        return found | ({VARIABLE: str(SECRETS)} if self.secrets else {})

    def _execute(self) -> int:
        return os.posix_spawn(
            self._argv[0],
            self._argv,
            child_environment() | self._variables(),
            file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in self._descriptors()],
            setpgroup=0,
            setsigdef=DEFAULT_SIGNALS,
        )

    def _fork(self, config: Config) -> int:
        sys.stdout.flush()  # or both would write what is in there
        signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULT_SIGNALS)  # the child would run our handlers
        try:
            pid = os.fork()
            if pid == 0:
                self._begin(config)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFAULT_SIGNALS)
        return pid

    def _begin(self, config: Config) -> NoReturn:
        """Run the forked child: drop the supervisor's state, and run the module that argv names."""
        code = 1
        try:
            os.setpgid(0, 0)
            for descriptor, place in self._descriptors():
                os.dup2(descriptor, place)
            os.closerange(FIRST_OWN if self.secrets else SECRETS if self._sender else LINK, os.sysconf("SC_OPEN_MAX"))
            signal.set_wakeup_fd(-1)
            for number in DEFAULT_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFAULT_SIGNALS)
            os.environ.update(self._variables())
            module, *words = self._argv[3:]
            oneself.be_called(self.name, ["python", "-m", module, *words])
            regain()
            load(module, config)
            gc.enable()
            code = import_module(module).main([module, *words])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())  # as the interpreter does at the end of a process
        finally:
            exit_now(code)

    def reap(self) -> int:
        """Return the exit code, negative for a signal. Call it once the pidfd is readable."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self._unlink()
        self.pid, self.pidfd = 0, -1
        code = os.waitstatus_to_exitcode(status)
        if code != UNUSABLE and self.page["state"] >= READY:
            self.ever_ready = True
        self.false_starts = self.false_starts + 1 if self._work() == self._work_before else 0
        return code

    def _work(self) -> list[int]:
        """Return counters of which at least one moves with any work: frames read, or messages begun by sender."""
        return [self.page[name] for name in self.page.names if name == "frames" or name.startswith("taking.")]

    def schedule_restart(self, now: float) -> float:
        """Plan the next start; return the delay in seconds."""
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
        """Return whether it blocks inside the kernel, most likely at a disk, where no signal reaches it."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[0] == b"D"
        except OSError:
            return False

    def progress_age_s(self, monotonic_ns: int) -> float:
        """Return the seconds since the last turn of its loop, or since its start."""
        turned = max(self.page["progress_ns"], int(self.started_at * 1e9))
        return max(0, monotonic_ns - turned) / 1e9


@contextmanager
def signals_on_pipe(numbers: Sequence[int]) -> Iterator[int]:
    """Yield a descriptor that delivers one byte per signal received; ignored signals stay ignored."""
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


def description(code: int) -> str:
    """Return how a process ended, from its exit code."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
