"""The filter of system calls, run instruction by instruction as the kernel does, and its numbers."""

from __future__ import annotations

import errno
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator

import pytest
from eventually import PATIENCE_S

from appliance.runtime import seccomp_filter as syscalls
from appliance.runtime.seccomp_filter import ALLOW, GENERIC, KILL, REFUSE, X86_64, Role

ROLES: tuple[Role, ...] = ("supervisor", "capture", "worker", "feed")
EPERM = REFUSE | errno.EPERM
CAPSET = syscalls.IDENTITY["capset"]
EVERY = (
    {
        name: numbers
        for group in ("STARTS", "NAMESPACES", "IDENTITY", "OWNERSHIP", "SIGNALS", "NEVER")
        for name, numbers in getattr(syscalls, group).items()
    }
    | {
        "kill": syscalls.SIGNAL,
    }
    | {
        name.lower(): getattr(syscalls, name)
        for name in (
            "SOCKET",
            "SOCKETPAIR",
            "MMAP",
            "MPROTECT",
            "PKEY_MPROTECT",
            "CLONE",
            "CLONE3",
            "IOCTL",
            "PRCTL",
            "TGKILL",
            "PRLIMIT64",
            "SCHED_SETAFFINITY",
            "SCHED_SETSCHEDULER",
            "FCNTL",
        )
    }
)


def verdict(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Return the verdict of a program on a system call."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, *[0] * (6 - len(arguments))))
    code = list(struct.iter_unpack("=HBBI", program))
    at, loaded = 0, 0
    while True:
        what, yes, no, k = code[at]
        at += 1
        if what == 0x20:
            (loaded,) = struct.unpack_from("=I", data, k)
        elif what == 0x54:
            loaded &= k
        elif what == 0x06:
            return int(k)
        else:
            true = {0x15: loaded == k, 0x35: loaded >= k, 0x45: bool(loaded & k)}[what]
            at += yes if true else no


def built(role: Role, architecture: int = X86_64, *, live: bool = True) -> bytes:
    return syscalls.program(syscalls.rules(role, architecture, live=live, pid=77), architecture)


@pytest.mark.parametrize("architecture", [X86_64, *GENERIC])
@pytest.mark.parametrize("role", ROLES)
def test_a_call_is_refused_when_it_is_named_and_only_then(role: Role, architecture: int) -> None:
    rules = syscalls.rules(role, architecture, live=True, pid=77)
    program = syscalls.program(rules, architecture)
    for number in range(600):
        if (role, number) == ("capture", CAPSET[architecture != X86_64]):
            assert verdict(program, architecture, number) == ALLOW
        elif number not in rules.special:
            expected = EPERM if number in rules.refused else ALLOW
            assert verdict(program, architecture, number) == expected, number


@pytest.mark.parametrize("role", ROLES)
def test_every_jump_lands_inside(role: Role) -> None:
    code = list(struct.iter_unpack("=HBBI", built(role)))
    for at, (what, yes, no, _) in enumerate(code):
        assert what == 0x06 or at + 1 + max(yes, no) < len(code)


@pytest.mark.parametrize("role", ROLES)
def test_other_numbers_for_the_same_calls_are_no_way_round(role: Role) -> None:
    program = built(role)
    assert verdict(program, 0x40000003, 11) == KILL  # 32 bits
    assert verdict(program, X86_64, 0x40000000 | 1) == EPERM  # x32


def families(program: bytes, kind: int) -> set[int]:
    return {family for family in range(64) if verdict(program, X86_64, 41, family, kind) == ALLOW}


def test_families_of_sockets() -> None:
    assert families(built("worker"), 1) == {1}
    assert families(built("capture", live=False), 2) == {1}
    assert families(built("feed"), 1 | 0o2000000) == {1, 2, 10, 16}  # the kind with SOCK_CLOEXEC
    assert families(built("capture"), 1) == {1, 16, 17}
    assert families(built("capture"), 2 | 0o2000000) == {1, 2, 10, 16, 17}
    assert families(built("supervisor"), 3) == set(range(64))
    assert (
        verdict(built("worker"), X86_64, 41, 1 << 32 | 2, 1) == REFUSE | errno.EAFNOSUPPORT
    )  # the kernel looks at the low half


def test_memory_is_writable_or_executable() -> None:
    worker, feed = built("worker"), built("feed")
    assert [verdict(feed, X86_64, 9, 0, 4096, prot) for prot in (1, 3, 5, 7)] == [ALLOW, ALLOW, ALLOW, EPERM]
    assert [verdict(worker, X86_64, 9, 0, 4096, prot) for prot in (1, 3, 5, 7)] == [ALLOW, ALLOW, EPERM, EPERM]
    assert [verdict(feed, X86_64, 10, 0, 4096, prot) for prot in (1, 3, 5, 7)] == [ALLOW, ALLOW, EPERM, EPERM]


def test_threads_but_no_processes() -> None:
    program = built("feed")
    assert verdict(program, X86_64, 56, 0x3D0F00) == ALLOW  # as pthread_create(3)
    assert verdict(program, X86_64, 56, 17) == EPERM  # as fork(2)
    assert verdict(program, X86_64, 56, 0x3D0F00 | 0x10000000) == EPERM  # a user namespace
    assert verdict(program, X86_64, 435) == REFUSE | errno.ENOSYS
    assert verdict(built("supervisor"), X86_64, 56, 17) == ALLOW


def test_a_signal_to_itself_only() -> None:
    for call in (62, 234):
        assert [verdict(built("worker"), X86_64, call, pid) for pid in (77, 78, 1, 0)] == [ALLOW, EPERM, EPERM, EPERM]


def test_no_filter_for_a_machine_whose_numbers_are_not_known() -> None:
    with pytest.raises(KeyError):
        syscalls.rules("worker", 0x80000016, live=True, pid=1)


def numbers_in(header: str) -> Iterator[tuple[str, int]]:
    words = ["gcc", "-E", "-dM", "-D__ARCH_WANT_SYS_CLONE3", "-include", header, "-x", "c", "/dev/null"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if done.returncode:
        pytest.skip(f"{header} is not installed")
    for name, number in re.findall(r"^#define __NR(?:3264)?_(\w+) (\d+)$", done.stdout, re.M):
        yield name, int(number)


@pytest.mark.parametrize(("column", "header"), [(0, "asm/unistd_64.h"), (1, "asm-generic/unistd.h")])
def test_numbers_are_those_of_the_headers(column: int, header: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("the program gcc is not installed")
    known = dict(numbers_in(header))
    ours = {name: numbers[column] for name, numbers in EVERY.items()}
    young = {name for name, number in ours.items() if number is not None and number > max(known.values())}
    assert {name: number for name, number in ours.items() if name not in young} == {
        name: known.get(name) for name in ours if name not in young
    }
