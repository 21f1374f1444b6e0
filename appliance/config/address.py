"""Addresses in the options: HOST:PORT, tcp:// and ipc:// endpoints."""

from __future__ import annotations

import ipaddress
import os
import re

OFF = "off"
LONGEST_SOCKET_PATH = 107  # bytes in sockaddr_un.sun_path, less the final NUL


def split_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT or [IPV6]:PORT. Port 0 means any free one. Raises ValueError with the reason."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:9470")
    elif not re.fullmatch(r"[A-Za-z0-9._*-]+", host):
        raise ValueError(f"{host!r} is not a host name or address")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{port!r} is not a port; use 0 to 65535")
    return host, int(port)


def endpoint(text: str) -> tuple[str, int] | str:
    """Return the address of a tcp:// endpoint, or the path of an ipc:// one. Raises ValueError."""
    scheme, _, rest = text.partition("://")
    if scheme == "tcp" and rest:
        return split_address(rest)
    if scheme != "ipc" or not rest:
        raise ValueError('must be tcp://HOST:PORT, ipc://PATH or "off"')
    if len(os.fsencode(rest)) > LONGEST_SOCKET_PATH:
        raise ValueError(f"the path of a socket has at most {LONGEST_SOCKET_PATH} bytes")
    return rest


def is_loopback(host: str) -> bool:
    """Return whether only this host can reach an address. No name but "localhost" is resolved."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name or an interface, whose address may change
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
