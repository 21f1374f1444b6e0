# cython: language_level=3
"""UDP ports of tunnels, and the proof of Teredo on any other port (RFC 4380)."""
from libc.stdint cimport uint8_t, uint32_t

from appliance.wire.flow_key cimport be16
from appliance.wire.numbers cimport PORT_GENEVE, PORT_GTP_U, PORT_TEREDO, PORT_VXLAN, PORT_VXLAN_LINUX

DEFAULT_PORTS = {"vxlan": (PORT_VXLAN, PORT_VXLAN_LINUX), "geneve": (PORT_GENEVE,), "gtp_u": (PORT_GTP_U,),
                 "teredo": (PORT_TEREDO,)}

cdef enum:
    TEREDO_PREFIX = 0x2001          # and 16 zeros


cdef bint is_teredo(const uint8_t* frame, uint32_t caplen, uint32_t at) noexcept nogil:
    """Return whether a datagram at any port is Teredo: an IPv6 packet of its exact length, with Teredo's prefix.

    One of its addresses has the prefix. Clients talk to each other from ports that a NAT has chosen (RFC 4380 section
    5.2.4). The UDP header ends at `at`.
    """
    cdef const uint8_t* p
    if at + 40 > caplen or frame[at] >> 4 != 6:
        return False
    p = frame + at
    return (be16(p + 4) + 48 == be16(p - 4)
            and ((be16(p + 8) == TEREDO_PREFIX and be16(p + 10) == 0) or (be16(p + 24) == TEREDO_PREFIX and be16(p + 26) == 0)))


cdef int use_ports(TunnelPorts* room, ports) except -1:
    cdef Ports* kinds[4]
    kinds[0], kinds[1], kinds[2], kinds[3] = &room.vxlan, &room.geneve, &room.gtp_u, &room.teredo
    for number, name in enumerate(DEFAULT_PORTS):
        wanted = (ports or DEFAULT_PORTS)[name]
        if len(wanted) > MOST_PORTS:
            raise ValueError(f"{name}: at most {MOST_PORTS} ports, not {len(wanted)}")
        kinds[number].count = <int>len(wanted)
        for place, port in enumerate(wanted):
            kinds[number].port[place] = port
    return 0
