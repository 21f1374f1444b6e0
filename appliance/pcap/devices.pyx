# cython: language_level=3
"""Interfaces that libpcap can open here, with their addresses."""
import socket
from typing import NamedTuple

from appliance.pcap.libpcap cimport pcap_addr, pcap_findalldevs, pcap_freealldevs, pcap_if_t, sockaddr

from appliance.pcap.errors import PcapError

cdef extern from *:
    """
    #include <sys/socket.h>
    #include <linux/if_packet.h>
    static int index_of_socket(int descriptor) {
        struct sockaddr_ll bound;
        socklen_t size = sizeof bound;
        if (getsockname(descriptor, (struct sockaddr *)&bound, &size) != 0 || bound.sll_family != AF_PACKET)
            return 0;
        return bound.sll_ifindex;
    }
    """
    int index_of_socket(int descriptor) noexcept nogil

DEVICE_FLAGS = ((0x1, "loopback"), (0x2, "up"), (0x4, "running"), (0x8, "wireless"))
CONNECTION_STATUS = {0x10: "connected", 0x20: "disconnected"}


class Address(NamedTuple):
    """One address of a device; None if it has none. `netmask` has the system's form (IPv4 dotted, IPv6 as address)."""

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
    """Return the printable form of an IPv4 or IPv6 socket address; None for others and for NULL."""
    if address == NULL:
        return None
    if address.sa_family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, (<const char*>address)[4:8])
    if address.sa_family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, (<const char*>address)[8:24])
    return None


def devices():
    """Return [Device] that libpcap can open here, in its own order (best first). Raises PcapError if the system call
    fails.
    """
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


def bound_index(int descriptor):
    """Return the index of the interface that a packet socket is bound to; -1 once it is gone, 0 if it is
    bound to none.
    """
    return index_of_socket(descriptor)
