# cython: language_level=3
"""Filters: pcap-filter(7) expressions, compiled once, for frames in memory and for the socket of a live handle."""
import fcntl
import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EINVAL, errno
from libc.stdint cimport uint8_t
from libc.string cimport memset

from appliance.pcap.libpcap cimport (
    BPF_K, BPF_RET, PCAP_NETMASK_UNKNOWN, SO_ATTACH_FILTER, SOL_SOCKET, bpf_insn, bpf_program, pcap_close, pcap_compile,
    pcap_freecode, pcap_geterr, pcap_offline_filter, pcap_open_dead, pcap_pkthdr, pcap_t, setsockopt, sock_filter, sock_fprog,
)

from appliance.pcap.filter_program import INSTRUCTION, RETURN, Part, UnusableExpression, link, parse
from appliance.pcap.errors import BadFilter

cdef enum:
    ETHERNET = 1                # DLT_EN10MB
    LONGEST_FRAME = 262144
OVERHEARD_BYTES = 4096
SHOWN = 200     # characters of a filter in a message


cdef bytes compile_part(pcap_t* handle, str text, bint optimise):
    """Compile a text for the link type of the handle, without the GIL. Raises BadFilter."""
    cdef bpf_program program
    cdef bytes encoded = text.encode(errors="surrogateescape")
    cdef const char* expression = encoded
    cdef int result
    if b"\0" in encoded:        # C strings end at the NUL
        raise BadFilter(f"the filter {text!r} has a NUL character in it")
    with nogil:
        result = pcap_compile(handle, &program, expression, optimise, PCAP_NETMASK_UNKNOWN)
    if result != 0:
        raise BadFilter(f"the filter {shortened(text)} does not compile: {pcap_geterr(handle).decode(errors='replace')}")
    try:
        return (<const char*>program.bf_insns)[:program.bf_len * sizeof(sock_filter)]
    finally:
        pcap_freecode(&program)


cdef bytes compile_filter(pcap_t* handle, dict parts, str text, bint vlan_aware, str only):
    """Return the instructions of a filter. parts: what was compiled before for this handle; it keeps those of this one.

    vlan_aware: also for frames inside one or two VLAN tags. only: another expression that has to hold too. Raises BadFilter.
    """
    cdef dict used = {}

    def compiler(str part, bint optimise):
        instructions = parts.get(part)
        if instructions is None:
            try:
                instructions = compile_part(handle, part, optimise)
            except BadFilter as fault:
                if "expression rejects all packets" not in str(fault):
                    raise
                instructions = INSTRUCTION.pack(RETURN, 0, 0, 0)    # the other parts decide
        used[part] = instructions
        return instructions

    try:
        instructions = link(parse(text), compiler, vlan_aware=vlan_aware, only=only)
    except UnusableExpression as reason:
        raise BadFilter(f"the filter {shortened(text)} does not compile: {reason}") from None
    except BadFilter:
        if parse(text) == Part(text, 1):
            raise
        compile_part(handle, text, False)       # report errors in the text of the user
        raise
    parts.clear()
    parts.update(used)
    return instructions


cdef str shortened(str text):
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r} and {len(text) - SHOWN:,} more characters"


cdef bpf_program program_of(bytes instructions) noexcept:
    cdef bpf_program program
    program.bf_len = <unsigned int>(len(instructions) // sizeof(sock_filter))
    program.bf_insns = <bpf_insn*><char*>instructions
    return program


cdef bytes compile_for(int link_type, int snaplen, dict parts, str text, bint vlan_aware):
    """Return instructions for frames of a link type in memory. Raises BadFilter."""
    cdef pcap_t* dead = pcap_open_dead(link_type, snaplen)
    if dead == NULL:
        raise MemoryError
    try:
        return compile_filter(dead, parts, text, vlan_aware and link_type == ETHERNET, "")
    finally:
        pcap_close(dead)


cdef bint is_long(bytes instructions) noexcept:
    """Return whether a program has more instructions than the kernel accepts."""
    return <size_t>len(instructions) > MOST_INSTRUCTIONS * sizeof(bpf_insn)


cdef class LinkFilters:
    """One filter for the frames of a pcapng capture, whose interfaces differ in link type; compiled at the first frame
    of each.
    """

    def __init__(self, str text not None, bint vlan_aware):
        self.text = text
        self.vlan_aware = vlan_aware
        self.programs = {}

    cdef bytes of(self, int link_type):
        """Return the instructions for a link type. Raises BadFilter."""
        if link_type not in self.programs:
            self.programs[link_type] = compile_for(link_type, LONGEST_FRAME, {}, self.text, self.vlan_aware)
        return self.programs[link_type]


cdef class CapturedStderr:
    """Redirects the standard error of C code into `text` while it is open."""

    def __enter__(self):
        self.text = ""
        self.file = os.memfd_create("stderr")
        self.saved = None
        try:
            self.saved = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)
            os.dup2(self.file, 2)
        except OSError:     # standard error is closed
            pass
        return self

    def __exit__(self, *exception):
        if self.saved is not None:
            os.dup2(self.saved, 2)
            os.close(self.saved)
        self.text = os.pread(self.file, OVERHEARD_BYTES, 0).decode(errors="replace").strip()
        os.close(self.file)


cdef int attach(int descriptor, const bpf_program* program) noexcept nogil:
    """Replace the filter of a packet socket atomically. Return 0, or the errno of a refusal.

    Works below libpcap, whose pcap_setfilter() refuses every frame for a moment, uncounted.
    """
    cdef sock_fprog given
    if program.bf_len > 0xffff:     # more instructions than the kernel's structure can hold
        return EINVAL
    given.len = <unsigned short>program.bf_len
    given.filter = <sock_filter*>program.bf_insns       # struct bpf_insn and struct sock_filter are equal
    return errno if setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &given, sizeof(given)) != 0 else 0


cdef int attach_refusal(int descriptor) noexcept nogil:
    """Make a packet socket refuse every new frame, while those in its ring stay readable; as attach()."""
    cdef sock_filter refuse
    cdef bpf_program program
    memset(&refuse, 0, sizeof(refuse))
    refuse.code = BPF_RET | BPF_K
    program.bf_len = 1
    program.bf_insns = <bpf_insn*>&refuse
    return attach(descriptor, &program)


cdef class Filter:
    """A filter for frames in memory.

    text: a pcap-filter(7) expression; the empty one matches every frame. link_type: DLT_* value of the frames (1:
    Ethernet). vlan_aware: match frames inside one or two VLAN tags as those without. Raises BadFilter. Thread-safe.
    """

    def __init__(self, str text not None, int link_type=1, int snaplen=262144, *, bint vlan_aware=False):
        cdef pcap_t* dead
        if self.instructions is not None:
            raise TypeError("a Filter is made once")
        if snaplen < 1:
            raise ValueError(f"snaplen: at least 1, not {snaplen}")
        self.text = text
        self.link_type = link_type
        self.snaplen = snaplen
        self.vlan_aware = vlan_aware
        dead = pcap_open_dead(link_type, snaplen)
        if dead == NULL:
            raise MemoryError
        try:
            self.instructions = compile_filter(dead, {}, text, vlan_aware, "")
        finally:
            pcap_close(dead)

    def __repr__(self):
        return f"Filter({self.text!r}, link_type={self.link_type})"

    def matches(self, frame not None, wirelen=None):
        """Return whether the filter matches a frame, which starts with the link header.

        wirelen: the length on the wire of a truncated frame, for `len` and `less`.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
        try:
            return self.takes(<const uint8_t*>view.buf, view.len, wirelen)
        finally:
            PyBuffer_Release(&view)

    cdef bint takes(self, const uint8_t* data, Py_ssize_t size, wirelen) except -1:
        cdef pcap_pkthdr header
        cdef bpf_program program
        if self.instructions is None:
            raise ValueError("this Filter was not compiled")
        if size > 0x7fffffff:
            raise ValueError(f"a frame of {size} bytes")
        if wirelen is not None and not size <= wirelen <= 0xffffffff:
            raise ValueError(f"wirelen: {wirelen} is no length on the wire of a frame with {size} bytes here")
        memset(&header, 0, sizeof(header))
        header.caplen = <unsigned int>size
        header.len = header.caplen if wirelen is None else <unsigned int>wirelen
        program = program_of(self.instructions)
        return pcap_offline_filter(&program, &header, data) != 0
