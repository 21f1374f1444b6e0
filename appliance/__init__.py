"""Turns the packets of a network interface into a feed of HTTP events, and proves what it lost.

As a library: devices(), open_live(), open_offline(), PcapWriter, Filter and Packet; Subscriber and AsyncSubscriber
for the feed of a running appliance. README.md shows them at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.packet.packet import Metadata, Packet
    from appliance.pcap.bpf import Filter
    from appliance.pcap.devices import devices
    from appliance.pcap.errors import (
        BadFilter,
        FrameRefused,
        NoSuchDevice,
        NotACapture,
        PcapError,
        PermissionDenied,
        QueueFull,
        TruncatedCapture,
    )
    from appliance.pcap.handle import Handle
    from appliance.pcap.opening import open_live, open_offline
    from appliance.pcap.writer import PcapWriter
    from appliance.subscriber.subscriber import AsyncSubscriber, Gap, Received, Subscriber

__version__ = "0.1.0"
__all__ = [
    "AsyncSubscriber",
    "BadFilter",
    "Filter",
    "FrameRefused",
    "Gap",
    "Handle",
    "Metadata",
    "NoSuchDevice",
    "NotACapture",
    "Packet",
    "PcapError",
    "PcapWriter",
    "PermissionDenied",
    "QueueFull",
    "Received",
    "Subscriber",
    "TruncatedCapture",
    "__version__",
    "devices",
    "open_live",
    "open_offline",
]

if not TYPE_CHECKING:
    _HOMES = {
        **dict.fromkeys(("AsyncSubscriber", "Subscriber"), "subscriber.subscriber"),
        **dict.fromkeys(("Gap", "Received"), "subscriber.sequencer"),
        "Filter": "pcap.bpf",
        "Handle": "pcap.handle",
        "Metadata": "packet.packet",
        "Packet": "packet.packet",
        "PcapWriter": "pcap.writer",
        "devices": "pcap.devices",
        "open_live": "pcap.opening",
        "open_offline": "pcap.opening",
    }

    def __getattr__(name: str) -> object:
        """Load a name when it is first used (PEP 562): a short command needs none of them."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'pcap.errors')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
