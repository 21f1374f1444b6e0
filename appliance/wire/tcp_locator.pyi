from collections.abc import Mapping, Sequence

VERDICTS: tuple[str, ...]
DEFAULT_TUNNELS: int
LINK_TYPES: dict[int, str]
DEFAULT_PORTS: dict[str, tuple[int, ...]]

def find(
    link_type: int,
    frame: bytes,
    wirelen: int | None = None,
    max_tunnels: int = ...,
    vlans: bool = True,
    ports: Mapping[str, Sequence[int]] | None = None,
    quic: bool = False,
    udp: bool = False,
) -> tuple[str, int | None, int | None, int | None, list[int]]: ...
