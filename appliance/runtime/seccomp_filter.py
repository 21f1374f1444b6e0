"""The system calls that a process loses at the end of its start, as a program for seccomp(2).

The module is pure: numbers in, bytes out. It allows every call that it does not name. The needs of Python, ZeroMQ and
the C library differ from version to version, and an allow-list would have to guess them. The calls that none of them
needs are known. A refused call fails with EPERM, as for a user without the right, so no process dies of an attempt.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Role = Literal["supervisor", "capture", "worker", "feed", "recorder", "keeper", "files"]
Calls = dict[str, tuple[int, int | None]]  # name: number on x86-64, elsewhere; None: there is none
Program = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, k: struct sock_filter

X86_64 = 0xC000003E  # of linux/audit.h
GENERIC = (0xC00000B7, 0xC00000F3)  # arm64 and riscv64 share their numbers: asm-generic/unistd.h

# fmt: off
STARTS: Calls = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
}
NAMESPACES: Calls = {
    "unshare": (272, 97), "setns": (308, 268),
}
IDENTITY: Calls = {
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "setgroups": (116, 159), "capset": (126, 91),
}
OWNERSHIP: Calls = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "mknod": (133, None), "mknodat": (259, 33),
}
SIGNALS: Calls = {
    "tkill": (200, 130), "pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    # calls that stop, slow or move another process without a signal
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "process_mrelease": (448, 448), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "setpgid": (109, 154),
}
NEVER: Calls = {
    # other processes' memory and descriptors
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    # the tree of files
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "swapon": (167, 224), "swapoff": (168, 225),
    "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # the kernel itself, and the parts of it that are attacked most
    "bpf": (321, 280), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "syslog": (103, 116),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "personality": (135, 92), "uselib": (134, None), "modify_ldt": (154, None),
    "iopl": (172, None), "ioperm": (173, None), "vhangup": (153, 58), "acct": (163, 89), "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    # clocks and names of the machine
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162),
    # inter-process communication that no process here uses
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
}
# fmt: on

# Refused or not by their arguments.
SOCKET, SOCKETPAIR, MMAP, MPROTECT, PKEY_MPROTECT = (41, 198), (53, 199), (9, 222), (10, 226), (329, 288)
CLONE, CLONE3, IOCTL, PRCTL = (56, 220), (435, 435), (16, 29), (157, 167)
SIGNAL, TGKILL = (62, 129), (234, 131)  # kill(2): only oneself
# Limits (a processor time of none kills) and cores: only one's own.
PRLIMIT64, SCHED_SETAFFINITY, SCHED_SETSCHEDULER, FCNTL = (302, 261), (203, 122), (144, 119), (72, 25)

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17
SOCK_STREAM, SOCK_DGRAM, ANY = 1, 2, 0
FAMILIES: dict[str, Sequence[tuple[int, int]]] = {  # (family, kind of socket)
    "worker": [(AF_UNIX, ANY)],
    "recorder": [(AF_UNIX, ANY)],
    "keeper": [(AF_UNIX, ANY)],
    "files": [(AF_UNIX, ANY)],
    "file": [(AF_UNIX, ANY)],
    # Requests about an interface go through a datagram socket, names in a filter through DNS and netlink.
    "capture": [(AF_UNIX, ANY), (AF_PACKET, ANY), (AF_INET, SOCK_DGRAM), (AF_INET6, SOCK_DGRAM), (AF_NETLINK, ANY)],
    # netlink: the name of an interface in an endpoint.
    "feed": [(AF_UNIX, ANY), (AF_INET, ANY), (AF_INET6, ANY), (AF_NETLINK, ANY)],
}

PROT_WRITE, PROT_EXEC = 2, 4
CLONE_THREAD, CLONE_NEW = 0x10000, 0x7E020000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # put characters into a terminal, like typed ones
FIOSETOWN, SIOCSPGRP = 0x8901, 0x8902  # have the kernel signal another process when there is something to read
SCHED_BATCH = 3
F_SETOWN, F_SETSIG, F_SETOWN_EX = 8, 10, 15
PR_SET_DUMPABLE, PR_SET_MM, PR_SET_PTRACER = 4, 35, 0x59616D61

# -- instructions ------------------------------------------------------------------------------------------------------

_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
KILL, REFUSE, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def _end(verdict: int) -> Program:
    return [(_RETURN, 0, 0, verdict)]


_YES, _NO = _end(ALLOW), _end(REFUSE | errno.EPERM)


def _argument(number: int) -> Program:
    """Load the low half of an argument; the kernel reads no more of an int or of flags."""
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * number)]


def _when(test: int, value: int, then: Program, otherwise: Program) -> Program:
    """Branch on a test. Both branches end with a verdict."""
    return [(test, 0, len(then), value), *then, *otherwise]


def _one_of(values: Iterable[int]) -> Program:
    """Refuse these values of the loaded word."""
    program = _YES
    for value in values:
        program = _when(_EQUAL, value, _NO, program)
    return program


def _sockets(allowed: Sequence[tuple[int, int]]) -> Program:
    """Allow socket(family, kind, …) for these pairs; the kind is in its low four bits.

    Other families fail with EAFNOSUPPORT, an error that libraries expect.
    """
    program = no = _end(REFUSE | errno.EAFNOSUPPORT)
    for family, kind in allowed:
        right = [*_argument(1), (_AND, 0, 0, 0xF), *_when(_EQUAL, kind, _YES, no)] if kind else _YES
        program = _when(_EQUAL, family, right, program)
    return [*_argument(0), *program]


def _choose(leaves: Sequence[tuple[int, Program]]) -> Program:
    """Select the last leaf at or below the loaded number, by binary search."""
    if len(leaves) == 1:
        return leaves[0][1]
    middle = len(leaves) // 2
    below, above = _choose(leaves[:middle]), _choose(leaves[middle:])
    if len(below) > 255:
        raise ValueError("a jump over more than 255 instructions")
    return [(_AT_LEAST, len(below), 0, leaves[middle][0]), *below, *above]


class Rules(NamedTuple):
    """The rules of one process: calls by number."""

    refused: frozenset[int]
    special: dict[int, Program]


def rules(role: Role, architecture: int, *, live: bool, pid: int) -> Rules:
    """Return the rules for one process. Raises KeyError for an architecture without known numbers."""
    if architecture != X86_64 and architecture not in GENERIC:
        raise KeyError(f"architecture {architecture:#x}")

    def own(numbers: tuple[int, int | None]) -> int | None:
        return numbers[architecture != X86_64]

    groups = [NEVER] if role == "supervisor" else [NEVER, STARTS, NAMESPACES, IDENTITY, SIGNALS, OWNERSHIP]
    refused = frozenset(n for group in groups for numbers in group.values() if (n := own(numbers)) is not None)
    executable = [*_argument(2), *_when(_ANY_BIT, PROT_EXEC, _NO, _YES)]
    both = PROT_WRITE | PROT_EXEC
    mapped = [*_argument(2), (_AND, 0, 0, both), *_when(_EQUAL, both, _NO, _YES)]
    special: dict[tuple[int, int | None], Program] = {
        # Nothing that was writable may become code. Roles without a network have all the code that they will ever need.
        MMAP: executable if role in ("worker", "recorder", "keeper", "files") else mapped,
        MPROTECT: executable,
        PKEY_MPROTECT: executable,
        IOCTL: [*_argument(1), *_one_of([TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP])],
    }
    if role != "supervisor":
        own_only = _when(_EQUAL, 0, _YES, _when(_EQUAL, pid, _YES, _NO))
        threads_only = _when(_ANY_BIT, CLONE_NEW, _NO, _when(_ANY_BIT, CLONE_THREAD, _YES, _NO))
        special |= {
            CLONE: [*_argument(0), *threads_only],
            # Its flags lie in memory, where a filter cannot see them; the C library then takes clone.
            CLONE3: _end(REFUSE | errno.ENOSYS),
            PRCTL: [*_argument(0), *_one_of([PR_SET_DUMPABLE, PR_SET_MM, PR_SET_PTRACER])],
            SIGNAL: [*_argument(0), *_when(_EQUAL, pid, _YES, _NO)],
            TGKILL: [*_argument(0), *_when(_EQUAL, pid, _YES, _NO)],
            PRLIMIT64: [*_argument(0), *own_only],
            SCHED_SETAFFINITY: [*_argument(0), *own_only],
            # ZeroMQ sets the policy of each of its threads to what it is.
            SCHED_SETSCHEDULER: [*_argument(1), *_when(_EQUAL, 0, _YES, _when(_EQUAL, SCHED_BATCH, _YES, _NO))],
            FCNTL: [*_argument(1), *_one_of([F_SETOWN, F_SETSIG, F_SETOWN_EX])],
            SOCKET: _sockets(FAMILIES["file" if role == "capture" and not live else role]),
            SOCKETPAIR: _sockets([(AF_UNIX, ANY)]),
        }
    if role == "capture":
        special[IDENTITY["capset"]] = _YES  # drops the capabilities that opening the source needed
    return Rules(refused, {n: program for numbers, program in special.items() if (n := own(numbers)) is not None})


def program(rules: Rules, architecture: int) -> bytes:
    """Return the rules as instructions."""
    leaves: dict[int, Program] = {0: _YES}
    for number in sorted(rules.refused | rules.special.keys()):
        leaves[number] = rules.special.get(number, _NO)
        leaves.setdefault(number + 1, _YES)
    if architecture == X86_64:
        leaves[1 << 30] = _NO  # the same calls under the numbers of x32
    chosen = _choose(_merged(sorted(leaves.items(), key=lambda leaf: leaf[0])))
    native = [(_LOAD, 0, 0, _NUMBER), *chosen]
    instructions = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), *_end(KILL), *native]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _merged(leaves: Iterable[tuple[int, Program]]) -> list[tuple[int, Program]]:
    """Merge neighbours with the same verdict."""
    kept: list[tuple[int, Program]] = []
    for number, leaf in leaves:
        if not kept or kept[-1][1] is not leaf:
            kept.append((number, leaf))
    return kept
