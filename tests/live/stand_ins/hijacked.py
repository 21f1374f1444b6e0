"""The appliance with a worker 0 that is in a stranger's hands once it is fenced in:  hijacked.py run …

It tries what would harm the others, leaves what came of each attempt in its folder, and goes on working.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

RESULT = "attempts"
libc = ctypes.CDLL(None, use_errno=True)


def appliance() -> None:
    from appliance.cli import main as cli
    from appliance.supervisor import children

    children.MODULES["worker"] = "hijacked"
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ["PYTHONPATH"]])
    cli.main()


def raw(number: int, *words: int) -> None:
    """A system call of x86-64."""
    if libc.syscall(number, *words) < 0:
        raise OSError(ctypes.get_errno(), "syscall")


def opened(path: Path, flags: int) -> None:
    os.close(os.open(path, flags))


def map_for_writing(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    mmap.mmap(descriptor, 0, access=mmap.ACCESS_WRITE)


def open_again_for_writing(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    opened(Path(f"/proc/self/fd/{descriptor}"), os.O_RDWR)


def replace(path: Path, own: Path) -> None:
    (own / "mine").write_bytes(b"{}")
    (own / "mine").rename(path)


def bind(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(str(path))


Attempt = Callable[[], object]


def on_files(run_dir: Path, own: Path) -> Iterator[tuple[str, Attempt]]:
    """Everything in the run directory that is another's."""
    others = [path for path in run_dir.iterdir() if path not in (own, own.with_suffix(".stats"))]
    folders = [path for path in others if path.is_dir()]
    inside = [path for folder in folders for path in folder.iterdir()]
    for path in (*others, *inside):
        name = path.relative_to(run_dir)
        if path.is_file() and not path.is_symlink():
            yield f"write {name}", lambda path=path: opened(path, os.O_RDWR)
            yield f"empty {name}", lambda path=path: opened(path, os.O_WRONLY | os.O_TRUNC)
            yield f"cut {name}", lambda path=path: os.truncate(path, 0)
            yield f"map {name}", lambda path=path: map_for_writing(path)
            yield f"open {name} again", lambda path=path: open_again_for_writing(path)
        if not path.is_dir():
            yield f"remove {name}", lambda path=path: path.unlink()
            yield f"replace {name}", lambda path=path: replace(path, own)
            yield f"link {name}", lambda path=path: os.link(path, own / "linked")
    for folder in (run_dir, *folders):
        name = folder.relative_to(run_dir)
        yield f"make a file in {name}", lambda folder=folder: (folder / "made").write_bytes(b"")
        yield f"make a socket in {name}", lambda folder=folder: bind(folder / "bound")
        yield f"make a link in {name}", lambda folder=folder: (folder / "link").symlink_to("/etc/passwd")
    for folder in folders:
        yield f"rename {folder.name}", lambda folder=folder: folder.rename(own / "taken")
    page = own.with_suffix(".stats")
    yield "cut its page", lambda: os.truncate(page, 0)
    yield "empty its page", lambda: opened(page, os.O_WRONLY | os.O_TRUNC)
    yield "remove its page", page.unlink


def on_processes(pids: dict[str, int]) -> Iterator[tuple[str, Attempt]]:
    none = resource.RLIM_INFINITY
    for name, pid in pids.items():
        yield f"limit {name}", lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0))
        yield f"look at the limits of {name}", lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_CPU)
        yield f"unlimit {name}", lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_CORE, (none, none))
        yield f"kill {name}", lambda pid=pid: os.kill(pid, 0)
        yield f"tkill {name}", lambda pid=pid: raw(200, pid, 0)
        yield f"tgkill {name}", lambda pid=pid: raw(234, pid, pid, 0)
        yield f"queue a signal for {name}", lambda pid=pid: raw(129, pid, 0, 0)
        yield f"signal {name} by pidfd", lambda pid=pid: raw(424, os.pidfd_open(pid), 0, 0, 0)
        yield f"take a descriptor of {name}", lambda pid=pid: raw(438, os.pidfd_open(pid), 1, 0)
        yield f"trace {name}", lambda pid=pid: raw(101, 16, pid, 0, 0)
        yield f"read memory of {name}", lambda pid=pid: raw(310, pid, 0, 0, 0, 0, 0)
        yield f"write memory of {name}", lambda pid=pid: raw(311, pid, 0, 0, 0, 0, 0)
        yield f"open memory of {name}", lambda pid=pid: opened(Path(f"/proc/{pid}/mem"), os.O_RDWR)
        yield f"open files of {name}", lambda pid=pid: opened(Path(f"/proc/{pid}/fd/1"), os.O_WRONLY)
        yield f"offer {name} to the killer", lambda pid=pid: opened(Path(f"/proc/{pid}/oom_score_adj"), os.O_WRONLY)
        yield f"starve {name}", lambda pid=pid: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        yield f"be nice for {name}", lambda pid=pid: os.setpriority(os.PRIO_PROCESS, pid, 19)
        yield f"pin {name}", lambda pid=pid: os.sched_setaffinity(pid, {0})
        yield f"move the pages of {name}", lambda pid=pid: raw(256, pid, 0, 0, 0)
        yield f"have {name} signalled", lambda pid=pid: fcntl.fcntl(2, fcntl.F_SETOWN, pid)
    yield "signal everybody", lambda: os.kill(-1, 0)
    yield "signal its group", lambda: os.kill(0, 0)
    yield "choose a signal", lambda: fcntl.fcntl(2, fcntl.F_SETSIG, 9)


def outcome(attempt: Attempt) -> str:
    try:
        attempt()
    except OSError as fault:
        return errno.errorcode.get(fault.errno or 0, "?")
    return "done"


def attack(run_dir: Path, own: Path) -> None:
    from appliance.stats.page import Page

    names = ("worker-1", "capture-0", "feed", "supervisor")
    pids = {name: Page.open(run_dir / f"{name}.stats", writable=False)["pid"] for name in names}
    came = {name: outcome(attempt) for name, attempt in (*on_processes(pids), *on_files(run_dir, own))}
    (own / f"{RESULT}.part").write_text(json.dumps(came))
    (own / f"{RESULT}.part").rename(own / RESULT)


def main(argv: list[str]) -> int:
    """The worker."""
    from appliance.stats.names import READY
    from workers.process import worker as room

    run_dir, own = Path(argv[1]), Path(argv[1]) / f"worker-{argv[2]}"

    class Hijacked(room.Worker):
        def _idle(self) -> None:
            from appliance.stats.page import Page

            begun = all(Page.open(path, writable=False)["state"] >= READY for path in run_dir.glob("*.stats"))
            if argv[2] == "0" and begun and not (own / RESULT).exists():
                attack(run_dir, own)
            super()._idle()

    room.Worker = Hijacked  # type: ignore[misc]
    return room.main(argv)


if __name__ == "__main__":
    if os.path.isdir(sys.argv[1]):
        sys.exit(main(sys.argv))
    appliance()
