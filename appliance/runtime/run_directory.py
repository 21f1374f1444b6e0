"""The run directory of an instance: its lock, its folders, and the removal of stale ones.

The instance holds a lock until it ends. The kernel drops the lock after a crash of the supervisor, and the lock refuses
a second instance that starts by mistake.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from appliance import __version__
from appliance.config.address import LONGEST_SOCKET_PATH
from appliance.native.safe_files import (
    OUTPUT_MODE,
    PRIVATE,
    STRANGE,
    Unusable,
    remove,
    remove_all,
    write_whole,
)
from appliance.runtime.paths import (
    ANNOUNCED,
    FOLDERS,
    INSIDE,
    KEY,
    LOCK,
    LONGEST_SOCKET,
    QUARANTINE,
    STALE,
    VERSION,
    announcement,
    is_quarantine_file,
    process_name,
)

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

PREFIX = "appliance-"
KEY_BYTES = 16


def unusable(path: Path, error: OSError) -> Unusable:
    """Return the error for a run directory in which a write failed."""
    advice = "choose a directory you may write to"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "make room there (df; in a container: --shm-size), or choose another directory"
    return Unusable(f"--run-dir {path}: {error.strerror}; {advice}")


class RunDirectory:
    """A private directory (0700) with the sockets and stats pages of one run, locked until `close`.

    Only the owner writes in it, so it holds no link of another user. Each process of the run writes in a folder of its
    own there (native/safe_files.py). Files in those folders are opened by descriptor only.
    """

    def __init__(self, path: Path, folder: int, lock: int, made: bool) -> None:
        self.path = path
        self.folder = folder  # a descriptor
        self._lock = lock
        self._made = made
        self._gid: int | None = None  # of the group that may read the run

    @classmethod
    def open(cls, wanted: str) -> RunDirectory:
        """Open `wanted`, or make a directory on the best file system if it is empty. Raises Unusable."""
        if wanted:
            return cls._take(Path(wanted).absolute())
        base = base_directory()
        _sweep(base)
        while True:
            path = Path(_make_private(base))
            folder = os.open(path, FOLDER)
            try:
                lock = _lock(folder)
            except OSError as error:
                _remove(path, folder)
                os.close(folder)
                raise unusable(base, error) from error
            if lock is not None:
                return cls(path, folder, lock, made=True)
            os.close(folder)

    @classmethod
    def _take(cls, path: Path) -> RunDirectory:
        longest = len(os.fsencode(path / LONGEST_SOCKET))
        excess = longest - LONGEST_SOCKET_PATH
        if excess > 0:
            raise Unusable(f"--run-dir {path}: {excess} bytes too long a path for sockets; choose a shorter one")
        made = not path.exists()
        folder = -1
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(path, FOLDER)
            _own(folder)
            lock = _lock(folder)
            if lock is None:
                raise Unusable(
                    f"--run-dir {path}: another instance{_owner(folder)} is running in it; stop it or choose another"
                )
            for name in os.listdir(folder):
                if re.fullmatch(FOLDERS, name):
                    _clear(folder, name)
                elif re.fullmatch(STALE, name):
                    remove(folder, name)
        except BaseException as error:
            if folder >= 0:
                os.close(folder)
            if isinstance(error, OSError):
                raise unusable(path, error) from error
            raise
        return cls(path, folder, lock, made=made)

    def furnish(
        self, processes: Sequence[str], *, files: Sequence[int], shown: int, user: tuple[int, int] | None
    ) -> None:
        """Make the files and folders that the processes need at their start.

        files: descriptors of the pages that the processes write. shown: the page that we write and they may read. user:
        their (uid, gid) if it is not ours. Raises OSError.
        """
        self.write(VERSION, __version__.encode())
        self.write(KEY, os.urandom(KEY_BYTES))
        owned = [os.open(KEY, os.O_RDONLY | STRANGE, dir_fd=self.folder)]
        for name in processes:
            os.mkdir(name, PRIVATE, dir_fd=self.folder)
            owned.append(os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=self.folder))
        for name in ANNOUNCED:
            os.symlink(*announcement(name), dir_fd=self.folder)
        if user:
            for descriptor in (*owned, *files):
                os.fchown(descriptor, *user)
            for descriptor in (self.folder, shown):
                os.fchown(descriptor, -1, user[1])
            os.fchmod(shown, OUTPUT_MODE)
            os.fchmod(self.folder, PRIVATE | 0o050)
            self._gid = user[1]
        for descriptor in owned:
            os.close(descriptor)

    def write(self, name: str, content: bytes) -> None:
        """Replace a file in the directory. Raises OSError."""
        write_whole(self.folder, name, content, mode=0o600 if self._gid is None else OUTPUT_MODE, gid=self._gid)

    def quarantine(self, workers: int, limit: int, spare: str = "") -> None:
        """Collect quarantined batches from the workers' folders, and keep the newest, at most `limit`.

        spare: a file that stays in any case, because the run reads it. A worker may leave any file in its folder; files
        that do not belong to it are removed.
        """
        with suppress(FileExistsError):
            os.mkdir(QUARANTINE, PRIVATE, dir_fd=self.folder)
        kept = os.open(QUARANTINE, FOLDER | os.O_NOFOLLOW, dir_fd=self.folder)
        try:
            for worker in range(workers):
                with suppress(OSError):
                    _take_quarantined(self.folder, kept, process_name("worker", worker))
            known = sorted(os.listdir(kept), key=lambda name: _born(kept, name))
            for name in known[: max(0, len(known) - limit)]:
                if not _is_same(kept, name, spare):
                    remove(kept, name)
        finally:
            os.close(kept)
        with suppress(OSError):
            os.rmdir(QUARANTINE, dir_fd=self.folder)  # it is empty

    def close(self) -> None:
        """Release the lock, and remove the directory if `open` made it."""
        if self._made:
            _remove(self.path, self.folder)
        os.close(self.folder)
        os.close(self._lock)


def _take_quarantined(home: int, kept: int, worker: str) -> None:
    theirs = os.open(worker, FOLDER | os.O_NOFOLLOW, dir_fd=home)
    try:
        for name in os.listdir(theirs):
            if not is_quarantine_file(worker, name):
                continue
            os.rename(name, name, src_dir_fd=theirs, dst_dir_fd=kept)
            about = os.stat(name, dir_fd=kept, follow_symlinks=False)
            if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
                remove(kept, name)
    finally:
        os.close(theirs)


def _is_same(folder: int, name: str, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.stat(path))
    except (OSError, ValueError):
        return False


def _born(folder: int, name: str) -> int:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns


def _clear(home: int, name: str) -> None:
    """Remove the folder of a process of an earlier run.

    Anything else gets another name, and so does a folder with it.
    """
    with suppress(OSError):
        folder = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=home)
        for inner in os.listdir(folder):
            if re.fullmatch(INSIDE, inner):
                with suppress(OSError):
                    os.unlink(inner, dir_fd=folder)
        os.close(folder)
        os.rmdir(name, dir_fd=home)
        return
    os.rename(name, f"{name}.{os.urandom(4).hex()}", src_dir_fd=home, dst_dir_fd=home)


def _own(folder: int) -> None:
    """Make this user the only one with access to a directory. Raises OSError."""
    about = os.fstat(folder)
    if about.st_uid != os.geteuid():
        os.fchown(folder, os.geteuid(), -1)  # only root may; the error of another user names the fault
    if about.st_mode & 0o077:
        os.fchmod(folder, PRIVATE)


def base_directory() -> Path:
    """Return the directory for new run directories.

    Memory comes before disk, because every loop turn writes to the pages.
    """
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


def _lock(folder: int) -> int | None:
    """Return the descriptor that holds the lock; None if another process holds it or removed the directory."""
    while True:
        try:
            lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | STRANGE, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise
            remove(folder, LOCK)  # a link, a device or a folder is in its place
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        about = os.fstat(lock)
        if about.st_nlink == 0:
            os.close(lock)
            return None
        if about.st_nlink != 1 or about.st_uid != os.geteuid() or not stat.S_ISREG(about.st_mode):
            os.close(lock)
            remove(folder, LOCK)  # it may be a hard link to another user's file
            continue
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        return lock


def _owner(folder: int) -> str:
    try:
        lock = os.open(LOCK, os.O_RDONLY | STRANGE, dir_fd=folder)
    except OSError:
        return ""
    try:
        return f" (process {int(os.read(lock, 20))})"
    except (OSError, ValueError):
        return ""
    finally:
        os.close(lock)


def _remove(path: Path, folder: int) -> None:
    """Remove a run directory, which is open. Importing shutil for this would cost a short run 5 ms."""
    try:
        remove_all(folder, keep=frozenset({QUARANTINE}))
        with suppress(FileNotFoundError):
            os.rmdir(QUARANTINE, dir_fd=folder)
        path.rmdir()
    except OSError:
        pass  # the quarantine is not empty, or another program left files there: their owner removes them


def _sweep(base: Path) -> None:
    """Remove the directories of killed supervisors: directories of ours without a held lock."""
    for path in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            folder = os.open(path, FOLDER | os.O_NOFOLLOW)
            try:
                # In /run only root makes directories; one of run.user there comes from an earlier version.
                if os.fstat(folder).st_uid == os.geteuid() or str(base) == "/run":
                    _sweep_one(path, folder)
            finally:
                os.close(folder)


def _sweep_one(path: Path, folder: int) -> None:
    lock = os.open(LOCK, os.O_RDWR | STRANGE, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path, folder)
    finally:
        os.close(lock)
