"""Checks of a capture interface: facts in, results out; see findings.py."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from appliance.config.schema import Config
from appliance.doctor.findings import CheckResult, Checks, fail, ok, warn
from appliance.doctor.nic_facts import Interface
from appliance.doctor.traffic_sample import Traffic
from appliance.text.units import size

MERGING = {"rx-gro": "gro", "rx-lro": "lro", "rx-gro-hw": "rx-gro-hw"}  # feature: its name for ethtool -K
SENDING = ("tx-tcp-segmentation", "tx-generic-segmentation")
HEADERS = 22  # bytes in front of an MTU: addresses, two VLAN tags, type
MERGED = 65_549  # the longest frame that the kernel merges by default, with its Ethernet header
FEW_DESCRIPTORS = 1024
ENOUGH_FRAMES = 20
MUCH = 0.01  # of all frames
HALF = 0.5


class InterfaceFacts(NamedTuple):
    """The facts of one interface."""

    name: str
    config: Config
    interface: Interface | None
    ring_asked: int
    ring_got: int  # bytes; 0: unknown
    traffic: Traffic | None  # None: not sampled
    look_s: float
    filter_fault: str = ""  # why the filter is unusable
    capture_fault: str = ""  # why the interface cannot be opened

    @property
    def quoted(self) -> str:
        return shlex.quote(self.name)


INTERFACE = Checks[InterfaceFacts]()


@INTERFACE.check("state")
def state(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that the interface exists, is up and has a carrier."""
    nic = facts.interface
    if facts.name == "any":
        yield ok("every interface of this host; not a device itself")
    elif nic is None:
        yield fail("there is no such interface", "Nothing can be captured on it.", "appliance devices")
    elif not nic.up:
        yield fail("the interface is down", "No frame arrives on it.", f"ip link set {facts.quoted} up")
    elif not nic.running:
        why = "No frame can arrive. The other end is down, or the cable or the module is faulty."
        yield warn("up, but no carrier", why, f"ethtool {facts.quoted}")
    else:
        speed = f", {size(nic.speed_mbit * 1e6, 'bit/s')}" if nic.speed_mbit else ""
        yield ok(f"up, driver {nic.driver or 'none'}{speed}, MTU {nic.mtu}")


@INTERFACE.check("open")
def opened(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that the interface can be opened as configured."""
    if facts.capture_fault and facts.interface is not None and facts.interface.up:
        yield fail(facts.capture_fault, "The capture will fail as this attempt did.", "appliance devices")


@INTERFACE.check("ring")
def ring(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that the kernel's buffer has the configured size."""
    asked, got = facts.ring_asked, facts.ring_got
    if not got:
        return
    if got < asked * 0.9:
        why = "The kernel had no memory for more, and libpcap silently took less: stalls cost frames."
        yield warn(f"{size(asked)} configured, {size(got)} allocated", why, "sysctl -w vm.compact_memory=1")
    else:
        yield ok(f"{size(got)} of the kernel's memory, as configured")


@INTERFACE.check("card ring")
def card_ring(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check the receive descriptors of the card."""
    nic = facts.interface
    if nic is None or nic.loopback:
        return
    lost = nic.counters.get("rx_missed_errors", 0) + nic.counters.get("rx_fifo_errors", 0)
    if nic.rings is None:
        yield ok(f"the driver ({nic.driver or 'none'}) has no configurable ring")
        return
    rx, most = nic.rings
    if rx < most and (lost or rx < FEW_DESCRIPTORS):
        seen = f"{rx} receive descriptors of {most} possible, {lost:,} frames lost by the card so far"
        why = (
            "The card drops frames that the driver fetches too late, before the kernel sees them; many cards do "
            "not count them."
        )
        yield warn(seen, why, f"ethtool -G {facts.quoted} rx {min(most, 4096)}")
    else:
        yield ok(f"{rx} receive descriptors of {most} possible, {lost:,} frames lost by the card so far")


@INTERFACE.check("offloads")
def offloads(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that no offload merges frames before the capture."""
    nic = facts.interface
    if nic is None or nic.loopback:
        return
    on = nic.on(*MERGING)
    movable = [name for name in on if not nic.features[name].fixed]
    if on:
        why = (
            "Segments are merged before the capture. Captured frames differ from those on the wire, losses and "
            "duplicates among them are invisible, checksums are meaningless, and each frame needs up to 64 KiB."
        )
        words = " ".join(f"{MERGING[name]} off" for name in movable)
        fix = f"ethtool -K {facts.quoted} {words}" if movable else "the driver cannot turn this off: use another card"
        yield warn(f"{', '.join(on)} {'is' if len(on) == 1 else 'are'} on", why, fix)
    elif nic.features:
        sending = ", ".join(nic.on(*SENDING)) or "none"
        yield ok(f"frames are not merged (GRO, LRO off); for frames that this host sends: {sending}")


@INTERFACE.check("checksums")
def checksums(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Report whether wrong checksums come from the wire."""
    nic = facts.interface
    if nic is None or not nic.features:
        return
    own = [name for name in nic.features if name.startswith("tx-checksum-ip") and nic.features[name].on]
    if own and facts.config.tcp.checksums == "drop":
        why = (
            "Frames that this host sends are captured before the card fills in their checksums; the appliance "
            "counts them apart."
        )
        yield ok(f"left to the card for sent frames ({', '.join(own)}). {why}")
    else:
        yield ok(f"verified by the card: {'yes' if nic.on('rx-checksum') else 'no'}")


@INTERFACE.check("snaplen")
def snaplen(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that snaplen keeps the longest frame whole."""
    nic, kept = facts.interface, facts.config.capture.snaplen
    if nic is None:
        return
    longest = max(nic.mtu + HEADERS, facts.traffic.longest if facts.traffic else 0)
    if nic.on(*MERGING, *SENDING) and not nic.loopback:
        longest = max(longest, MERGED)
    if kept < longest:
        seen = f"{kept} bytes are captured per frame; here frames have up to {longest} bytes (MTU {nic.mtu})"
        yield warn(
            seen, "Truncated bytes are a gap in their stream, and bodies are incomplete.", f"--snaplen {longest}"
        )
    else:
        yield ok(f"{kept} bytes hold every frame (MTU {nic.mtu})")


@INTERFACE.check("MTU")
def mtu(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that the card does not refuse long frames."""
    nic = facts.interface
    if nic is None:
        return
    refused = nic.counters.get("rx_length_errors", 0) + nic.counters.get("rx_over_errors", 0)
    if refused:
        why = (
            "A card refuses frames longer than its MTU: on a TAP or SPAN of a network with jumbo frames they are lost."
        )
        yield warn(f"{refused:,} frames were too long for MTU {nic.mtu}", why, f"ip link set {facts.quoted} mtu 9216")


@INTERFACE.check("filter")
def filters(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that the filter accepts its traffic, tagged frames included."""
    text, traffic = facts.config.source.filter, facts.traffic
    if facts.filter_fault:
        yield fail(facts.filter_fault, "The capture does not start with it.", "man pcap-filter")
        return
    if not text or traffic is None:
        return
    if traffic.blind:
        seen = f"{traffic.blind:,} of {traffic.tagged:,} tagged frames are refused and would pass without their tag"
        why = "In BPF `tcp port 80` means untagged frames only. Whole VLANs are missing, and no counter shows them."
        yield warn(seen, why, "--set capture.vlan_aware=true")
    elif traffic.frames >= ENOUGH_FRAMES and not traffic.taken:
        why = "No counter includes frames that a filter refuses. Inside tunnels it sees the outer headers only."
        yield warn(
            f"{text!r} accepts none of {traffic.frames:,} frames", why, f"appliance packets -i {facts.quoted} -n 20"
        )
    else:
        yield ok(f"{text!r} accepts {traffic.taken:,} of {traffic.frames:,} frames, {traffic.tagged:,} of them tagged")


@INTERFACE.check("traffic")
def silence(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that frames arrive."""
    traffic = facts.traffic
    if traffic is None:
        return
    if not traffic.frames:
        why = "A mirror that was not configured, or a cable in the wrong port, looks like this."
        yield warn(f"no frame within {facts.look_s:g} s", why, f"appliance packets -i {facts.quoted}")
    else:
        yield ok(f"{traffic.frames:,} frames sampled, the longest of {traffic.longest:,} bytes")


@INTERFACE.check("both sides")
def both_sides(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that connections have both directions; the two halves of a TAP are two interfaces."""
    traffic = facts.traffic
    if traffic is None or not traffic.flows:
        return
    seen = f"{traffic.one_sided:,} of {traffic.flows:,} TCP connections have one direction only"
    if len(facts.config.source.interfaces) > 1:
        yield ok(f"{seen}; the other may be on another interface")
    elif traffic.one_sided > traffic.flows * HALF:
        why = "Requests without responses, or responses alone: a mirror of one direction, or half of a TAP."
        yield warn(seen, why, f"mirror both directions, or name both halves: -i {facts.quoted} -i OTHER")
    else:
        yield ok(seen)


@INTERFACE.check("copies")
def copies(facts: InterfaceFacts) -> Iterator[CheckResult]:
    """Check that frames are not duplicated."""
    traffic = facts.traffic
    if traffic is None or traffic.frames < ENOUGH_FRAMES:
        return
    seen = f"{traffic.duplicates:,} of {traffic.frames:,} frames are duplicates"
    if traffic.duplicates > traffic.frames * MUCH:
        why = (
            "The appliance recognises duplicates, but they cost as much as the originals. A mirror of both ports "
            "of a path duplicates every frame."
        )
        yield warn(seen, why, "mirror each port in one direction (rx), or one port of the path")
    else:
        yield ok(seen)
