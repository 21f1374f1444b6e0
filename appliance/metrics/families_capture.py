"""The metrics of the capture processes."""

from appliance.metrics.family import (
    INTERFACE,
    WORKER,
    MetricsInput,
    Rows,
    by_interface,
    counter,
    gauge,
    interfaces,
    verdicts,
)
from appliance.stats.names import BLIND, FRAGMENT_OUTCOMES


def _capture_up(view: MetricsInput) -> Rows:
    return [([name], view.up(f"capture-{c}", page)) for c, (name, page) in enumerate(interfaces(view))]


def _capture_restarts(view: MetricsInput) -> Rows:
    return [([n], view.pages.supervisor[f"restarts.capture.{c}"]) for c, (n, _) in enumerate(interfaces(view))]


def _capture_dropped(view: MetricsInput) -> Rows:
    for name, page in interfaces(view):
        yield [name, "nic"], page["kernel_if_dropped"]
        yield [name, "kernel"], page["kernel_dropped"]
        yield [name, "abandoned"], page["kernel_abandoned"]


def _capture_rejected(view: MetricsInput) -> Rows:
    return [([name, verdict], n) for name, page in interfaces(view) for verdict, n in verdicts(page)]


def _fragments(view: MetricsInput) -> Rows:
    return [
        ([name, outcome], page[f"fragments.{outcome}"])
        for name, page in interfaces(view)
        for outcome in FRAGMENT_OUTCOMES
    ]


def _blind(view: MetricsInput) -> Rows:
    return [([name, why], page[f"blind_ns.{why}"] * 1e-9) for name, page in interfaces(view) for why in BLIND]


def _shed_ratio(view: MetricsInput) -> Rows:
    """Return the shed ratio by worker: the largest of its captures, which all of them apply."""
    captures = view.pages.captures
    return [([str(w)], max(page[f"shed_steps.{w}"] for page in captures) / 256) for w in range(len(view.pages.workers))]


CAPTURE_FAMILIES = (
    gauge("capture_up", "1 while the capture runs and is ready.", INTERFACE, _capture_up),
    counter("capture_restarts", "Restarts of the capture.", INTERFACE, _capture_restarts),
    counter("capture_frames", "Frames read by the capture.", INTERFACE, by_interface("frames")),
    counter("capture_bytes", "Captured bytes of the frames read.", INTERFACE, by_interface("bytes")),
    counter("capture_wire_bytes", "Bytes on the wire of the frames read.", INTERFACE, by_interface("wire_bytes")),
    counter("capture_kernel_received_frames", "Frames that the kernel received, with dropped ones; 0 for a file.",
            INTERFACE, by_interface("kernel_received")),
    counter("capture_dropped_frames", "Frames lost before they were read: by the interface (nic), in a full ring "
            "(kernel), in the ring of a killed capture (abandoned).",
            ("interface", "stage"), _capture_dropped),
    counter("capture_rejected_frames", "Frames without a usable TCP segment, by reason.", ("interface", "reason"),
            _capture_rejected),
    counter("capture_fragments", "IP fragments, by outcome; merged: part of a whole datagram.",
            ("interface", "outcome"), _fragments),
    gauge("capture_fragments_held", "IP fragments that wait for the rest of their datagram.", INTERFACE,
          by_interface("fragments.held")),
    counter("capture_reassembled_datagrams", "IP datagrams reassembled from fragments.",
            INTERFACE, by_interface("reassembled")),
    counter("capture_fragment_conflicts", "IPv4 fragments with other bytes for a range already received.",
            INTERFACE, by_interface("fragment_conflicts")),
    counter("capture_truncated_frames", "Frames truncated at the snapshot length.",
            INTERFACE, by_interface("truncated_frames")),
    counter("capture_looped_frames", "Second copies of loopback frames, which libpcap discards.",
            INTERFACE, by_interface("looped_frames")),
    counter("capture_shed_frames", "Frames of connections that load shedding dropped as a whole.",
            INTERFACE, by_interface("shed_frames")),
    counter("capture_shed_bytes", "Captured bytes of the frames that load shedding dropped.", INTERFACE,
            by_interface("shed_bytes")),
    counter("capture_shed_flows", "Connections dropped by load shedding.", INTERFACE, by_interface("shed_flows")),
    counter("capture_shed_evicted_flows", "Shed connections evicted from the full table before their end.",
            INTERFACE, by_interface("shed_evicted")),
    gauge("capture_shed_ratio", "Share of the worker's new connections that load shedding drops now.",
          WORKER, _shed_ratio),
    gauge("capture_kernel_shed_ratio", "Share of all connections whose frames the kernel filter refuses now, "
          "uncounted.",
          INTERFACE, by_interface("kernel_shed_steps", 1 / 256)),
    counter("capture_kernel_shed_seconds", "Time during which the kernel filter refused connections.",
            INTERFACE, by_interface("kernel_shed_ns", 1e-9)),
    gauge("capture_link_down", "1 while the interface is down, without a carrier, or gone.", INTERFACE,
          by_interface("link_down")),
    counter("capture_blind_seconds", "Time during which frames could pass uncounted: link down, interface gone, "
            "capture restarting, non-atomic filter change.",
            ("interface", "reason"), _blind),
    gauge("capture_last_frame_timestamp_seconds", "Time stamp of the last frame read.", INTERFACE,
          by_interface("last_frame_ns", 1e-9)),
    counter("capture_input_read_bytes", "Bytes read of the capture file.", INTERFACE,
            by_interface("input_bytes_read")),
    gauge("capture_input_size_bytes", "Size of the capture file; 0 without a file or for an unknown size.",
          INTERFACE, by_interface("input_bytes_total")),
)  # fmt: skip
