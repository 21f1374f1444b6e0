import os
from collections.abc import Callable

from appliance.bpf import Filter as Filter
from appliance.handle import Handle as Handle
from appliance.handle import Stats as Stats
from appliance.interfaces import Address as Address
from appliance.interfaces import Device as Device
from appliance.interfaces import devices as devices
from appliance.pcaperror import Absent as Absent
from appliance.pcaperror import BadFilter as BadFilter
from appliance.pcaperror import FrameRefused as FrameRefused
from appliance.pcaperror import NoSuchDevice as NoSuchDevice
from appliance.pcaperror import NotACapture as NotACapture
from appliance.pcaperror import PcapError as PcapError
from appliance.pcaperror import PermissionDenied as PermissionDenied
from appliance.pcaperror import QueueFull as QueueFull
from appliance.pcaperror import TruncatedCapture as TruncatedCapture

def library_version() -> str: ...
def open_live(
    device: str,
    *,
    snaplen: int = 262144,
    promiscuous: bool = True,
    timeout: float = 0.05,
    ring_bytes: int = ...,
) -> Handle: ...
def open_offline(path: str | os.PathLike[str]) -> Handle: ...
def open_stream(descriptor: int, idle: Callable[[], bool], idle_ms: int = 20, name: str = "-") -> Handle: ...
