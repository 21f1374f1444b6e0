"""What the supervisor owns of the operating system: the run directory and its child processes.

A run directory belongs to one instance: it holds a lock for as long as it lives, so it survives neither a crash of the
supervisor (the kernel drops the lock) nor a second instance started by mistake. The first children are forked: all that
they have in common is loaded by then, and a file of a second would else wait for it a fifth of that. One that starts
again is executed, from nothing: whoever crashed it learned nothing of where things lie in its memory, and by then we
may have threads. Their standard input is a pipe that nobody writes to: it ends when we die.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
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

PREFIX = "appliance-"
LOCK = "lock"
QUARANTINE = "quarantine"  # the only folder in it, which stays when there is something in it
UNUSABLE = 2  # the exit code of a process that cannot do what the configuration asks; it has said why
SUN_PATH_MAX = 107  # bytes in sockaddr_un.sun_path, less the final NUL

FIRST_DELAY_S = 1.0
LAST_DELAY_S = 16.0
STEADY_S = 10.0  # a process that ran this long has earned an immediate restart again
DEFAULT_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE]  # what each child starts with
FIRST_OWN = 3  # descriptor; those below are the child's input and outputs
LONGEST_LOOK_S = 2.0  # between two looks at a process, as far as its stillness is concerned

STALE = (
    "shard-*",
    "frames-*",
    "events-*",
    "*.stats",
    "*.endpoint",
    "events",
    "epochs",
    "key",
    "config.json",
)  # what an earlier run left


class Unusable(Exception):
    """The run cannot start as asked. The text is for a person and says what to change; exit code 2."""


# -- run directory ---------------------------------------------------------------------------------------------------


class RunDirectory:
    """A private directory (0700) with the sockets and stats pages of one run; locked until `close`."""

    def __init__(self, path: Path, lock: int, made: bool) -> None:
        self.path = path
        self._lock = lock
        self._made = made

    @classmethod
    def open(cls, wanted: str) -> RunDirectory:
        """Takes `wanted`, or makes a new one on the best file system when it is empty. Raises Unusable."""
        if wanted:
            return cls._take(Path(wanted).absolute())
        base = base_directory()
        _sweep(base)
        while True:
            path = Path(_make_private(base))
            lock = _lock(path)
            if lock is not None:
                return cls(path, lock, made=True)

    @classmethod
    def _take(cls, path: Path) -> RunDirectory:
        longest = len(os.fsencode(path / "shard-1000"))
        if longest > SUN_PATH_MAX:
            raise Unusable(
                f"--run-dir {path}: {longest - SUN_PATH_MAX} bytes too long a path for sockets; choose a shorter one"
            )
        made = not path.exists()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock(path)
        except OSError as error:
            raise Unusable(f"--run-dir {path}: {error.strerror}; choose a directory you may write to") from error
        if lock is None:
            raise Unusable(
                f"--run-dir {path}: another instance{_owner(path)} is running in it; stop it or choose another"
            )
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
        for pattern in STALE:
            for stale in path.glob(pattern):
                stale.unlink(missing_ok=True)
        return cls(path, lock, made=made)

    def close(self) -> None:
        """Gives the lock back, and removes the directory when `open` made it."""
        if self._made:
            _remove(self.path)
        os.close(self._lock)


def base_directory() -> Path:
    """Where run directories are made. Memory before disk: every turn of every loop writes to the pages."""
    memory = _memory_mounts()
    wanted = ["/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]
    usable = [place for place in wanted if 0 < len(place) < 60 and os.access(place, os.W_OK | os.X_OK)]
    for place in usable:
        if any(place == mount or place.startswith(f"{mount}/") for mount in memory):
            return Path(place)
    if usable:
        return Path(usable[0])
    import tempfile

    return Path(tempfile.gettempdir())


def _memory_mounts() -> list[str]:
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            fields = [line.split(" ", 3) for line in mounts]
    except OSError:
        return []
    return [field[1] for field in fields if field[2] in ("tmpfs", "ramfs")]


def _make_private(base: Path) -> str:
    while True:
        path = base / f"{PREFIX}{os.urandom(4).hex()}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise Unusable(f"no run directory under {base}: {error.strerror}; name one with --run-dir") from error
        return str(path)


def _lock(path: Path) -> int | None:
    """The descriptor that holds the lock, or None when another process does (or removed the directory meanwhile)."""
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if os.fstat(lock).st_nlink == 0:
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _owner(path: Path) -> str:
    try:
        return f" (process {int((path / LOCK).read_text())})"
    except (OSError, ValueError):
        return ""


def _remove(path: Path) -> None:
    """Removes a run directory. Loading shutil for this would cost a short run 5 ms."""
    try:
        for entry in os.listdir(path):
            if entry != QUARANTINE:
                os.unlink(path / entry)
        if (path / QUARANTINE).exists():
            (path / QUARANTINE).rmdir()
        path.rmdir()
    except OSError:
        pass  # something is in quarantine, or somebody else put something there: theirs to remove


def _sweep(base: Path) -> None:
    """Removes what killed supervisors left: our own directories whose lock nobody holds."""
    for path in base.glob(f"{PREFIX}*"):
        try:
            about = path.lstat()
            ours = about.st_uid == os.geteuid() or str(base) == "/run"  # run.user's; none but root makes any there
            if not ours or not stat.S_ISDIR(about.st_mode):
                continue
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


# -- children --------------------------------------------------------------------------------------------------------


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


# -- output ----------------------------------------------------------------------------------------------------------


def prepare_output(path: str, *, replace: bool) -> None:
    """Proves before anything starts that events can be written there; empties it when `replace`. Raises Unusable."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return  # not opened: the reader of a named pipe would take our close for the end
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if replace else 0), 0o644))
    except OSError as error:
        raise Unusable(f"-o {path}: {error.strerror}") from error


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
