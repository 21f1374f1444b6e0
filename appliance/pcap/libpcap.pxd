# cython: language_level=3
"""C declarations of the package: python-libpcap's, and those that it lacks or declares too narrowly.

Nothing of python-libpcap is imported at run time: no class of it is cimported, so the built package needs neither it
nor its Cython and headers. Man pages: pcap(3PCAP), bpf_filter in pcap-filter(7), packet(7), fopencookie(3),
stdio_ext(3).
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport FILE
from pylibpcap.pcap cimport (
    pcap_addr, pcap_activate, pcap_close, pcap_create, pcap_datalink, pcap_datalink_val_to_name, pcap_dispatch, pcap_dump,
    pcap_dump_close, pcap_dump_flush, pcap_dumper_t, pcap_file, pcap_findalldevs, pcap_freealldevs, pcap_geterr, pcap_if_t,
    pcap_inject, pcap_lib_version, pcap_open_dead, pcap_open_dead_with_tstamp_precision, pcap_pkthdr, pcap_set_promisc,
    pcap_set_snaplen, pcap_set_timeout, pcap_setnonblock, pcap_stat, pcap_stats, pcap_t, sockaddr, u_char,
)


cdef extern from "pcap/pcap.h" nogil:
    struct bpf_insn:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k
    struct bpf_program:
        unsigned int bf_len
        bpf_insn* bf_insns
    int pcap_compile(pcap_t*, bpf_program*, const char*, int, uint32_t)
    int pcap_setfilter(pcap_t*, bpf_program*)
    void pcap_freecode(bpf_program*)
    int pcap_offline_filter(const bpf_program*, const pcap_pkthdr*, const uint8_t*)
    int pcap_set_buffer_size(pcap_t*, int)
    int pcap_set_tstamp_precision(pcap_t*, int)
    int pcap_get_tstamp_precision(pcap_t*)
    int pcap_get_selectable_fd(pcap_t*)
    int pcap_snapshot(pcap_t*)
    pcap_t* pcap_fopen_offline_with_tstamp_precision(FILE*, unsigned int, char*)
    pcap_dumper_t* pcap_dump_fopen(pcap_t*, FILE*)
    const char* pcap_statustostr(int)
    enum:
        PCAP_TSTAMP_PRECISION_MICRO
        PCAP_TSTAMP_PRECISION_NANO
        PCAP_ERROR_NO_SUCH_DEVICE
        PCAP_ERROR_PERM_DENIED
        PCAP_ERROR_IFACE_NOT_UP
        PCAP_ERROR_PROMISC_PERM_DENIED
        PCAP_NETMASK_UNKNOWN
        DLT_LINUX_SLL
        DLT_LINUX_SLL2

cdef extern from "sys/socket.h" nogil:
    int setsockopt(int, int, int, const void*, unsigned int)
    int getsockopt(int, int, int, void*, unsigned int*)
    enum:
        SOL_SOCKET
        SO_DOMAIN
        AF_PACKET

cdef extern from "linux/filter.h" nogil:
    struct sock_filter:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k
    struct sock_fprog:
        unsigned short len
        sock_filter* filter
    enum:
        SO_ATTACH_FILTER
        BPF_RET
        BPF_K

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)
    enum:
        POLLIN
        POLLOUT

cdef extern from "sys/eventfd.h" nogil:
    int eventfd(unsigned int, int)
    int eventfd_write(int, unsigned long long)
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdio.h>
    #include <stdio_ext.h>
    typedef ssize_t (*piece_reader)(void*, char*, size_t);
    typedef ssize_t (*piece_writer)(void*, const char*, size_t);
    static inline FILE* open_pieces(void* cookie, piece_reader reader, piece_writer writer, char* buffer, size_t size) {
        cookie_io_functions_t calls = {reader, writer, NULL, NULL};
        FILE* file = fopencookie(cookie, reader != NULL ? "r" : "w", calls);
        if (file != NULL)
            setvbuf(file, buffer, _IOFBF, size);
        return file;
    }
    """
    ctypedef ssize_t (*piece_reader)(void*, char*, size_t) noexcept
    ctypedef ssize_t (*piece_writer)(void*, const char*, size_t) noexcept
    # glibc needs the buffer: it ignores a size alone
    FILE* open_pieces(void*, piece_reader, piece_writer, char* buffer, size_t)
    void discard_buffer "__fpurge"(FILE*)
