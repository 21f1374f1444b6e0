from typing import NamedTuple

class Address(NamedTuple):
    ip: str
    netmask: str | None
    broadcast: str | None
    peer: str | None

class Device(NamedTuple):
    name: str
    description: str
    flags: list[str]
    addresses: list[Address]

def devices() -> list[Device]: ...
def bound_index(descriptor: int) -> int: ...
