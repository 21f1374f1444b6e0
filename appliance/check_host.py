"""What can be wrong with the machine a sensor runs on. Facts in, what to say out; see finding.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from appliance.config import OFF, Config, is_loopback, split_address
from appliance.finding import Checks, Said, bad, doubt, good
from appliance.host import Machine
from appliance.summary import size

PROCESS_BYTES = 48 << 20  # a process of the appliance with nothing to do
CONNECTION_BYTES = 1_700  # one after an exchange; ops/docs/scaling.md
TIGHT = 0.8  # of the memory that can be had
FILTER_BYTES = 4096 * 8  # the longest program that libpcap may give the kernel
OPEN_FILES = 1024
FAR_OFF_S = 1.0


class Facts(NamedTuple):
    """This machine, and what it shall run."""

    config: Config
    machine: Machine
    libpcap: str  # what pcap_lib_version() says
    run_directory: str
    run_free_bytes: int | None
    run_in_memory: bool
    arena_bytes: int  # of batches in it
    running: bool  # an appliance runs with this configuration: what it takes is taken already
    faults: Mapping[str, str]  # by address: why it cannot be had
    dropped_now: int  # frames that the backlog had no room for while this was looked at


HOST = Checks[Facts]()


@HOST.check("interfaces")
def interfaces(facts: Facts) -> Iterator[Said]:
    """Some were looked at."""
    if not facts.config.source.interfaces:
        yield good("none was named, none was looked at: -i IFACE; `appliance devices` lists them")


@HOST.check("permission")
def permission(facts: Facts) -> Iterator[Said]:
    """Packet sockets may be opened."""
    if facts.machine.may_capture:
        yield good("this user may capture (CAP_NET_RAW)")
    else:
        yield bad(
            "this user may not capture", "Packet sockets need CAP_NET_RAW, and nothing else.", "sudo appliance run …"
        )


@HOST.check("libpcap")
def libpcap(facts: Facts) -> Iterator[Said]:
    """The ring is the kernel's third one, which takes frames of any length."""
    if "TPACKET_V3" in facts.libpcap:
        yield good(facts.libpcap)
    else:
        why = "Its ring has places of one size, and holds fewer frames in the same memory."
        yield doubt(f"{facts.libpcap}: no TPACKET_V3", why, "install a libpcap of 2013 or later (1.5)")


@HOST.check("cores")
def cores(facts: Facts) -> Iterator[Said]:
    """A core for every process that works all the time."""
    config, there = facts.config, facts.machine.cores
    captures, workers = max(1, config.capture_count), config.worker_count
    seen = f"cores {there}, captures {captures}, workers {workers}"
    if workers > there or captures + workers > there + 1:
        why = "Processes that share a core wait for each other: the capture is late at the ring, and frames are lost."
        fewer = ""
        if config.capture.fanout > 1 and captures >= there:
            fewer, captures = "--set capture.fanout=1 ", len(config.source.interfaces)
        yield doubt(seen, why, f"{fewer}--workers {max(1, there - captures)}")
    elif captures + workers > there:
        yield good(f"{seen}: some share a core, which is enough below some 100,000 frames a second")
    else:
        yield good(seen)


@HOST.check("memory")
def memory(facts: Facts) -> Iterator[Said]:
    """What is taken at the start is there, and what the limits allow."""
    config, there = facts.config, facts.machine.available_bytes
    if there is None:
        return
    captures, workers = config.capture_count, config.worker_count
    taken = captures * config.capture.ring_bytes + facts.arena_bytes + PROCESS_BYTES * (captures + workers + 2)
    tcp, http, feed = config.tcp, config.http, config.feed
    worker = tcp.max_total_pending_bytes + http.max_total_head_bytes + tcp.max_connections * CONNECTION_BYTES
    most = taken + workers * worker + captures * config.capture.max_fragment_bytes + feed.replay_bytes
    there += taken if facts.running else 0  # what it has is not there to be had any more
    seen = f"{size(there)} can be had; {size(taken)} taken at the start, {size(most)} if every limit is reached"
    if taken > there:
        why = "The ring is made smaller without a word, or a process is killed by the kernel."
        yield bad(seen, why, f"--ring {max(1, config.capture.ring_bytes >> 22)}M")
    elif most > there * TIGHT:
        why = (
            "Only hostile or extreme traffic reaches all limits; then the kernel kills a process before a limit holds."
        )
        yield doubt(seen, why, "--set tcp.max_connections=200000 --set tcp.max_total_pending_bytes=67108864")
    else:
        yield good(seen)


@HOST.check("run directory")
def run_directory(facts: Facts) -> Iterator[Said]:
    """Batches lie in memory, and there is room for them."""
    free = facts.run_free_bytes
    if free is None or facts.running:
        return
    seen = f"{size(free)} free in {facts.run_directory}; batches take {size(facts.arena_bytes)}"
    if free < facts.arena_bytes:
        why = "Batches of frames lie there: without room the capture does not start, or drops."
        yield bad(seen, why, f"mount -o remount,size={(2 * facts.arena_bytes >> 20) + 64}M {facts.run_directory}")
    elif not facts.run_in_memory:
        why = "Batches, and the counters that every turn of every loop writes, go to a disk."
        yield doubt(f"{facts.run_directory} is not in memory", why, "--run-dir /dev/shm/appliance")
    else:
        yield good(seen)


@HOST.check("open files")
def open_files(facts: Facts) -> Iterator[Said]:
    """Each subscriber of the feed is a descriptor or two."""
    soft, hard = facts.machine.open_files, facts.machine.open_files_hard
    if soft < OPEN_FILES:
        why = "Each subscriber and each scrape takes descriptors; without one they are not let in."
        yield doubt(f"{soft} at most (hard limit {hard})", why, f"ulimit -n {max(OPEN_FILES, min(hard, 65536))}")
    else:
        yield good(f"{soft:,} at most")


@HOST.check("clock")
def clock(facts: Facts) -> Iterator[Said]:
    """Something keeps the clock."""
    found = facts.machine.clock
    if found is None:
        return
    if not found.synchronised:
        why = "Events of several sensors, and of servers' own logs, do not fit together, and a step moves all at once."
        yield doubt("nothing keeps the clock of this machine", why, "timedatectl set-ntp true")
    elif found.max_error_s > FAR_OFF_S:
        why = "What keeps the clock has not been heard for long."
        yield doubt(f"synchronised, but up to {found.max_error_s:.1f} s wrong", why, "timedatectl timesync-status")
    else:
        yield good(f"synchronised, at most {found.max_error_s * 1000:.1f} ms wrong")


@HOST.check("kernel")
def kernel(facts: Facts) -> Iterator[Said]:
    """What sysctl(8) has to do with a capture."""
    machine = facts.machine
    if machine.backlog_dropped is not None:
        seen = (
            f"{facts.dropped_now:,} frames dropped now, {machine.backlog_dropped:,} since the start, before any capture"
        )
        if facts.dropped_now:
            why = "A core has no room for what its card delivers; these frames are in no counter of the appliance."
            mend = f"sysctl -w net.core.netdev_max_backlog={max(10_000, 4 * (machine.backlog or 0))}"
            yield doubt(f"backlog of {machine.backlog}: {seen}", why, mend)
        else:
            yield good(seen)
    if machine.option_bytes is not None:
        seen = f"optmem_max {machine.option_bytes:,}"
        if machine.option_bytes < FILTER_BYTES:
            why = "A long filter does not fit in: it would run in the capture, and the ring would hold every frame."
            yield doubt(seen, why, f"sysctl -w net.core.optmem_max={4 * FILTER_BYTES}")
        else:
            yield good(f"{seen}: the longest filter fits in")
    if machine.receive_bytes is not None:
        yield good(
            f"rmem_max {machine.receive_bytes:,}: of no concern, frames lie in a ring of their own (capture.ring_bytes)"
        )


@HOST.check("sandbox")
def sandbox(facts: Facts) -> Iterator[Said]:
    """What the kernel has to lock processes in."""
    found = facts.machine.sandbox
    missing = [name for name, there in (("seccomp", found.seccomp), ("landlock", found.landlock)) if not there]
    if missing:
        why = "A fault in the code that reads hostile bytes is held by fewer walls. The appliance works all the same."
        yield doubt(f"the kernel has no {' and no '.join(missing)}", why, "grep . /sys/kernel/security/lsm; uname -r")
    else:
        yield good(f"the kernel has seccomp, landlock {found.landlock} and network namespaces")


@HOST.check("listening")
def listening(facts: Facts) -> Iterator[Said]:
    """Who else can reach the feed and the metrics."""
    config = facts.config
    beyond = [name for name, (host, _) in addresses(config).items() if not is_loopback(host)]
    unlocked = [one for one in beyond if one.startswith("metrics") or not config.feed.curve_key]
    if unlocked:
        why = "Whoever reaches it reads everything, URLs and addresses of all your users included."
        yield doubt(f"open to other hosts without a lock: {', '.join(unlocked)}", why, "appliance keygen --help")
    elif beyond:
        yield good(f"open to other hosts, locked: {', '.join(beyond)}")
    else:
        yield good("this host only")
    for address, fault in facts.faults.items():
        yield bad(
            f"{address}: {fault}",
            "Another program has it; the appliance does not start.",
            f"ss -ltnp '{_port(address)}'",
        )


def addresses(config: Config) -> dict[str, tuple[str, int]]:
    """The TCP addresses that a run binds, by what they are."""
    named = {"feed": config.feed.bind, "replay": config.feed.replay, "metrics": config.metrics.bind}
    found = {}
    for name, address in named.items():
        if address not in (OFF, "") and not address.startswith("ipc://"):
            try:
                found[f"{name} {address}"] = split_address(address.removeprefix("tcp://"))
            except ValueError:
                pass  # an interface's name: the feed finds out
    return found


def _port(address: str) -> str:
    return f"sport = :{address.rpartition(':')[2]}"
