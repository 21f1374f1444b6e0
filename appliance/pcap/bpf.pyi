from typing import final

@final
class Filter:
    text: str
    link_type: int
    snaplen: int
    vlan_aware: bool
    def __init__(self, text: str, link_type: int = 1, snaplen: int = 262144, *, vlan_aware: bool = False) -> None: ...
    def matches(self, frame: bytes | bytearray | memoryview, wirelen: int | None = None) -> bool: ...
