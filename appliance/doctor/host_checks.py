"""Checks of the host: facts in, results out; see findings.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from appliance.config.address import OFF, is_loopback, split_address
from appliance.config.schema import Config
from appliance.doctor.findings import CheckResult, Checks, fail, ok, warn
from appliance.doctor.host_facts import Machine
from appliance.ipc.memory_sizes import kept_bytes
from appliance.text.units import size

PROCESS_BYTES = 48 << 20  # an idle process of the appliance
CONNECTION_BYTES = 1_700  # one after an exchange; ops/docs/developers/scaling.md
TIGHT = 0.8  # of the available memory
FILTER_BYTES = 4096 * 8  # the longest program that the kernel accepts from libpcap
OPEN_FILES = 1024
FAR_OFF_S = 1.0


class HostFacts(NamedTuple):
    """This host, and the configuration it has to run."""

    config: Config
    machine: Machine
    libpcap: str  # the version that pcap_lib_version() returns
    run_directory: str
    run_free_bytes: int | None
    run_in_memory: bool
    arena_bytes: int  # of batches in it
    running: bool  # an appliance runs with this configuration and has its resources already
    faults: Mapping[str, str]  # by address: why it is unavailable
    ours: Mapping[str, str]  # by address: the run directory of the appliance that owns it
    dropped_now: int  # frames that the backlog dropped during this check


HOST = Checks[HostFacts]()


@HOST.check("interfaces")
def interfaces(facts: HostFacts) -> Iterator[CheckResult]:
    """Check that an interface was named."""
    if not facts.config.source.interfaces:
        yield ok("no interface was named or checked: -i IFACE; `appliance devices` lists them")


@HOST.check("permission")
def permission(facts: HostFacts) -> Iterator[CheckResult]:
    """Check that packet sockets may be opened."""
    if facts.machine.may_capture:
        yield ok("this user may capture (CAP_NET_RAW)")
    else:
        yield fail(
            "this user may not capture", "Packet sockets need CAP_NET_RAW, and nothing else.", "sudo appliance run …"
        )


@HOST.check("libpcap")
def libpcap(facts: HostFacts) -> Iterator[CheckResult]:
    """Check that libpcap uses TPACKET_V3, whose ring holds frames of any length."""
    if "TPACKET_V3" in facts.libpcap:
        yield ok(facts.libpcap)
    else:
        why = "Its ring has slots of one size, and holds fewer frames in the same memory."
        yield warn(f"{facts.libpcap}: no TPACKET_V3", why, "install a libpcap of 2013 or later (1.5)")


@HOST.check("cores")
def cores(facts: HostFacts) -> Iterator[CheckResult]:
    """Check for a core for each process that works all the time."""
    config, there = facts.config, facts.machine.cores
    captures, workers = max(1, config.capture_count), config.worker_count
    seen = f"cores {there}, captures {captures}, workers {workers}"
    if workers > there or captures + workers > there + 1:
        why = "Processes that share a core delay each other: the capture reads its ring late, and frames are lost."
        fewer = ""
        if config.capture.fanout > 1 and captures >= there:
            fewer, captures = "--set capture.fanout=1 ", len(config.source.interfaces)
        yield warn(seen, why, f"{fewer}--workers {max(1, there - captures)}")
    elif captures + workers > there:
        yield ok(f"{seen}: some share a core, which suffices below about 100,000 frames a second")
    else:
        yield ok(seen)


@HOST.check("memory")
def memory(facts: HostFacts) -> Iterator[CheckResult]:
    """Check that memory suffices for the start, and for all limits."""
    config, there = facts.config, facts.machine.available_bytes
    if there is None:
        return
    captures, workers = config.capture_count, config.worker_count
    taken = captures * config.capture.ring_bytes + facts.arena_bytes + PROCESS_BYTES * (captures + workers + 2)
    tcp, http, feed = config.tcp, config.http, config.feed
    worker = tcp.max_total_pending_bytes + http.max_total_head_bytes + http.max_total_waiting_bytes
    worker += tcp.max_connections * CONNECTION_BYTES
    most = (
        taken + kept_bytes(config) + workers * worker + captures * config.capture.max_fragment_bytes + feed.replay_bytes
    )
    there += taken if facts.running else 0  # available memory excludes its own
    seen = f"{size(there)} available; {size(taken)} allocated at the start, {size(most)} if every limit is reached"
    if taken > there:
        why = "libpcap silently shrinks the ring, or the kernel kills a process."
        yield fail(seen, why, f"--ring {max(1, config.capture.ring_bytes >> 22)}M")
    elif most > there * TIGHT:
        why = (
            "Only hostile or extreme traffic reaches all limits; then the kernel kills a process before a limit "
            "applies."
        )
        yield warn(seen, why, "--set tcp.max_connections=200000 --set tcp.max_total_pending_bytes=67108864")
    else:
        yield ok(seen)


@HOST.check("run directory")
def run_directory(facts: HostFacts) -> Iterator[CheckResult]:
    """Check that the run directory is in memory and has room for the batches."""
    free = facts.run_free_bytes
    if free is None or facts.running:
        return
    kept = kept_bytes(facts.config)
    seen = f"{size(free)} free in {facts.run_directory}; batches take {size(facts.arena_bytes)}"
    if free < facts.arena_bytes:
        why = "Batches of frames are stored there: without room the capture does not start, or drops frames."
        yield fail(seen, why, f"mount -o remount,size={(2 * facts.arena_bytes >> 20) + 64}M {facts.run_directory}")
    elif free < facts.arena_bytes + kept:
        why = "Copies of HTTP/2 connections take what batches leave: not all of them would outlive a killed worker."
        fix = f"mount -o remount,size={(2 * facts.arena_bytes + kept >> 20) + 64}M {facts.run_directory}"
        yield warn(f"{seen}, copies of HTTP/2 connections {size(kept)}", why, fix)
    elif not facts.run_in_memory:
        why = "Batches, and the counters that every loop updates, go to a disk."
        yield warn(f"{facts.run_directory} is not in memory", why, "--run-dir /dev/shm/appliance")
    else:
        yield ok(seen)


@HOST.check("open files")
def open_files(facts: HostFacts) -> Iterator[CheckResult]:
    """Check the limit of descriptors: a subscriber of the feed needs one or two."""
    soft, hard = facts.machine.open_files, facts.machine.open_files_hard
    if soft < OPEN_FILES:
        why = "Each subscriber and each scrape needs descriptors; without them the feed refuses connections."
        yield warn(f"{soft} at most (hard limit {hard})", why, f"ulimit -n {max(OPEN_FILES, min(hard, 65536))}")
    else:
        yield ok(f"{soft:,} at most")


@HOST.check("clock")
def clock(facts: HostFacts) -> Iterator[CheckResult]:
    """Check that a daemon synchronises the clock."""
    found = facts.machine.clock
    if found is None:
        return
    if not found.synchronised:
        why = (
            "Events of several sensors, and of servers' logs, do not match, and a clock step moves all of them at once."
        )
        yield warn("no daemon synchronises the clock of this host", why, "timedatectl set-ntp true")
    elif found.max_error_s > FAR_OFF_S:
        why = "The daemon that synchronises the clock has had no source for long."
        yield warn(f"synchronised, but up to {found.max_error_s:.1f} s wrong", why, "timedatectl timesync-status")
    else:
        yield ok(f"synchronised, at most {found.max_error_s * 1000:.1f} ms wrong")


@HOST.check("kernel")
def kernel(facts: HostFacts) -> Iterator[CheckResult]:
    """Check the sysctl(8) settings that affect a capture."""
    machine = facts.machine
    if machine.backlog_dropped is not None:
        seen = f"{facts.dropped_now:,} frames dropped now, {machine.backlog_dropped:,} since boot, before any capture"
        if facts.dropped_now:
            why = "A core has no room for the frames of its card; no counter of the appliance includes them."
            fix = f"sysctl -w net.core.netdev_max_backlog={max(10_000, 4 * (machine.backlog or 0))}"
            yield warn(f"backlog of {machine.backlog}: {seen}", why, fix)
        else:
            yield ok(seen)
    if machine.option_bytes is not None:
        seen = f"optmem_max {machine.option_bytes:,}"
        if machine.option_bytes < FILTER_BYTES:
            why = (
                "A long filter does not fit: it would run in the capture process, and the ring would hold every frame."
            )
            yield warn(seen, why, f"sysctl -w net.core.optmem_max={4 * FILTER_BYTES}")
        else:
            yield ok(f"{seen}: the longest filter fits")
    if machine.receive_bytes is not None:
        yield ok(f"rmem_max {machine.receive_bytes:,}: irrelevant, the ring has its own size (capture.ring_bytes)")


@HOST.check("sandbox")
def sandbox(facts: HostFacts) -> Iterator[CheckResult]:
    """Check the sandbox features of the kernel."""
    found = facts.machine.sandbox
    missing = [name for name, there in (("seccomp", found.seccomp), ("landlock", found.landlock)) if not there]
    if missing:
        why = "Fewer barriers contain a fault in the code that parses hostile bytes. The appliance works without them."
        yield warn(f"the kernel has no {' and no '.join(missing)}", why, "grep . /sys/kernel/security/lsm; uname -r")
    else:
        yield ok(f"the kernel has seccomp, landlock {found.landlock} and network namespaces")


@HOST.check("listening")
def listening(facts: HostFacts) -> Iterator[CheckResult]:
    """Check which other hosts can reach the feed and the metrics."""
    config = facts.config
    beyond = [name for name, (host, _) in addresses(config).items() if not is_loopback(host)]
    unlocked = [one for one in beyond if one.startswith("metrics") or not config.feed.curve_key]
    if unlocked:
        why = "Any host that reaches it can read everything, including URLs and addresses of all your users."
        yield warn(f"open to other hosts without a lock: {', '.join(unlocked)}", why, "appliance keygen --help")
    elif beyond:
        yield ok(f"open to other hosts, locked: {', '.join(beyond)}")
    else:
        yield ok("reachable from this host only")
    for address, directory in facts.ours.items():
        yield ok(f"{address}: in use by the appliance in {directory}; a second one needs another address")
    for address, fault in facts.faults.items():
        yield fail(
            f"{address}: {fault}",
            "Another program uses it; the appliance does not start.",
            f"ss -ltnp '{_port(address)}'",
        )


def addresses(config: Config) -> dict[str, tuple[str, int]]:
    """Return the TCP addresses that a run binds, by purpose."""
    named = {"feed": config.feed.bind, "replay": config.feed.replay, "metrics": config.metrics.bind}
    found = {}
    for name, address in named.items():
        if address not in (OFF, "") and not address.startswith("ipc://"):
            try:
                found[f"{name} {address}"] = split_address(address.removeprefix("tcp://"))
            except ValueError:
                pass  # the name of an interface: the feed resolves it
    return found


def _port(address: str) -> str:
    return f"sport = :{address.rpartition(':')[2]}"
