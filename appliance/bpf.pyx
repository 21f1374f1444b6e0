# cython: language_level=3
"""Filters: pcap-filter(7) expressions, compiled once, for frames in memory and for the socket of a live handle."""
from libc.errno cimport EINVAL, errno
from libc.stdint cimport uint8_t
from libc.string cimport memset

from appliance.libpcap cimport (
    BPF_K, BPF_RET, PCAP_NETMASK_UNKNOWN, SO_ATTACH_FILTER, SOL_SOCKET, bpf_insn, bpf_program, pcap_close, pcap_compile,
    pcap_freecode, pcap_geterr, pcap_offline_filter, pcap_open_dead, pcap_pkthdr, pcap_t, setsockopt, sock_filter, sock_fprog,
)

from appliance.pcaperror import BadFilter


cdef int compile_filter(pcap_t* handle, str text, bpf_program* program) except -1:
    """Compiles for the link type of the handle; the caller frees with pcap_freecode(). Raises BadFilter."""
    cdef bytes encoded = text.encode()
    if b"\0" in encoded:        # C would see the text only up to there
        raise BadFilter(f"the filter {text!r} has a NUL character in it")
    if pcap_compile(handle, program, encoded, 1, PCAP_NETMASK_UNKNOWN) != 0:
        raise BadFilter(f"the filter {text!r} does not compile: {pcap_geterr(handle).decode(errors='replace')}")
    return 0


cdef int attach(int descriptor, const bpf_program* program) noexcept nogil:
    """Makes this the filter of a packet socket from one frame to the next; 0, or the errno of a refusal.

    Done below libpcap, whose own pcap_setfilter() lets no frame in for a moment, and counts none of those it refused.
    """
    cdef sock_fprog given
    if program.bf_len > 0xffff:     # more instructions than the kernel's structure can say
        return EINVAL
    given.len = <unsigned short>program.bf_len
    given.filter = <sock_filter*>program.bf_insns       # struct bpf_insn and struct sock_filter are the same
    return errno if setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &given, sizeof(given)) != 0 else 0


cdef int attach_refusal(int descriptor) noexcept nogil:
    """Makes a packet socket refuse every new frame, while those in its ring stay readable; as attach()."""
    cdef sock_filter refuse
    cdef bpf_program program
    memset(&refuse, 0, sizeof(refuse))
    refuse.code = BPF_RET | BPF_K
    program.bf_len = 1
    program.bf_insns = <bpf_insn*>&refuse
    return attach(descriptor, &program)


cdef class Filter:
    """A filter for frames in memory. text: a pcap-filter(7) expression; the empty one matches every frame.

    link_type: DLT_* value of the frames (1: Ethernet). Raises BadFilter. May be used from several threads.
    """

    def __init__(self, str text not None, int link_type=1, int snaplen=262144):
        cdef pcap_t* dead
        if self.compiled:
            raise TypeError("a Filter is made once")
        if snaplen < 1:
            raise ValueError(f"snaplen: at least 1, not {snaplen}")
        self.text = text
        self.link_type = link_type
        self.snaplen = snaplen
        dead = pcap_open_dead(link_type, snaplen)
        if dead == NULL:
            raise MemoryError
        try:
            compile_filter(dead, text, &self.program)
            self.compiled = True
        finally:
            pcap_close(dead)

    def __dealloc__(self):
        if self.compiled:
            pcap_freecode(&self.program)

    def __repr__(self):
        return f"Filter({self.text!r}, link_type={self.link_type})"

    def matches(self, const uint8_t[::1] frame not None, wirelen=None):
        """Whether it takes a frame, given from the link header on.

        wirelen: how long the frame was on the wire, when what is here was cut; `len` and `less` look at it.
        """
        cdef pcap_pkthdr header
        cdef const uint8_t* data = &frame[0] if frame.shape[0] else <const uint8_t*>b""
        if not self.compiled:
            raise ValueError("this Filter was not compiled")
        if frame.shape[0] > 0x7fffffff:
            raise ValueError(f"a frame of {frame.shape[0]} bytes")
        if wirelen is not None and not frame.shape[0] <= wirelen <= 0xffffffff:
            raise ValueError(f"wirelen: {wirelen} is no length on the wire of a frame with {frame.shape[0]} bytes here")
        memset(&header, 0, sizeof(header))
        header.caplen = <unsigned int>frame.shape[0]
        header.len = header.caplen if wirelen is None else <unsigned int>wirelen
        return pcap_offline_filter(&self.program, &header, data) != 0
