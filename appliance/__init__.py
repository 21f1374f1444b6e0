"""Turns the packets of a network interface into a feed of HTTP events, and proves what it lost.

As a library: devices(), open_live(), open_offline(), PcapWriter, Filter and Packet; Subscriber and AsyncSubscriber
for the feed of a running appliance. README.md shows them at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.bpf import Filter
    from appliance.handle import Handle
    from appliance.interfaces import devices
    from appliance.packet import Metadata, Packet
    from appliance.pcap import open_live, open_offline
    from appliance.pcaperror import (
        BadFilter,
        FrameRefused,
        NoSuchDevice,
        NotACapture,
        PcapError,
        PermissionDenied,
        QueueFull,
        TruncatedCapture,
    )
    from appliance.savefile import PcapWriter
    from appliance.subscriber import AsyncSubscriber, Gap, Received, Subscriber

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
        **dict.fromkeys(("AsyncSubscriber", "Gap", "Received", "Subscriber"), "subscriber"),
        "Filter": "bpf",
        "Handle": "handle",
        "Metadata": "packet",
        "Packet": "packet",
        "PcapWriter": "savefile",
        "devices": "interfaces",
        "open_live": "pcap",
        "open_offline": "pcap",
    }

    def __getattr__(name: str) -> object:
        """Loads a name when it is first used (PEP 562): a short command needs none of them."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'pcaperror')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
