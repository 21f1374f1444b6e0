from typing import NamedTuple

from typing_extensions import Buffer

KEPT_BATCHES: int

class BatchHeader(NamedTuple):
    epoch: int
    sequence: int
    frames: int
    cumulative: int
    capture: int
    end: bool
    sealed_ns: int
    length: int
    link_type: int
    reassembled: bool

class BadBatch(ValueError): ...

def header(message: Buffer) -> BatchHeader: ...
def stamp(message: Buffer, sequence: int, cumulative: int) -> None: ...
def frames(message: Buffer) -> list[tuple[int, int, bytes]]: ...
