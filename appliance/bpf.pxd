# cython: language_level=3
from appliance.libpcap cimport bpf_program, pcap_t


cdef int compile_filter(pcap_t* handle, str text, bpf_program* program) except -1
cdef int attach(int descriptor, const bpf_program* program) noexcept nogil     # 0, or what errno says
cdef int attach_refusal(int descriptor) noexcept nogil


cdef class Filter:
    cdef readonly str text          # the expression
    cdef readonly int link_type     # DLT_* value
    cdef readonly int snaplen
    cdef bpf_program program
    cdef bint compiled
