"""The sandbox: each process gives up privileges before it works with bytes from the network.

The supervisor calls `guard` before it starts any child. A child calls `enter` before it opens any file and before it
has a second thread, because capabilities and landlock hold for one thread and its children. Afterwards each process
may:

    supervisor  start its children; no capability but those they need at their start
    capture     use its folder in the run directory and the file it reads; live: CAP_NET_RAW until the interface is
                `opened`, packet sockets, and the system's files about interfaces and names
    worker      use its folder in the run directory; no other file, no network, no capability
    recorder    use its folder in the run directory and that of the ring; no other file, no network, no capability
    keeper      the same; it reads the folder of the ring, and writes that of kept frames in it
    files       the same with the folder of files
    feed        use its folder in the run directory, that of the output, its keys; IP sockets, but no connect

If this kernel or the parent process does not allow a fence, the process runs without it. Its page shows the fences in
force (`sandbox.*`), read back from the kernel where possible. ops/docs/operators/security.md describes all of them.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from appliance.config.schema import Config
from appliance.native import kernel_sandbox as confine
from appliance.native.safe_files import make_folder
from appliance.runtime import log
from appliance.runtime import seccomp_filter as syscalls
from appliance.runtime.paths import folder_beside
from appliance.runtime.seccomp_filter import Role
from appliance.stats.page import Page

# capabilities(7)
CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 0, 1, 5, 6, 7, 8
CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_ADMIN = 10, 13, 21
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

# landlock(7); rights that a version does not know are dropped for it
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR = (1 << bit for bit in range(8))
MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(8, 16))
FILES_BY_VERSION = {1: MAKE_SYM * 2 - 1, 2: REFER * 2 - 1, 3: TRUNCATE * 2 - 1, 5: IOCTL_DEV * 2 - 1}
BIND_TCP, CONNECT_TCP = 1, 2  # from version 4
ABSTRACT_SOCKETS, SIGNALS = 1, 2  # from version 6
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = READ_FILE | READ_DIR
MAKE = READ | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE
WORK = MAKE | MAKE_SOCK  # in the folder of a process in the run directory

# libpcap and the C library read these files to reopen an interface, or to compile a filter with names in it.
NAMES = (
    "hosts",
    "nsswitch.conf",
    "resolv.conf",
    "services",
    "protocols",
    "networks",
    "ethers",
    "host.conf",
    "gai.conf",
)
INTERFACES = ("/sys/class/net", "/sys/devices", "/proc/net", "/proc/self/net")
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo")

ISOLATED = ("worker", "recorder", "keeper", "files")  # roles without a network

Rights = list[tuple[str | Path, int]]


def bits(capabilities: Iterable[int]) -> int:
    """Return a set of capabilities as the kernel's bit mask."""
    return sum(1 << one for one in set(capabilities))


class UnknownUser(Exception):
    """run.user cannot be had. The text is for a person."""


def account(name: str) -> tuple[int, int]:
    """Return (uid, gid) of run.user. Raises UnknownUser."""
    import pwd  # here: few runs need it

    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise UnknownUser(f"run.user {name!r}: there is no such user; do: useradd --system {name}") from None
    if os.geteuid() not in (0, user.pw_uid):
        raise UnknownUser(f"run.user {name!r}: only root can change its user; start it as root, or as {name}")
    return user.pw_uid, user.pw_gid


def _low_port(config: Config) -> bool:
    """Return whether a socket binds to a port that needs a capability."""
    ports = [text.rpartition(":")[2] for text in (config.feed.bind, config.feed.replay, config.metrics.bind)]
    return any(port.isdigit() and 0 < int(port) < 1024 for port in ports)


# -- the supervisor ----------------------------------------------------------------------------------------------------


def guard(config: Config, page: Page, *, alone: bool) -> None:
    """Put the fences around the supervisor if it is `alone` in its process; it can still start its children."""
    if config.run.sandbox == "off" or not alone:
        return
    fences = _Fences("supervisor", page, tell=True)
    source = [] if config.lossless else [CAP_NET_RAW]
    if os.geteuid() == 0:
        # A child of root starts with the bounding set, limited to the sets of its parent.
        start = [*source, CAP_SYS_ADMIN, CAP_SETPCAP, CAP_SETUID, CAP_SETGID, CAP_DAC_OVERRIDE]
        as_others = [CAP_SETUID, CAP_SETGID] if config.run.user else []  # to write the ledger as that user
        own = [
            CAP_KILL,
            CAP_DAC_OVERRIDE,
            CAP_CHOWN,
            *as_others,
            *([CAP_NET_BIND_SERVICE] if _low_port(config) else []),
        ]
        fences.put("capabilities", lambda: _limit(bits([*start, *own]), bits(own), bits([*start, *own]), 0))
    else:
        own_bits = bits(source)
        fences.put("capabilities", lambda: _limit(None, own_bits, own_bits, own_bits))
    fences.put_common()
    fences.put_seccomp(live=not config.lossless)


def _limit(bounding: int | None, effective: int, permitted: int, inheritable: int) -> None:
    """Drop all capabilities but these."""
    has_effective, has, has_inheritable = confine.capabilities()
    if bounding is not None and has_effective >> CAP_SETPCAP & 1:
        confine.bound(bounding)
    confine.keep(has & effective, has & permitted, has_inheritable & has & inheritable)


# -- a child -----------------------------------------------------------------------------------------------------------


def regain() -> None:
    """Raise the permitted capabilities of a forked child again, as exec would do."""
    _, permitted, inheritable = confine.capabilities()
    confine.keep(permitted, permitted, inheritable)


def enter(role: Role, config: Config, run_dir: Path, page: Page, *, first: bool = True) -> None:
    """Put the fences around a child for the rest of its life. The `first` of a kind reports a missing fence, once."""
    for slot in [name for name in page.names if name.startswith("sandbox.")]:
        page[slot] = 0
    mine = os.geteuid()  # before a user namespace hides it
    uid, gid = account(config.run.user) if config.run.user else (mine, os.getegid())
    if config.run.sandbox == "off":
        if uid != mine:
            confine.become(uid, gid)
        return
    make_folder(folder_beside(page.path))  # for a process without a supervisor
    live = not config.lossless
    fences = _Fences(role, page, tell=first and page["starts"] <= 1)
    if role in ISOLATED:
        fences.put("network_namespace", _own_network, quiet=True)
    if uid != mine:
        confine.become(uid, gid)
    rights = _rights(role, config, run_dir, page)
    kept = [CAP_NET_RAW] if role == "capture" and live else []
    kept += [CAP_NET_BIND_SERVICE] if role == "feed" and _low_port(config) else []
    if role != "worker" and uid == 0 and not _within_reach(rights):
        # root needs it for the files of other users, such as the home of the user of sudo
        kept.append(CAP_DAC_OVERRIDE)
    fences.put("capabilities", lambda: _limit(0, bits(kept), bits(kept), 0))
    fences.put_common()
    fences.put("landlock", lambda: _landlock(role, rights))
    fences.put_seccomp(live=live)
    if role in ISOLATED:
        page["sandbox.network"] = int(page["sandbox.network_namespace"] or page["sandbox.seccomp"])


def opened(config: Config, page: Page) -> None:
    """Drop the capabilities that only opening the source needed. Call it before a second thread begins."""
    if config.run.sandbox == "on" and page["sandbox.capabilities"]:
        _limit(None, 0, 0, 0)


class _Fences:
    """The fences of one process: each is put up, checked, and noted in its page."""

    def __init__(self, role: Role, page: Page, *, tell: bool) -> None:
        self.role = role
        self.page = page
        self.tell = tell

    def put(self, name: str, act: Callable[[], object], *, quiet: bool = False) -> None:
        """Put one fence up, or report that it is missing and why."""
        try:
            act()
            self.page[f"sandbox.{name}"] = 1
        except (OSError, KeyError) as fault:
            if self.tell and not quiet:
                reason = fault.strerror if isinstance(fault, OSError) else fault.args[0]
                log.warning(f"sandbox: {self.role} goes without {name}: {reason}", reason="sandbox")

    def put_common(self) -> None:
        """Forbid core files, debuggers, and privileges by starting a program."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.put("no_new_privileges", confine.no_new_privileges)
        self.put("undumpable", confine.undumpable)
        no_new, dumpable, _ = confine.state()
        self.page["sandbox.no_new_privileges"], self.page["sandbox.undumpable"] = int(no_new), int(not dumpable)

    def put_seccomp(self, *, live: bool) -> None:
        """Install the filter of system calls."""

        def act() -> None:
            rules = syscalls.rules(self.role, confine.ARCHITECTURE, live=live, pid=os.getpid())
            confine.refuse(syscalls.program(rules, confine.ARCHITECTURE))

        self.put("seccomp", act)


def _own_network() -> None:
    """Make an empty network namespace; a user other than root needs a user namespace for it."""
    if confine.capabilities()[0] >> CAP_SYS_ADMIN & 1:
        confine.unshare(CLONE_NEWNET)
    else:
        confine.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _rights(role: Role, config: Config, run_dir: Path, page: Page) -> Rights:
    """Return the rights of a child on files and folders; missing files do not matter.

    The child reads all of the run directory. It writes its page, and the files in its folder, which has the name of its
    page.
    """
    rights: Rights = [(run_dir, READ), (folder_beside(page.path), WORK), (page.path, READ_FILE | WRITE_FILE)]
    if role == "worker":
        return rights
    if role == "recorder":
        keys = [(config.record.encrypt_to, READ)] if config.record.encrypt_to else []
        return [*rights, (config.record.path, MAKE), *keys]
    if role == "keeper":
        return [*rights, (config.record.path, READ), (config.record.kept_path, MAKE)]
    if role == "files":
        return [*rights, (config.files.path, MAKE)]
    names = [(f"/etc/{name}", READ) for name in NAMES]
    if role == "capture":
        about = [] if config.lossless else [(path, READ) for path in INTERFACES]
        return [*rights, *names, *about, *((path, READ) for path in (config.source.file,) if path not in ("", "-"))]
    code = str(Path(__file__).resolve().parents[1])  # of appliance; an editable installation has it in no path
    rights += [*names, *((path, READ) for path in (code, *sys.path, *LIBRARIES, *INTERFACES) if os.path.isabs(path))]
    rights += [(path, READ) for path in (config.feed.curve_key, config.feed.curve_clients) if path]
    if config.feed.curve_clients:  # a reload may name another folder beside it
        rights.append((os.path.dirname(os.path.abspath(config.feed.curve_clients)), READ))
    output = config.output.opened
    if output and output != "-":
        whole = os.path.isfile(output) or not os.path.exists(output)  # not a pipe or a device
        rights.append((output, MAKE))
        if whole:
            rights += [
                (os.path.dirname(path), MAKE | REFER) for path in (os.path.abspath(output), os.path.realpath(output))
            ]
    return rights


def _within_reach(rights: Rights) -> bool:
    """Return whether all files are accessible without a capability. Leaves the permitted set as it is."""
    effective, permitted, inheritable = confine.capabilities()
    confine.keep(0, permitted, inheritable)
    try:
        return all(_reachable(path, wanted) for path, wanted in rights)
    finally:
        confine.keep(effective, permitted, inheritable)


def _reachable(path: str | Path, wanted: int) -> bool:
    try:
        os.stat(path)
    except OSError as fault:
        return not isinstance(fault, PermissionError)
    return os.access(path, os.W_OK if wanted & WRITE_FILE else os.R_OK, effective_ids=True)


def _landlock(role: Role, rights: Rights) -> None:
    version = confine.landlock_version()
    if version == 0:
        raise OSError(0, "this kernel has no landlock, or it was started without")
    known = FILES_BY_VERSION[max(v for v in FILES_BY_VERSION if v <= version)]
    net = 0 if version < 4 else CONNECT_TCP if role == "feed" else BIND_TCP | CONNECT_TCP
    scoped = 0 if version < 6 else ABSTRACT_SOCKETS | SIGNALS
    descriptors: list[tuple[int, int]] = []
    try:
        for path, allowed in rights:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            descriptors.append((descriptor, allowed if os.path.isdir(path) else allowed & OF_A_FILE))
        confine.landlock(known, net, scoped, descriptors)
    finally:
        for descriptor, _ in descriptors:
            os.close(descriptor)
