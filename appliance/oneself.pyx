# cython: language_level=3
"""What a process does to itself before it begins: its name, the memory it keeps, whom it does not outlive.

Thin functions on prctl(2), mallopt(3) and proc_pid_cmdline(5), which Python has not, and ctypes is slow to load.
"""
from libc.stdlib cimport getenv
from libc.string cimport memcpy, memset, strlen

import os

cdef extern from "<malloc.h>" nogil:
    int mallopt(int what, int value)
    int M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long argument)
    int PR_SET_NAME, PR_SET_PDEATHSIG

cdef extern from "<signal.h>" nogil:
    int SIGKILL

LONGEST_NAME = 15   # bytes of what top and ps call a process
ARGUMENTS, ENVIRONMENT = 45, 47     # places in /proc/self/stat behind the name: where each begins; behind it, where it ends


def place(int field):
    """(begin, end) in the memory of this process of what it was started with; (0, 0) where the kernel does not say."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    begin, end = int(fields[field]), int(fields[field + 1])
    return (begin, end) if 0 < begin < end else (0, 0)


def take_variable(str name not None):
    """The value of a variable of the environment, "" if there is none. It is not there any more, nor in a forked child."""
    cdef bytes known = os.fsencode(name)
    cdef unsigned long begin, end
    cdef unsigned long at = <unsigned long>getenv(known)
    value = os.environ.pop(name, "")
    begin, end = place(ENVIRONMENT)
    if begin <= at < end:
        at -= len(known) + 1
        memset(<void*>at, 0, strlen(<char*>at))
    return value


def keep_memory():
    """What is freed stays in the process.

    glibc gives a message of a mebibyte back to the system when it is freed and asks for it again, zeroed page by page,
    for the next one: keeping it halves the system time of a link. The links' queues bound what is kept."""
    mallopt(M_MMAP_THRESHOLD, 256 << 20)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    mallopt(M_TOP_PAD, 16 << 20)


def die_with_parent():
    """The kernel kills this process when its parent dies. It forgets that over a change of user."""
    prctl(PR_SET_PDEATHSIG, <unsigned long>SIGKILL)


def be_called(str name not None, words):
    """How ps and top show this process: its name, and as many of the words as its own command line has room for.

    For a process that was forked, and had its parent's command line."""
    cdef bytes short = os.fsencode(name)[:LONGEST_NAME]
    cdef bytes line = b""
    cdef unsigned long start, end
    prctl(PR_SET_NAME, <unsigned long><const char*>short)
    start, end = place(ARGUMENTS)
    if start == end:
        return
    for word in words:
        if len(line) + len(os.fsencode(word)) + 1 > end - start:
            break
        line += os.fsencode(word) + b"\0"
    memset(<void*>start, 0, end - start)
    memcpy(<void*>start, <const char*>line, len(line))
