# cython: language_level=3
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    MOST_PORTS = 8          # of a kind of tunnel


cdef struct Ports:          # UDP ports of a kind of tunnel
    int count
    uint16_t port[MOST_PORTS]


cdef struct TunnelPorts:
    Ports vxlan
    Ports geneve
    Ports gtp_u
    Ports teredo


cdef int use_ports(TunnelPorts* room, ports) except -1      # {kind of tunnel: ports}; None: DEFAULT_PORTS
cdef bint is_teredo(const uint8_t* frame, uint32_t caplen, uint32_t at) noexcept nogil


cdef inline bint is_one(const Ports* ports, uint16_t port) noexcept nogil:
    cdef int number
    for number in range(ports.count):
        if ports.port[number] == port:
            return True
    return False
