# cython: language_level=3
"""Interfaces: what libpcap can open here, with their addresses."""
import socket
from typing import NamedTuple

from appliance.libpcap cimport pcap_addr, pcap_findalldevs, pcap_freealldevs, pcap_if_t, sockaddr

from appliance.pcaperror import PcapError

DEVICE_FLAGS = ((0x1, "loopback"), (0x2, "up"), (0x4, "running"), (0x8, "wireless"))
CONNECTION_STATUS = {0x10: "connected", 0x20: "disconnected"}


class Address(NamedTuple):
    """One address of a device; None where there is none. `netmask` is as the system says (IPv4 dotted, IPv6 as address)."""

    ip: str
    netmask: str | None
    broadcast: str | None
    peer: str | None


class Device(NamedTuple):
    """One interface that libpcap can open."""

    name: str
    description: str
    flags: list
    addresses: list


cdef str text_of(const sockaddr* address):
    """The printable form of an IPv4 or IPv6 socket address; None for others and for NULL."""
    if address == NULL:
        return None
    if address.sa_family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, (<const char*>address)[4:8])
    if address.sa_family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, (<const char*>address)[8:24])
    return None


def devices():
    """[Device] that libpcap can open here, in its own order (best first). PcapError if the system cannot be asked."""
    cdef char errbuf[256]
    cdef pcap_if_t* first = NULL
    cdef pcap_if_t* device
    cdef pcap_addr* entry
    errbuf[0] = 0
    if pcap_findalldevs(&first, errbuf) != 0:
        raise PcapError(f"cannot list the interfaces: {errbuf.decode(errors='replace')}")
    found = []
    try:
        device = first
        while device != NULL:
            flags = [name for bit, name in DEVICE_FLAGS if device.flags & bit]
            if device.flags & 0x30 in CONNECTION_STATUS:
                flags.append(CONNECTION_STATUS[device.flags & 0x30])
            addresses = []
            entry = <pcap_addr*>device.addresses
            while entry != NULL:
                ip = text_of(entry.addr)
                if ip is not None:
                    addresses.append(Address(ip, text_of(entry.netmask), text_of(entry.broadaddr), text_of(entry.dstaddr)))
                entry = entry.next
            description = device.description.decode(errors="replace") if device.description != NULL else ""
            found.append(Device(device.name.decode(errors="replace"), description, flags, addresses))
            device = device.next
    finally:
        pcap_freealldevs(first)
    return found
