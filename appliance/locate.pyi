VERDICTS: tuple[str, ...]
LINK_TYPES: dict[int, str]

def find(
    link_type: int, frame: bytes, wirelen: int | None = None, max_tunnels: int = 4, vlans: bool = True
) -> tuple[str, int | None, int | None, int | None, list[int]]: ...
