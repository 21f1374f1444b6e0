# cython: language_level=3
"""The kernel's fences around a process, as thin functions: prctl(2), capset(2), seccomp(2), landlock(7), unshare(2).

A fence holds until the process ends and cannot be undone. Every function raises OSError when the kernel refuses. This
module holds no policy; runtime/sandbox.py decides which process gets which fence.
"""
from libc.errno cimport EBADFD, errno
from libc.stdint cimport uint32_t, uint64_t

import os

cdef extern from *:
    """
    #include <linux/audit.h>
    #include <linux/capability.h>
    #include <linux/filter.h>
    #include <linux/seccomp.h>
    #include <sched.h>
    #include <stdint.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    #if defined(__x86_64__) && !defined(__ILP32__)
    #define NATIVE_ARCHITECTURE AUDIT_ARCH_X86_64
    #elif defined(__aarch64__) && !defined(__AARCH64EB__)
    #define NATIVE_ARCHITECTURE AUDIT_ARCH_AARCH64
    #elif defined(__riscv) && __riscv_xlen == 64 && defined(AUDIT_ARCH_RISCV64)
    #define NATIVE_ARCHITECTURE AUDIT_ARCH_RISCV64
    #else
    #define NATIVE_ARCHITECTURE 0
    #endif

    /* Younger than the headers of some supported systems, and numbered alike everywhere. */
    #ifndef SYS_landlock_create_ruleset
    #define SYS_landlock_create_ruleset 444
    #define SYS_landlock_add_rule 445
    #define SYS_landlock_restrict_self 446
    #endif
    struct fences_ruleset { unsigned long long fs, net, scoped; };
    struct __attribute__((packed)) fences_path { unsigned long long allowed; int parent; };

    static long fences_seccomp(void *code, unsigned short length) {
        struct sock_fprog program = {length, (struct sock_filter *)code};
        return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    }
    static long fences_capget(uint64_t *sets) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct data[2];
        if (syscall(SYS_capget, &header, data)) return -1;
        sets[0] = data[0].effective | (uint64_t)data[1].effective << 32;
        sets[1] = data[0].permitted | (uint64_t)data[1].permitted << 32;
        sets[2] = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
        return 0;
    }
    static long fences_capset(const uint64_t *sets) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct data[2] = {
            {(unsigned)sets[0], (unsigned)sets[1], (unsigned)sets[2]},
            {(unsigned)(sets[0] >> 32), (unsigned)(sets[1] >> 32), (unsigned)(sets[2] >> 32)}};
        return syscall(SYS_capset, &header, data);
    }
    static long fences_ruleset_new(unsigned long long fs, unsigned long long net, unsigned long long scoped, int abi) {
        struct fences_ruleset attributes = {fs, net, scoped};
        return syscall(SYS_landlock_create_ruleset, &attributes, abi < 4 ? 8 : abi < 6 ? 16 : 24, 0);
    }
    static long fences_rule(int ruleset, int parent, unsigned long long allowed) {
        struct fences_path rule = {allowed, parent};
        return syscall(SYS_landlock_add_rule, ruleset, 1, &rule, 0);
    }
    """
    uint32_t NATIVE_ARCHITECTURE
    long fences_seccomp(void* code, unsigned short length) noexcept nogil
    long fences_capget(uint64_t* sets) noexcept nogil
    long fences_capset(const uint64_t* sets) noexcept nogil
    long fences_ruleset_new(uint64_t fs, uint64_t net, uint64_t scoped, int abi) noexcept nogil
    long fences_rule(int ruleset, int parent, uint64_t allowed) noexcept nogil
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) noexcept nogil
    long syscall(long number, ...) noexcept nogil
    int c_unshare "unshare"(int flags) noexcept nogil
    int SYS_landlock_create_ruleset, SYS_landlock_restrict_self
    int PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_GET_DUMPABLE, PR_GET_SECCOMP
    int PR_SET_KEEPCAPS, PR_CAPBSET_READ, PR_CAPBSET_DROP
    int PR_SET_PDEATHSIG, PR_GET_PDEATHSIG

ARCHITECTURE = NATIVE_ARCHITECTURE   # as seccomp(2) names it; 0: no filter is known for this one


cdef long checked(long result) except -1:
    if result < 0:
        raise OSError(errno, os.strerror(errno))
    return result


def no_new_privileges():
    """Forbid that a program started from here on has more privileges than this process."""
    checked(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def undumpable():
    """Forbid core files and ptrace; /proc/PID then belongs to root."""
    checked(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def state():
    """Return (no new privileges, dumpable, a filter is in force), from the kernel."""
    return (bool(checked(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))), bool(checked(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))),
            prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2)


def capabilities():
    """Return (effective, permitted, inheritable), each as bits."""
    cdef uint64_t[3] sets
    sets[0] = sets[1] = sets[2] = 0
    checked(fences_capget(sets))
    return sets[0], sets[1], sets[2]


def keep(uint64_t effective, uint64_t permitted, uint64_t inheritable):
    """Drop all other capabilities of this thread. A capability that is not inheritable leaves the ambient set, too."""
    cdef uint64_t[3] sets
    sets[0], sets[1], sets[2] = effective, permitted, inheritable
    checked(fences_capset(sets))


def bound(uint64_t kept):
    """Limit programs started from here on to these capabilities. Needs CAP_SETPCAP."""
    cdef int number
    for number in range(64):
        if not kept >> number & 1 and prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            checked(prctl(PR_CAPBSET_DROP, number, 0, 0, 0))


def become(uid, gid):
    """Become another user for good, without other groups.

    Permitted capabilities stay. The function sets the parent-death signal again, because the kernel clears it at a
    change of user.
    """
    cdef int signal = 0
    checked(prctl(PR_GET_PDEATHSIG, <unsigned long>&signal, 0, 0, 0))
    checked(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    checked(prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0))


def unshare(int flags):
    """Move this process to new namespaces."""
    checked(c_unshare(flags))


def refuse(bytes program not None):
    """Install a filter of system calls (classic BPF, 8 bytes an instruction) on every thread of this process."""
    if len(program) == 0 or len(program) % 8 or len(program) // 8 > 4096:
        raise ValueError(f"{len(program)} bytes are not a filter")
    cdef const unsigned char* code = program
    cdef long result = fences_seccomp(<void*>code, <unsigned short>(len(program) // 8))
    if result > 0:
        raise OSError(f"thread {result} has another filter")
    checked(result)


def landlock_version():
    """Return the version of landlock(7) in this kernel; 0 for none."""
    cdef long version = syscall(SYS_landlock_create_ruleset, <void*>NULL, <size_t>0, <unsigned int>1)
    return max(0, version)


def landlock(uint64_t files, uint64_t net, uint64_t scoped, rules):
    """Restrict the file rights of this thread and of its children to `rules`, a list of (open descriptor, bits).

    The kernel then refuses the other rights in `files`, and those in `net` and `scoped`.
    """
    cdef int ruleset = checked(fences_ruleset_new(files, net, scoped, landlock_version()))
    cdef int descriptor
    cdef uint64_t allowed
    try:
        for descriptor, allowed in rules:
            if fences_rule(ruleset, descriptor, allowed & files) and errno != EBADFD:   # pipes are always allowed
                checked(-1)
        checked(syscall(SYS_landlock_restrict_self, ruleset, <unsigned int>0))
    finally:
        os.close(ruleset)
