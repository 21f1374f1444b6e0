# cython: language_level=3
"""FrameSink: the target of Handle.read_into(), which makes no object per frame."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class FrameSink:
    """A base class for compiled readers of frames."""

    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen) except -1:
        """Take one frame: ts_ns since the epoch, caplen bytes that are readable during this call, wirelen as it was sent."""
        raise NotImplementedError

    cdef int use_link_type(self, int link_type) except -1:
        """Take the following frames as frames of this link type (LINKTYPE_… of pcap)."""
        raise NotImplementedError
