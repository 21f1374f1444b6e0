"""A process that enters the sandbox of a role and then tries what it must not do; says what came of each as JSON.

usage: fenced.py ROLE RUN_DIR OUTSIDE   RUN_DIR has config.json and the page; OUTSIDE is a folder it has no business in.
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
import threading
from collections.abc import Callable
from pathlib import Path

from appliance.native.kernel_sandbox import ARCHITECTURE
from appliance.runtime import sandbox
from appliance.runtime import seccomp_filter as syscalls
from appliance.runtime.resolved_config import load_resolved
from appliance.stats.page import Page

libc = ctypes.CDLL(None, use_errno=True)
MADE_UP = 0x7FFF


def raw(*words: int | None) -> None:
    """A system call by number."""
    if libc.syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), "syscall")


def by_name(numbers: tuple[int, int | None], *words: int | None) -> Callable[[], None]:
    """A call to make later; where the machine has none it is one that no kernel knows."""
    number = numbers[ARCHITECTURE != syscalls.X86_64]
    return lambda: raw(MADE_UP if number is None else number, *words)


def make_executable() -> None:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "mprotect")


def connect_tcp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as out:
        out.connect(("127.0.0.1", 9))


def be_in_two_threads() -> None:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(1))
    thread.start()
    thread.join(60)  # a process of its own, which has no eventually.py
    assert seen == [1]


def talk_to_itself(own: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(own / "in"))
    listening.listen()
    socket.socket(socket.AF_UNIX).connect(str(own / "in"))


def kept_path(run_dir: Path) -> str:
    return load_resolved(run_dir).record.kept_path


def attempts(run_dir: Path, own: Path, outside: Path) -> dict[str, Callable[[], object]]:
    """Return the attempts by name, in the order in which they are made."""
    never = syscalls.NEVER
    return {
        "execve": lambda: os.execv("/bin/true", ["true"]),
        "execveat": by_name(syscalls.STARTS["execveat"], -1, 0, 0, 0, 0),
        "fork": os.fork,
        "clone a process": by_name(syscalls.CLONE, 17, 0, 0, 0, 0),
        "socket IPv4": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
        "socket IPv6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close(),
        "socket IPv4, high bits set": by_name(syscalls.SOCKET, 2 | 1 << 32, 1, 0),
        "socket packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "socket vsock": lambda: socket.socket(40, socket.SOCK_STREAM).close(),
        "connect by TCP": connect_tcp,
        "ptrace": lambda: raw(never["ptrace"][ARCHITECTURE != syscalls.X86_64], 16, os.getppid(), 0, 0),
        "read memory of others": by_name(never["process_vm_readv"], os.getppid(), 0, 0, 0, 0, 0),
        "map writable and executable": lambda: mmap.mmap(
            -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        ),
        "map executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "make executable": make_executable,
        "mount": by_name(never["mount"], None, None, None, 0, None),
        "bpf": by_name(never["bpf"], 0, None, 0),
        "load a module": by_name(never["init_module"], None, 0, None),
        "keyctl": by_name(never["keyctl"], 0, 0, 0, 0, 0),
        "perf_event_open": by_name(never["perf_event_open"], None, 0, -1, -1, 0),
        "userfaultfd": by_name(never["userfaultfd"], 1),
        "io_uring": by_name(never["io_uring_setup"], 1, None),
        "unshare": by_name(syscalls.NAMESPACES["unshare"], 0x10000000),
        "setns": by_name(syscalls.NAMESPACES["setns"], 0, 0),
        "set the clock": by_name(never["settimeofday"], None, None),
        "become root": lambda: os.setuid(0),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "signal another thread group": by_name(syscalls.TGKILL, os.getppid(), os.getppid(), 0),
        "be dumpable again": by_name(syscalls.PRCTL, syscalls.PR_SET_DUMPABLE, 1, 0, 0, 0),
        "type into the terminal": lambda: fcntl.ioctl(2, syscalls.TIOCSTI, b"x"),
        "read /etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "read /proc/1/status": lambda: Path("/proc/1/status").read_bytes(),
        "read outside": lambda: os.listdir(outside),
        "write outside": lambda: (outside / "made").write_bytes(b""),
        "chmod the configuration": lambda: (run_dir / "config.json").chmod(0o666),
        "write the configuration": lambda: (run_dir / "config.json").write_bytes(b"{}"),
        "make a file beside it": lambda: (run_dir / "made").write_bytes(b""),
        "make a folder": lambda: (own / "folder").mkdir(),
        "cut its page": lambda: os.truncate(own.with_suffix(".stats"), 0),
        "limit the parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0)),
        "starve the parent": lambda: os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0)),
        "be nice for the parent": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
        "pin the parent": lambda: os.sched_setaffinity(os.getppid(), {0}),
        "have the parent signalled": lambda: fcntl.fcntl(2, fcntl.F_SETOWN, os.getppid()),
        "make a file": lambda: (own / "made").write_bytes(b""),
        "make a device": by_name(syscalls.OWNERSHIP["mknodat"], -100, None, 0o600, 0),
        "make a link": lambda: (run_dir / "link").symlink_to("/etc/passwd"),
        "write the output": lambda: Path(load_resolved(run_dir).output.path).write_bytes(b""),
        "write in the folder of files": lambda: Path(load_resolved(run_dir).files.path, "made").write_bytes(b""),
        "write in the ring": lambda: Path(load_resolved(run_dir).record.path, "made").write_bytes(b""),
        "write in the folder of kept frames": lambda: Path(kept_path(run_dir), "made").write_bytes(b""),
        # what has to go on working
        "read the configuration": lambda: load_resolved(run_dir),
        "open a page": lambda: Page.open(next(run_dir.glob("*.stats"))),
        "be in two threads": be_in_two_threads,
        "limit itself": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "talk by a Unix socket": lambda: talk_to_itself(own),
        "signal itself": by_name(syscalls.TGKILL, os.getpid(), os.getpid(), 0),
    }


def outcome(attempt: Callable[[], object]) -> str:
    try:
        if attempt() == 0 and attempt is os.fork:
            os._exit(0)
    except OSError as fault:
        return errno.errorcode.get(fault.errno or 0, "?")
    return "done"


def main(role: syscalls.Role, run_dir: Path, outside: Path) -> None:
    config = load_resolved(run_dir)
    page = Page.open(next(run_dir.glob(f"{role}*.stats")))
    sandbox.enter(role, config, run_dir, page)
    tried = {name: outcome(attempt) for name, attempt in attempts(run_dir, run_dir / role, outside).items()}
    print(json.dumps(tried), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))  # type: ignore[arg-type]
