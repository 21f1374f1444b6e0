"""What can be wrong with an interface that is captured on. Facts in, what to say out; see finding.py."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from appliance.config import Config
from appliance.finding import Checks, Said, bad, doubt, good
from appliance.nic import Interface
from appliance.summary import size
from appliance.traffic import Traffic

MERGING = {"rx-gro": "gro", "rx-lro": "lro", "rx-gro-hw": "rx-gro-hw"}  # name of the feature: its name for ethtool -K
SENDING = ("tx-tcp-segmentation", "tx-generic-segmentation")
HEADERS = 22  # bytes in front of an MTU: addresses, two VLAN tags, type
MERGED = 65_549  # the longest frame that the kernel glues together by default, with its Ethernet header
FEW_DESCRIPTORS = 1024
ENOUGH_FRAMES = 20
MUCH = 0.01  # of all frames
HALF = 0.5


class Facts(NamedTuple):
    """All that is known of one interface."""

    name: str
    config: Config
    interface: Interface | None
    ring_asked: int
    ring_got: int  # bytes; 0: not known
    traffic: Traffic | None  # None: nobody looked
    look_s: float
    filter_fault: str = ""  # why the filter cannot be used
    capture_fault: str = ""  # why it could not be opened

    @property
    def quoted(self) -> str:
        return shlex.quote(self.name)


INTERFACE = Checks[Facts]()


@INTERFACE.check("state")
def state(facts: Facts) -> Iterator[Said]:
    """There, up, with a carrier."""
    nic = facts.interface
    if facts.name == "any":
        yield good("every interface of this host; not a device of its own")
    elif nic is None:
        yield bad("there is no such interface", "Nothing can be captured on it.", "appliance devices")
    elif not nic.up:
        yield bad("the interface is down", "No frame arrives on it.", f"ip link set {facts.quoted} up")
    elif not nic.running:
        why = "No frame can arrive. The other end is down, or the cable or the module is not what it seems."
        yield doubt("up, but no carrier", why, f"ethtool {facts.quoted}")
    else:
        speed = f", {size(nic.speed_mbit * 1e6, 'bit/s')}" if nic.speed_mbit else ""
        yield good(f"up, driver {nic.driver or 'none'}{speed}, MTU {nic.mtu}")


@INTERFACE.check("open")
def opened(facts: Facts) -> Iterator[Said]:
    """It can be opened as configured."""
    if facts.capture_fault and facts.interface is not None and facts.interface.up:
        yield bad(facts.capture_fault, "The capture will fail as this look did.", "appliance devices")


@INTERFACE.check("ring")
def ring(facts: Facts) -> Iterator[Said]:
    """The kernel's buffer has the size that was asked for."""
    asked, got = facts.ring_asked, facts.ring_got
    if not got:
        return
    if got < asked * 0.9:
        why = "The kernel had no memory for more, and libpcap takes less without a word: stalls cost frames."
        yield doubt(f"{size(asked)} asked for, {size(got)} there", why, "sysctl -w vm.compact_memory=1")
    else:
        yield good(f"{size(got)} of the kernel's memory, as asked")


@INTERFACE.check("card ring")
def card_ring(facts: Facts) -> Iterator[Said]:
    """The card's own descriptors."""
    nic = facts.interface
    if nic is None or nic.loopback:
        return
    lost = nic.counters.get("rx_missed_errors", 0) + nic.counters.get("rx_fifo_errors", 0)
    if nic.rings is None:
        yield good(f"the driver ({nic.driver or 'none'}) has no ring to turn")
        return
    rx, most = nic.rings
    if rx < most and (lost or rx < FEW_DESCRIPTORS):
        seen = f"{rx} receive descriptors of {most} possible, {lost:,} frames lost by the card so far"
        why = "What the driver does not fetch in time is lost before the kernel sees it; many cards do not count it."
        yield doubt(seen, why, f"ethtool -G {facts.quoted} rx {min(most, 4096)}")
    else:
        yield good(f"{rx} receive descriptors of {most} possible, {lost:,} frames lost by the card so far")


@INTERFACE.check("offloads")
def offloads(facts: Facts) -> Iterator[Said]:
    """Nothing glues frames together before they are captured."""
    nic = facts.interface
    if nic is None or nic.loopback:
        return
    on = nic.on(*MERGING)
    movable = [name for name in on if not nic.features[name].fixed]
    if on:
        why = (
            "Segments are glued together before they are captured: frames are not those of the wire, losses and copies "
            "among them are not seen, checksums are not those of these frames, and each needs up to 64 KiB."
        )
        words = " ".join(f"{MERGING[name]} off" for name in movable)
        mend = f"ethtool -K {facts.quoted} {words}" if movable else "the driver cannot turn this off: use another card"
        yield doubt(f"{', '.join(on)} {'is' if len(on) == 1 else 'are'} on", why, mend)
    elif nic.features:
        sending = ", ".join(nic.on(*SENDING)) or "none"
        yield good(f"frames are not merged (GRO, LRO off); for what this host sends itself: {sending}")


@INTERFACE.check("checksums")
def checksums(facts: Facts) -> Iterator[Said]:
    """Whether wrong checksums are those of the wire."""
    nic = facts.interface
    if nic is None or not nic.features:
        return
    own = [name for name in nic.features if name.startswith("tx-checksum-ip") and nic.features[name].on]
    if own and facts.config.tcp.checksums == "drop":
        why = (
            "What this host sends is captured before the card fills in its checksums; the appliance tells these apart."
        )
        yield good(f"left to the card for sent frames ({', '.join(own)}). {why}")
    else:
        yield good(f"verified by the card: {'yes' if nic.on('rx-checksum') else 'no'}")


@INTERFACE.check("snaplen")
def snaplen(facts: Facts) -> Iterator[Said]:
    """The longest frame is kept whole."""
    nic, kept = facts.interface, facts.config.capture.snaplen
    if nic is None:
        return
    longest = max(nic.mtu + HEADERS, facts.traffic.longest if facts.traffic else 0)
    if nic.on(*MERGING, *SENDING) and not nic.loopback:
        longest = max(longest, MERGED)
    if kept < longest:
        seen = f"{kept} bytes are kept of a frame; here they are up to {longest} long (MTU {nic.mtu})"
        yield doubt(seen, "What is cut off is a gap in its stream, and bodies are incomplete.", f"--snaplen {longest}")
    else:
        yield good(f"{kept} bytes hold every frame (MTU {nic.mtu})")


@INTERFACE.check("MTU")
def mtu(facts: Facts) -> Iterator[Said]:
    """The card does not refuse long frames."""
    nic = facts.interface
    if nic is None:
        return
    refused = nic.counters.get("rx_length_errors", 0) + nic.counters.get("rx_over_errors", 0)
    if refused:
        why = (
            "A card refuses frames longer than its MTU: on a TAP or SPAN of a network with jumbo frames they are lost."
        )
        yield doubt(f"{refused:,} frames were too long for MTU {nic.mtu}", why, f"ip link set {facts.quoted} mtu 9216")


@INTERFACE.check("filter")
def filters(facts: Facts) -> Iterator[Said]:
    """The filter takes what it should, tagged frames too."""
    text, traffic = facts.config.source.filter, facts.traffic
    if facts.filter_fault:
        yield bad(facts.filter_fault, "The capture does not start with it.", "man pcap-filter")
        return
    if not text or traffic is None:
        return
    if traffic.blind:
        seen = f"{traffic.blind:,} of {traffic.tagged:,} tagged frames are refused and would be taken without their tag"
        why = "In BPF `tcp port 80` means untagged frames only. Whole VLANs are missing, without any count of them."
        yield doubt(seen, why, "--set capture.vlan_aware=true")
    elif traffic.frames >= ENOUGH_FRAMES and not traffic.taken:
        why = "Frames that a filter refuses are never seen, nor counted. Inside tunnels it sees the outer headers only."
        yield doubt(
            f"{text!r} takes none of {traffic.frames:,} frames", why, f"appliance packets -i {facts.quoted} -n 20"
        )
    else:
        yield good(f"{text!r} takes {traffic.taken:,} of {traffic.frames:,} frames, {traffic.tagged:,} of them tagged")


@INTERFACE.check("traffic")
def silence(facts: Facts) -> Iterator[Said]:
    """Something arrives."""
    traffic = facts.traffic
    if traffic is None:
        return
    if not traffic.frames:
        why = "A mirror that was not configured, or a cable in the wrong port, looks like this."
        yield doubt(f"no frame within {facts.look_s:g} s", why, f"appliance packets -i {facts.quoted}")
    else:
        yield good(f"{traffic.frames:,} frames looked at, the longest of {traffic.longest:,} bytes")


@INTERFACE.check("both sides")
def both_sides(facts: Facts) -> Iterator[Said]:
    """Connections are seen in both directions; the two halves of a TAP are two interfaces."""
    traffic = facts.traffic
    if traffic is None or not traffic.flows:
        return
    seen = f"{traffic.one_sided:,} of {traffic.flows:,} TCP connections have one direction only"
    if len(facts.config.source.interfaces) > 1:
        yield good(f"{seen}; with several interfaces the other may be on another one")
    elif traffic.one_sided > traffic.flows * HALF:
        why = "Requests without responses, or responses alone: a mirror of one direction, or half of a TAP."
        yield doubt(seen, why, f"mirror both directions, or name both halves: -i {facts.quoted} -i OTHER")
    else:
        yield good(seen)


@INTERFACE.check("copies")
def copies(facts: Facts) -> Iterator[Said]:
    """Frames come once."""
    traffic = facts.traffic
    if traffic is None or traffic.frames < ENOUGH_FRAMES:
        return
    seen = f"{traffic.duplicates:,} of {traffic.frames:,} frames came twice"
    if traffic.duplicates > traffic.frames * MUCH:
        why = "They are recognised, and cost as much as the others. A mirror of both ports of a path copies twice."
        yield doubt(seen, why, "mirror each port in one direction (rx), or one port of the path")
    else:
        yield good(seen)
