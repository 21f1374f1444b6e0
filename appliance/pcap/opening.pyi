import os
from collections.abc import Callable

from appliance.pcap.bpf import Filter as Filter
from appliance.pcap.devices import Address as Address
from appliance.pcap.devices import Device as Device
from appliance.pcap.devices import devices as devices
from appliance.pcap.errors import Absent as Absent
from appliance.pcap.errors import BadFilter as BadFilter
from appliance.pcap.errors import FrameRefused as FrameRefused
from appliance.pcap.errors import NoSuchDevice as NoSuchDevice
from appliance.pcap.errors import NotACapture as NotACapture
from appliance.pcap.errors import PcapError as PcapError
from appliance.pcap.errors import PermissionDenied as PermissionDenied
from appliance.pcap.errors import QueueFull as QueueFull
from appliance.pcap.errors import TruncatedCapture as TruncatedCapture
from appliance.pcap.handle import Handle as Handle
from appliance.pcap.handle import Stats as Stats

def library_version() -> str: ...
def open_live(
    device: str,
    *,
    snaplen: int = 262144,
    promiscuous: bool = True,
    timeout: float = 0.05,
    ring_bytes: int = ...,
) -> Handle: ...
def open_offline(path: str | os.PathLike[str], on_secrets: Callable[[bytes], None] | None = None) -> Handle: ...
def open_stream(
    descriptor: int,
    idle: Callable[[], bool],
    idle_ms: int = 20,
    name: str = "-",
    on_secrets: Callable[[bytes], None] | None = None,
) -> Handle: ...
def name_of_link(link_type: int) -> str: ...
