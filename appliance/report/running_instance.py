"""A running appliance seen from outside: its run directory and its pages. Nothing here writes to either.

Any user may start a process that looks like a child of an appliance. So a run is trusted only if its directory and
every file read in it belong to the current user, to root or to the user of its processes, and no other user may write
there. Nothing is mapped, and reads are bounded. Texts need `terminal.plain`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.config.errors import ConfigError
from appliance.config.schema import Config
from appliance.native.safe_files import Unusable
from appliance.runtime.paths import Paths, endpoint_in
from appliance.runtime.resolved_config import load_resolved
from appliance.stats.page import Page, PageError
from appliance.stats.snapshot import NONE, Snapshots

CHILDREN = (b"appliance.feed.process", b"appliance.capture.process")  # modules, followed by the run directory
LAST_SERVICE = 999  # the highest user number of a service (login.defs(5), SYS_UID_MAX)
TICKS_S = os.sysconf("SC_CLK_TCK")


class RunningInstance:
    """The pages of one run. Raises Unusable if none can be read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            _check_owners(directory)
            self.config: Config = load_resolved(directory)
            paths = Paths(directory)
            captures, workers = self.config.capture_count, self.config.worker_count
            self._captures = [_page(paths.capture_page(c)) for c in range(captures)]
            self._workers = [_page(paths.worker_page(w)) for w in range(workers)]
            self._feed, self._supervisor = _page(paths.feed_page), _page(paths.supervisor_page)
            self._recorder = _page(paths.recorder_page) if self.config.record.path else None
            self._files = _page(paths.files_page) if self.config.files.path else None
            self._keeper = _page(paths.keeper_page) if self.config.record.keeps else None
            self._since = paths.supervisor_page.stat(follow_symlinks=False).st_ctime
        except PermissionError as error:
            raise Unusable(
                f"--run {directory}: it belongs to another user; try again as that user or as root"
            ) from error
        except OSError as error:
            raise Unusable(f"--run {directory}: no run directory of an appliance: {error.strerror}") from error
        except (ConfigError, PageError) as error:
            raise Unusable(f"--run {directory}: {error}") from error

    def snapshots(self) -> Snapshots:
        """Return every page as it is now, read downstream first (stats.Pages)."""
        recorder = self._recorder.snapshot() if self._recorder else NONE
        files = self._files.snapshot() if self._files else NONE
        keeper = self._keeper.snapshot() if self._keeper else NONE
        feed = self._feed.snapshot()
        workers = [page.snapshot() for page in self._workers]
        captures = [page.snapshot() for page in self._captures]
        return Snapshots(captures, workers, feed, self._supervisor.snapshot(), recorder, files, keeper)

    @property
    def alive(self) -> bool:
        """Return whether its supervisor still runs."""
        return cpu_s(self._supervisor["pid"]) is not None

    @property
    def uptime_s(self) -> float:
        """Return the seconds since its run directory was prepared."""
        return max(0.0, time.time() - self._since)

    def endpoint(self, name: str) -> str:
        """Return the actual address of "feed", "replay" or "metrics"; "" if it is off."""
        try:
            return endpoint_in(self.directory, name)
        except OSError:
            return ""


def find(wanted: Path | None) -> RunningInstance:
    """Return the run in this directory, or the only one on this machine. Raises Unusable."""
    if wanted is not None:
        return RunningInstance(wanted)
    found = sorted(run_directories())
    if not found:
        raise Unusable("no running appliance was found; name its run directory with --run DIR")
    if len(found) > 1:
        raise Unusable(f"{len(found)} appliances run here; choose one: {run_options(found)}")
    return RunningInstance(found[0])


def run_options(found: Iterable[Path]) -> str:
    """Return the options that name these runs."""
    return " ".join(f"--run {path}" for path in found)


def run_directories() -> set[Path]:
    """Return the run directories of all appliances here, from the command lines of their children."""
    named = ((user, Path(os.fsdecode(words[1]))) for user, words in _command_lines())
    return {path for user, path in named if _belongs(path, user)}


def _belongs(directory: Path, user: int) -> bool:
    """Return whether the directory belongs to a process of this user, has a page of it, and has a trusted owner."""
    try:
        about, page = directory.lstat(), Paths(directory).feed_page.lstat()
    except OSError:
        return False
    known = about.st_uid in (0, os.geteuid())
    # root also accepts the users of services. Other users' runs need their name (--run).
    service = os.geteuid() == 0 and about.st_uid <= LAST_SERVICE
    whole = stat.S_ISDIR(about.st_mode) and stat.S_ISREG(page.st_mode)
    return whole and (known or service) and about.st_uid in (0, user) and page.st_uid == user


def _check_owners(directory: Path) -> None:
    """Raise Unusable if others than the owner of a run may write in its directory, or the owner is not trusted."""
    about = directory.stat()
    if about.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if about.st_mode & 0o022:
        raise Unusable(f"--run {directory}: others may write in it; a run directory belongs to its user alone")
    for path in (Paths(directory).config, *Paths(directory).pages()):
        owner = path.lstat().st_uid
        if owner != about.st_uid and about.st_uid != 0:
            raise Unusable(f"--run {directory}: {path.name} in it belongs to another user")


def _command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the user of each child of a run, and its command line from the name of its module on."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        for place, word in enumerate(words[:-1]):
            if (
                word in CHILDREN
                and words[place - 1] == b"-m"
                and words[place + 1].startswith(b"/")
                and _shares_network(entry)
            ):
                user = _user(entry)
                if user is not None:
                    yield user, words[place:]


def _user(process: str) -> int | None:
    """Return the user of a process. Its folder in /proc belongs to root because the process is undumpable."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(errors="replace").splitlines()
        return next(int(line.split()[2]) for line in lines if line.startswith("Uid:"))
    except (OSError, StopIteration, ValueError):
        return None


def _shares_network(process: str) -> bool:
    """Return whether the process is in our network namespace; True if we may not know."""
    try:
        return os.readlink(f"/proc/{process}/ns/net") == os.readlink("/proc/self/ns/net")
    except OSError:
        return True


def cpu_s(pid: int) -> float | None:
    """Return the seconds of processor time of a process; None if it has ended or is a zombie."""
    if not pid:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[11]) + int(fields[12])) / TICKS_S


def _page(path: Path) -> Page:
    return Page.open(path, writable=False)
