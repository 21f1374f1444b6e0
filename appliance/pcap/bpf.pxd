# cython: language_level=3
from libc.stdint cimport uint8_t

from appliance.pcap.libpcap cimport bpf_program, pcap_t


cdef bytes compile_part(pcap_t* handle, str text, bint optimise)
cdef bytes compile_filter(pcap_t* handle, dict parts, str text, bint vlan_aware, str only)
cdef bpf_program program_of(bytes instructions) noexcept      # which keeps them alive
cdef bytes compile_for(int link_type, int snaplen, dict parts, str text, bint vlan_aware)
cdef bint is_long(bytes instructions) noexcept          # more than the kernel accepts
cdef int attach(int descriptor, const bpf_program* program) noexcept nogil     # 0, or the errno
cdef int attach_refusal(int descriptor) noexcept nogil


cdef enum:
    MOST_INSTRUCTIONS = 4096    # of a program in the kernel: BPF_MAXINSNS of linux/bpf_common.h


cdef class LinkFilters:
    cdef str text
    cdef bint vlan_aware
    cdef dict programs          # by link type
    cdef bytes of(self, int link_type)


cdef class CapturedStderr:
    cdef readonly str text
    cdef object file
    cdef object saved


cdef class Filter:
    cdef readonly str text          # the expression
    cdef readonly int link_type     # DLT_* value
    cdef readonly int snaplen
    cdef readonly bint vlan_aware
    cdef bytes instructions
    cdef bint takes(self, const uint8_t* data, Py_ssize_t size, wirelen) except -1
