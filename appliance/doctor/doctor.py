"""The `appliance doctor` command: checks interfaces, host and a running appliance, and suggests fixes.

It only reads: it sets nothing, and reads nothing of a run but its pages.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.config.load import resolve
from appliance.config.schema import Config
from appliance.doctor import findings as finding
from appliance.doctor import host_checks as check_host
from appliance.doctor import host_facts as host
from appliance.doctor import interface_checks as check_interface
from appliance.doctor import nic_facts as nic
from appliance.doctor import run_checks as check_run
from appliance.doctor.findings import Finding
from appliance.doctor.host_checks import HOST
from appliance.doctor.interface_checks import INTERFACE
from appliance.doctor.run_checks import RUN
from appliance.doctor.traffic_sample import judge
from appliance.ipc.memory_sizes import arena_bytes
from appliance.native import file_systems
from appliance.native.safe_files import Unusable
from appliance.packet.packet import ETHERNET, Packet
from appliance.pcap import opening as pcap
from appliance.pcap.bpf import Filter
from appliance.pcap.opening import BadFilter, PcapError
from appliance.report.running_instance import RunningInstance, run_directories
from appliance.runtime.run_directory import base_directory

SMALL_RING = 4 << 20  # bytes: for a traffic sample beside the ring of a running appliance
LOOK_FRAMES = 5000
LOOK_BYTES = 1 << 16  # bytes sampled of each frame: duplicates are compared as a whole
WAIT_S = 0.1


class DoctorArgs(NamedTuple):
    """The arguments of the command. seconds: the length of a traffic sample and between two reads of a run; 0: no
    sample.
    """

    interfaces: Sequence[str]
    file: Path | None
    run: Path | None
    seconds: float
    as_json: bool = False
    verbose: bool = False  # report checks that pass, too


def doctor(args: DoctorArgs) -> int:
    """Print the findings. Return the exit code. Raises ConfigError and Unusable."""
    running = _running(args)
    if running is not None and args.file is None and not args.interfaces:
        config = running.config
    else:
        given = {"source.interfaces": list(args.interfaces)} if args.interfaces else {}
        config = resolve(args.file, given, source_required=False)
    findings = list(examine(config, running, args.seconds))
    if args.as_json:
        print(finding.to_json(findings))
    else:
        terminal = sys.stdout.isatty()
        width = min(os.get_terminal_size(1).columns or 80, 120) if terminal else 100
        colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        for line in finding.render(findings, width=max(width, 60), colours=colours, verbose=args.verbose):
            print(line)
    return finding.exit_code(findings)


def examine(config: Config, running: RunningInstance | None, seconds: float) -> Iterator[Finding]:
    """Return every finding, interfaces first."""
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
        yield from RUN.run("run", check_run.RunFacts(running.config, pages, now, now_ns / 1e9 - since, now_ns))


def look(name: str, config: Config, running: RunningInstance | None, seconds: float) -> check_interface.InterfaceFacts:
    """Return the facts of an interface, with a sample of its traffic."""
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
            args = None
            try:
                args = _filter(config, handle.link_type)
            except BadFilter as error:
                filter_fault = str(error)
            if seconds:
                traffic = judge(_packets(handle, seconds), args)
    except PcapError as error:
        fault = str(error)
    return check_interface.InterfaceFacts(name, config, interface, asked, got, traffic, seconds, filter_fault, fault)


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
    """Compile the filter as the capture will set it."""
    text = config.source.filter
    if not text:
        return None
    if config.capture.vlan_aware and link_type == ETHERNET:
        try:
            return Filter(text, link_type, vlan_aware=True)
        except BadFilter:
            pass
    return Filter(text, link_type)


def _machine(config: Config, running: RunningInstance | None, dropped: int | None) -> check_host.HostFacts:
    base = running.directory if running else Path(config.run.directory or base_directory())
    machine = host.look()
    args = {} if running else check_host.addresses(config)
    faults = {name: fault for name, address in args.items() if (fault := host.taken(address))}
    owners = _owners() if faults else {}
    ours = {name: str(owners[port]) for name in faults if (port := args[name][1]) in owners}
    return check_host.HostFacts(
        config,
        machine,
        pcap.library_version(),
        str(base),
        file_systems.free_bytes(base),
        file_systems.in_memory(base),
        arena_bytes(config),
        running is not None,
        {name: fault for name, fault in faults.items() if name not in ours},
        ours,
        (machine.backlog_dropped or 0) - (dropped or 0),
    )


def _owners() -> dict[int, Path]:
    """Return the run directory of the local appliance that owns each TCP port."""
    owners = {}
    for directory in run_directories():
        try:
            run = RunningInstance(directory)
        except Unusable:
            continue
        for name in ("feed", "replay", "metrics"):
            port = run.endpoint(name).rpartition(":")[2]
            if port.isdecimal():
                owners[int(port)] = directory
        owners |= {port: directory for _, port in check_host.addresses(run.config).values() if port}
    return owners


def _running(args: DoctorArgs) -> RunningInstance | None:
    """Return the run that is named, or the one on these interfaces, or, without any name, the only one."""
    if args.run is not None:
        return RunningInstance(args.run)
    runs = []
    for directory in sorted(run_directories()):
        try:
            runs.append(RunningInstance(directory))
        except Unusable:
            pass  # a run of others that the user did not name
    if args.interfaces:
        runs = [run for run in runs if set(args.interfaces) & set(run.config.source.interfaces)]
    elif args.file is not None:
        return None
    if len(runs) > 1:
        run_options = " ".join(f"--run {run.directory}" for run in runs)
        raise Unusable(f"{len(runs)} appliances run here; choose one: {run_options}")
    return runs[0] if runs else None
