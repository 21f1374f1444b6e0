"""What a run has on disk before it begins: its directory, and a proof that its output can be written.

A run directory belongs to one instance: it holds a lock for as long as it lives, so it survives neither a crash of the
supervisor (the kernel drops the lock) nor a second instance started by mistake.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

PREFIX = "appliance-"
LOCK = "lock"
QUARANTINE = "quarantine"  # the only folder in it, which stays when there is something in it
SUN_PATH_MAX = 107  # bytes in sockaddr_un.sun_path, less the final NUL

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
