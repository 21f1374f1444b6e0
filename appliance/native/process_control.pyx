# cython: language_level=3
"""Controls of a process over itself: its name, its allocator, its environment, its parent-death signal.

Thin functions on prctl(2), mallopt(3) and proc_pid_cmdline(5); Python has none of them, and ctypes is slow to load.
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

LONGEST_NAME = 15  # bytes of the name that top and ps show
ARGUMENTS, ENVIRONMENT = 45, 47


def place(int field):
    """Return (begin, end) of the arguments or the environment in memory; (0, 0) if the kernel does not tell."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    begin, end = int(fields[field]), int(fields[field + 1])
    return (begin, end) if 0 < begin < end else (0, 0)


def take_variable(str name not None):
    """Return and remove a variable of the environment, "" if there is none. Forked children do not see it either."""
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
    """Keep freed memory in the process.

    glibc returns a freed message of a mebibyte to the system, and gets the next one zeroed page by page. Keeping it
    halves the system time of a link. The links' queues bound the memory kept.
    """
    mallopt(M_MMAP_THRESHOLD, 256 << 20)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    mallopt(M_TOP_PAD, 16 << 20)


def die_with_parent():
    """Have the kernel kill this process when its parent dies. A change of user clears this."""
    prctl(PR_SET_PDEATHSIG, <unsigned long>SIGKILL)


def be_called(str name not None, words):
    """Set the name of this process for ps and top, and as many words as its command line has room for.

    For a forked process, which has its parent's command line.
    """
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
