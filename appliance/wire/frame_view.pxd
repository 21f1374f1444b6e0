# cython: language_level=3
"""The frame that tcp_locator.pyx reads, and how far."""
from libc.stdint cimport uint8_t, uint32_t

from appliance.wire.location cimport Location, Settings

cdef enum:
    LONGEST = 1 << 30               # the longest frame that is parsed; libpcap's limit is 256 KiB, 128 MiB from a file


cdef struct View:               # one frame, and what is proven about the part of it that is being read
    const uint8_t* data
    const Settings* settings
    uint32_t caplen             # readable bytes
    uint32_t wirelen            # where it ends on the wire, if that is behind caplen; see room()
    int tunnels                 # entered so far
    int tags                    # VLAN tags of the innermost Ethernet frame
    int shift                   # of the next id in Location.vlans


cdef inline bint enter(View* view, Location* out) noexcept nogil:
    """Count one more tunnel; return whether the limit allows it. VLAN tags around the tunnel do not count inside."""
    view.tunnels += 1
    view.tags = view.shift = 0
    out.vlans = 0
    return view.tunnels <= view.settings.max_tunnels


cdef inline void bound(View* view, uint32_t end, Location* out) noexcept nogil:
    """Bound the frame at the end of a datagram: no later byte belongs to it."""
    out.caplen = view.caplen = min(view.caplen, end)
    view.wirelen = min(view.wirelen, end)


cdef inline uint32_t room(const View* view, uint32_t at) noexcept nogil:
    """Return the bytes on the wire from `at` on, which is at most caplen. A file may hold any wirelen."""
    return max(view.caplen, min(view.wirelen, <uint32_t>LONGEST)) - at
