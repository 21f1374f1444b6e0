"""`appliance doctor`: looks at interfaces, at this machine, and at a running appliance, and says what to mend.

Looks only: nothing is set, and of a run nothing but its pages is read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance import check_host, check_interface, check_run, finding, host, nic, pcap
from appliance.bpf import Filter
from appliance.bus import arena_bytes
from appliance.capture import ETHERNET, vlan_aware
from appliance.check_host import HOST
from appliance.check_interface import INTERFACE
from appliance.check_run import RUN
from appliance.config import Config, resolve
from appliance.finding import Finding
from appliance.packet import Packet
from appliance.pcap import BadFilter, PcapError
from appliance.rundir import Unusable, base_directory
from appliance.running import Running, directories
from appliance.traffic import judge

SMALL_RING = 4 << 20  # bytes: to look at traffic beside an appliance that has a ring already
LOOK_FRAMES = 5000
LOOK_BYTES = 1 << 16  # of each frame: what comes twice is compared as a whole
WAIT_S = 0.1


class Wanted(NamedTuple):
    """What to look at. seconds: how long at traffic, and between two looks at a run; 0: not at traffic."""

    interfaces: Sequence[str]
    file: Path | None
    run: Path | None
    seconds: float
    as_json: bool = False


def doctor(wanted: Wanted) -> int:
    """Prints what was found; the exit code. Raises ConfigError and Unusable."""
    running = _running(wanted)
    if running is not None and wanted.file is None and not wanted.interfaces:
        config = running.config
    else:
        given = {"source.interfaces": list(wanted.interfaces)} if wanted.interfaces else {}
        config = resolve(wanted.file, given, source_required=False)
    findings = list(examine(config, running, wanted.seconds))
    if wanted.as_json:
        print(finding.to_json(findings))
    else:
        terminal = sys.stdout.isatty()
        width = min(os.get_terminal_size(1).columns, 120) if terminal else 100
        colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        for line in finding.render(findings, width=max(width, 60), colours=colours):
            print(line)
    return finding.exit_code(findings)


def examine(config: Config, running: Running | None, seconds: float) -> Iterator[Finding]:
    """Every finding, interfaces first."""
    before = None if running is None else (running.snapshots(), time.monotonic())
    dropped = host.backlog_dropped()
    for name in config.source.interfaces:
        yield from INTERFACE.run(name, look(name, config, running, seconds))
    if before is not None and running is not None:
        time.sleep(max(0.0, before[1] + max(seconds, 1.0) - time.monotonic()))
    yield from HOST.run("host", _machine(config, running, dropped))
    if before is not None and running is not None:
        pages, since = before
        now, now_ns = running.snapshots(), time.monotonic_ns()
        yield from RUN.run("run", check_run.Facts(running.config, pages, now, now_ns / 1e9 - since, now_ns))


def look(name: str, config: Config, running: Running | None, seconds: float) -> check_interface.Facts:
    """An interface and some seconds of its traffic."""
    interface = nic.look(name) if name != "any" else None
    asked = config.capture.ring_bytes
    got, traffic, filter_fault, fault = 0, None, "", ""
    own = running is not None and name in running.config.source.interfaces
    if own and running is not None:
        pages = enumerate(running.snapshots().captures)
        page = next(page for capture, page in pages if running.config.interface_of(capture) == name)
        asked, got = running.config.capture.ring_bytes, host.ring_bytes(page["pid"])
    try:
        with pcap.open_live(
            name,
            snaplen=max(LOOK_BYTES, config.capture.snaplen),
            promiscuous=config.capture.promiscuous,
            ring_bytes=SMALL_RING if own else asked,
        ) as handle:
            if not own:
                got = host.ring_bytes(os.getpid(), handle.fileno())
            wanted = None
            try:
                wanted = _filter(config, handle.link_type)
            except BadFilter as error:
                filter_fault = str(error)
            if seconds:
                traffic = judge(_packets(handle, seconds), wanted)
    except PcapError as error:
        fault = str(error)
    return check_interface.Facts(name, config, interface, asked, got, traffic, seconds, filter_fault, fault)


def _packets(handle: pcap.Handle, seconds: float) -> Iterator[Packet]:
    end = time.monotonic() + seconds
    seen = 0
    for packet in handle.packets(timeout=WAIT_S):
        if packet is not None:
            seen += 1
            yield packet
        if seen >= LOOK_FRAMES or time.monotonic() >= end:
            return


def _filter(config: Config, link_type: int) -> Filter | None:
    """The filter as the capture will set it."""
    text = config.source.filter
    if not text:
        return None
    if config.capture.vlan_aware and link_type == ETHERNET:
        try:
            return Filter(vlan_aware(text), link_type)
        except BadFilter:
            pass
    return Filter(text, link_type)


def _machine(config: Config, running: Running | None, dropped: int | None) -> check_host.Facts:
    base = running.directory if running else Path(config.run.directory or base_directory())
    machine = host.look()
    wanted = {} if running else check_host.addresses(config)
    faults = {name: fault for name, address in wanted.items() if (fault := host.taken(address))}
    return check_host.Facts(
        config,
        machine,
        pcap.library_version(),
        str(base),
        host.free_bytes(base),
        host.in_memory(base),
        arena_bytes(config),
        running is not None,
        faults,
        (machine.backlog_dropped or 0) - (dropped or 0),
    )


def _running(wanted: Wanted) -> Running | None:
    """The run that was named; or that captures on these interfaces; or, when nothing was named, the only one."""
    if wanted.run is not None:
        return Running(wanted.run)
    runs = []
    for directory in sorted(directories()):
        try:
            runs.append(Running(directory))
        except Unusable:
            pass  # not ours: it is not what was asked for either
    if wanted.interfaces:
        runs = [run for run in runs if set(wanted.interfaces) & set(run.config.source.interfaces)]
    elif wanted.file is not None:
        return None
    if len(runs) > 1:
        ways = " ".join(f"--run {run.directory}" for run in runs)
        raise Unusable(f"{len(runs)} appliances run here; choose one: {ways}")
    return runs[0] if runs else None
