# cython: language_level=3
"""libpcap: devices, live and offline handles. The only file that knows libpcap.

Built on python-libpcap's C declarations and its handle base; the calls that it does not declare (buffer size, time-stamp
precision, selectable descriptor, status texts) are declared here. A Handle owns one pcap_t and closes it.
Man pages: pcap(3PCAP), pcap_activate, pcap_dispatch, pcap_stats, pcap-filter(7), packet(7).
"""
import os
import socket
import time
from typing import NamedTuple

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.errno cimport EINTR, errno
from libc.stdio cimport FILE, _IOFBF, fclose, ftell, setvbuf
from libc.string cimport memset
from posix.unistd cimport read
from pylibpcap.base cimport BasePcap
from pylibpcap.pcap cimport (
    bpf_program, pcap_addr, pcap_activate, pcap_close, pcap_compile, pcap_create, pcap_datalink,
    pcap_datalink_val_to_name, pcap_dispatch, pcap_file, pcap_findalldevs, pcap_freealldevs, pcap_freecode, pcap_geterr,
    pcap_if_t, pcap_lib_version, pcap_pkthdr, pcap_set_promisc, pcap_set_snaplen, pcap_set_timeout,
    pcap_setfilter, pcap_setnonblock, pcap_stat, pcap_stats, pcap_t, sockaddr, u_char,
)

from appliance.shard cimport Sharder, monotonic_ns


cdef extern from "pcap/pcap.h" nogil:
    int pcap_set_buffer_size(pcap_t*, int)
    int pcap_set_tstamp_precision(pcap_t*, int)
    int pcap_get_tstamp_precision(pcap_t*)
    int pcap_get_selectable_fd(pcap_t*)
    pcap_t* pcap_open_offline_with_tstamp_precision(const char*, unsigned int, char*)
    pcap_t* pcap_fopen_offline_with_tstamp_precision(FILE*, unsigned int, char*)
    const char* pcap_statustostr(int)
    enum:
        PCAP_TSTAMP_PRECISION_NANO
        PCAP_ERROR_NO_SUCH_DEVICE
        PCAP_ERROR_PERM_DENIED
        PCAP_ERROR_IFACE_NOT_UP
        PCAP_ERROR_PROMISC_PERM_DENIED
        PCAP_NETMASK_UNKNOWN

cdef extern from "sys/socket.h" nogil:
    int setsockopt(int, int, int, const void*, unsigned int)
    enum:
        SOL_SOCKET

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd*, unsigned long, int)
    enum:
        POLLIN

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdio.h>
    typedef ssize_t (*piece_reader)(void*, char*, size_t);
    static FILE* open_pieces(void* cookie, piece_reader reader) {
        cookie_io_functions_t calls = {reader, NULL, NULL, NULL};
        return fopencookie(cookie, "r", calls);
    }
    """
    ctypedef ssize_t (*piece_reader)(void*, char*, size_t) noexcept
    FILE* open_pieces(void*, piece_reader)

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

DEVICE_FLAGS = ((0x1, "loopback"), (0x2, "up"), (0x4, "running"), (0x8, "wireless"))
STREAM_BUFFER = 1 << 18         # bytes that libpcap takes from a stream at a time, at most
CONNECTION_STATUS = {0x10: "connected", 0x20: "disconnected"}


class PcapError(Exception):
    """libpcap said no; the message names the source and what to do."""


class NoSuchDevice(PcapError):
    """There is no interface of this name."""


class PermissionDenied(PcapError):
    """The process may not open packet sockets."""


class BadFilter(PcapError):
    """libpcap's compiler refused the filter."""


class NotACapture(PcapError):
    """The file is missing, empty, or in no format that libpcap reads."""


class TruncatedCapture(PcapError):
    """The file ends in the middle of a frame; every frame before the cut was delivered."""


class Address(NamedTuple):
    """One address of a device; None where there is none. `netmask` is as the system says (IPv4 dotted, IPv6 as address)."""

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
    """The printable form of an IPv4 or IPv6 socket address; None for others and for NULL."""
    if address == NULL:
        return None
    if address.sa_family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, (<const char*>address)[4:8])
    if address.sa_family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, (<const char*>address)[8:24])
    return None


def devices():
    """[Device] that libpcap can open here, in its own order (best first). PcapError if the system cannot be asked."""
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


def library_version():
    """libpcap's own version line."""
    return pcap_lib_version().decode()


cdef void on_frame(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept:
    cdef Handle handle = <Handle><void*>user
    if handle.failure is not None:
        return
    try:
        handle.sharder.add(<uint64_t>header.ts.tv_sec * 1000000000 + <uint64_t>header.ts.tv_usec * handle.scale, data,
                           header.caplen, header.len)
    except BaseException as failure:    # an exception must not cross libpcap's C frames; dispatch re-raises it
        handle.failure = failure


cdef ssize_t on_read(void* cookie, char* buffer, size_t size) noexcept:
    """The stream's next bytes for libpcap (fopencookie(3)): 0 at its end, or when idle() said that it is enough."""
    cdef Handle handle = <Handle>cookie
    cdef pollfd wanted
    cdef ssize_t count
    cdef int ready
    cdef int wait_ms = <int>(handle.idle_ns // 1000000)
    wanted.fd = handle.pipe
    wanted.events = POLLIN
    while True:
        ready = poll(&wanted, 1, wait_ms)
        if ready <= 0 or monotonic_ns() - handle.idle_at >= handle.idle_ns:
            try:
                if not handle.idle():
                    return 0
            except BaseException as failure:
                handle.failure = failure
                return -1
            handle.idle_at = monotonic_ns()
        if ready > 0:
            count = read(handle.pipe, buffer, size)
            if count >= 0 or errno != EINTR:
                return count


cdef void on_nothing(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept:
    (<uint64_t*>user)[0] += 1


cdef class Handle(BasePcap):
    """An open source of frames: open_live() and open_offline() make it; close() or a with block ends it."""

    def __init__(self):
        self.source = self.warning = ""
        self.scale = 1

    def close(self):
        if self.handler != NULL:
            pcap_close(self.handler)
            self.handler = NULL

    def __dealloc__(self):
        if self.handler != NULL:
            pcap_close(self.handler)
            self.handler = NULL

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def link_type_name(self):
        """libpcap's name of the link type, such as EN10MB."""
        cdef const char* name = pcap_datalink_val_to_name(self.link_type)
        return name.decode() if name != NULL else str(self.link_type)

    def fileno(self):
        """A descriptor that poll() reports readable when frames wait; -1 if the source has none (a regular file)."""
        return pcap_get_selectable_fd(self.handler)

    cdef int compile(self, str text, void* program) except -1:
        cdef bytes encoded = text.encode()
        if pcap_compile(self.handler, <bpf_program*>program, encoded, 1, PCAP_NETMASK_UNKNOWN) != 0:
            raise BadFilter(f"the filter {text!r} does not compile: {pcap_geterr(self.handler).decode(errors='replace')}")
        return 0

    def set_filter(self, str text not None):
        """Only frames that match this pcap-filter(7) expression from now on; BadFilter leaves the old one in force.

        On a live handle that has delivered nothing yet, frames that came in before the filter are discarded and left out
        of stats(), so that the kernel's count and ours start together.
        """
        cdef bpf_program program
        self.compile(text, &program)
        try:
            if self.live and not self.begun:
                self.discard_waiting()
            if pcap_setfilter(self.handler, &program) != 0:
                raise BadFilter(f"the filter {text!r} was refused: {pcap_geterr(self.handler).decode(errors='replace')}")
        finally:
            pcap_freecode(&program)

    def discard_waiting(self):
        """Empties the ring of a live handle whose stats nobody has seen, and counts from there."""
        cdef uint64_t discarded = 0
        self.stop_accepting()
        quiet_at = time.monotonic() + 2 * self.timeout_ms / 1000
        while time.monotonic() < quiet_at:
            if pcap_dispatch(self.handler, -1, on_nothing, <u_char*>&discarded) > 0:
                quiet_at = time.monotonic() + 2 * self.timeout_ms / 1000
            time.sleep(0.002)
        self.stats()
        self.received = self.dropped = self.if_dropped = 0

    def shard(self, Sharder sharder not None, int limit):
        """Reads up to `limit` frames into the sharder: how many there were, 0 if none wait now, -1 at the end of a file.

        Raises TruncatedCapture at a cut-off end, PcapError when the source fails; every whole frame before that is in.
        """
        cdef int count
        self.sharder = sharder
        self.begun = True
        try:
            count = pcap_dispatch(self.handler, limit, on_frame, <u_char*><void*>self)
        finally:
            self.sharder = None
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if count < 0:
            message = pcap_geterr(self.handler).decode(errors="replace")
            if not self.live and message.startswith("truncated dump file"):
                raise TruncatedCapture(f"{self.source}: {message}")
            raise PcapError(f"{self.source}: {message}")
        if count == 0 and not self.live:
            return -1
        return count

    def drain(self):
        """Reads the rest of a source and throws it away; the number of frames. libpcap's own cost, for benchmarks."""
        cdef uint64_t count = 0
        while pcap_dispatch(self.handler, -1, on_nothing, <u_char*>&count) > 0:
            pass
        return count

    def stats(self):
        """(received, dropped, dropped by the interface) since the handle was opened, 64 bits wide; zeros for a file.

        On Linux `received` counts frames that passed the filter, those dropped for lack of room included (pcap_stats(3)).
        libpcap counts in 32 bits: call this more often than they can wrap (4.8 minutes at 14.88 million frames a second).
        """
        cdef pcap_stat now
        if not self.live:
            return 0, 0, 0
        if pcap_stats(self.handler, &now) != 0:
            raise PcapError(f"{self.source}: {pcap_geterr(self.handler).decode(errors='replace')}")
        self.received += <unsigned int>(now.ps_recv - self.last[0])
        self.dropped += <unsigned int>(now.ps_drop - self.last[1])
        self.if_dropped += <unsigned int>(now.ps_ifdrop - self.last[2])
        self.last[0] = now.ps_recv
        self.last[1] = now.ps_drop
        self.last[2] = now.ps_ifdrop
        return self.received, self.dropped, self.if_dropped

    def stop_accepting(self):
        """Makes the kernel refuse every new frame while those in the ring stay readable: the first step of a drain.

        Done below libpcap, whose own set_filter() would empty the ring without counting what it threw away.
        """
        cdef sock_filter refuse
        cdef sock_fprog program
        memset(&refuse, 0, sizeof(refuse))
        refuse.code = BPF_RET | BPF_K
        program.len = 1
        program.filter = &refuse
        if setsockopt(pcap_get_selectable_fd(self.handler), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0:
            raise PcapError(f"{self.source}: the kernel refused a filter")

    def tell(self):
        """Bytes of the file read so far; 0 where that has no meaning (live, a pipe)."""
        cdef FILE* stream
        if self.live:
            return 0
        stream = <FILE*>pcap_file(self.handler)
        if self.idle is not None:
            return 0
        return max(0, ftell(stream)) if stream != NULL else 0


def open_live(str device not None, *, int snaplen=262144, bint promiscuous=True, int timeout_ms=50,
              int ring_bytes=256 << 20):
    """A live, non-blocking Handle on an interface.

    snaplen: bytes kept of each frame. timeout_ms: the longest a frame waits in a partly filled block of the kernel's ring.
    ring_bytes: size of that ring. Raises NoSuchDevice, PermissionDenied, PcapError.
    """
    cdef Handle handle = Handle()
    cdef int status
    cdef bytes name = device.encode()
    handle.source = device
    handle.live = True
    handle.timeout_ms = max(1, timeout_ms)
    handle.handler = pcap_create(name, handle.errbuf)
    if handle.handler == NULL:
        raise PcapError(f"{device}: {handle.errbuf.decode(errors='replace')}")
    pcap_set_snaplen(handle.handler, snaplen)
    pcap_set_promisc(handle.handler, promiscuous)
    pcap_set_timeout(handle.handler, handle.timeout_ms)
    pcap_set_buffer_size(handle.handler, ring_bytes)
    pcap_set_tstamp_precision(handle.handler, PCAP_TSTAMP_PRECISION_NANO)
    status = pcap_activate(handle.handler)
    if status < 0:
        raise live_failure(handle, status)
    if status > 0:
        handle.warning = f"{device}: {pcap_geterr(handle.handler).decode(errors='replace') or pcap_statustostr(status).decode()}"
    handle.precision_ns = pcap_get_tstamp_precision(handle.handler) == PCAP_TSTAMP_PRECISION_NANO
    handle.scale = 1 if handle.precision_ns else 1000
    handle.link_type = pcap_datalink(handle.handler)
    if pcap_setnonblock(handle.handler, 1, handle.errbuf) != 0:
        raise PcapError(f"{device}: {handle.errbuf.decode(errors='replace')}")
    return handle


cdef live_failure(Handle handle, int status):
    """The exception for a failed pcap_activate."""
    device = handle.source
    detail = pcap_geterr(handle.handler).decode(errors="replace")
    reason = pcap_statustostr(status).decode()
    if status == PCAP_ERROR_NO_SUCH_DEVICE:
        names = ", ".join(found.name for found in devices())
        return NoSuchDevice(f"there is no interface {device!r}; there are: {names or 'none'}")
    if status == PCAP_ERROR_PERM_DENIED or status == PCAP_ERROR_PROMISC_PERM_DENIED:
        return PermissionDenied(
            f"{device}: opening an interface needs the capability CAP_NET_RAW. Run as root, or give it to this one command: "
            "sudo setpriv --reuid \"$(id -u)\" --regid \"$(id -g)\" --init-groups --inh-caps +net_raw "
            "--ambient-caps +net_raw COMMAND, or under systemd: AmbientCapabilities=CAP_NET_RAW")
    if status == PCAP_ERROR_IFACE_NOT_UP:
        return PcapError(f"{device} is down; bring it up: ip link set {device} up")
    return PcapError(f"{device}: {reason}{': ' + detail if detail and detail != reason else ''}")


def open_offline(path not None):
    """A Handle on a capture file (pcap or pcapng, not compressed). Raises NotACapture."""
    cdef Handle handle = Handle()
    cdef bytes name = os.fsencode(path)
    handle.source = os.fsdecode(name)
    handle.handler = pcap_open_offline_with_tstamp_precision(name, PCAP_TSTAMP_PRECISION_NANO, handle.errbuf)
    if handle.handler == NULL:
        raise NotACapture(offline_failure(handle.source, handle.errbuf.decode(errors="replace")))
    handle.precision_ns = True
    handle.link_type = pcap_datalink(handle.handler)
    return handle


def open_stream(int descriptor, idle not None, int idle_ms=20, str name="-"):
    """A Handle on a capture that comes through a pipe, a terminal or a socket, whose end nobody knows yet.

    name: what messages call it. idle() is called whenever the stream has nothing for idle_ms, and at least so often while
    it has; frames read before are then complete in the sharder. It returns whether to go on; False ends the stream.
    Raises NotACapture, and whatever idle() raises. The descriptor stays the caller's.
    """
    cdef Handle handle = Handle()
    cdef FILE* stream
    handle.source = name
    handle.pipe = descriptor
    handle.idle = idle
    handle.idle_ns = <uint64_t>max(1, idle_ms) * 1000000
    handle.idle_at = monotonic_ns()
    stream = open_pieces(<void*>handle, on_read)
    if stream == NULL:
        raise MemoryError
    setvbuf(stream, NULL, _IOFBF, STREAM_BUFFER)
    handle.handler = pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, handle.errbuf)
    if handle.handler == NULL:
        fclose(stream)
        if handle.failure is not None:
            raise handle.failure
        raise NotACapture(offline_failure(handle.source, handle.errbuf.decode(errors="replace")))
    handle.precision_ns = True
    handle.link_type = pcap_datalink(handle.handler)
    return handle


def offline_failure(source, message):
    """What to tell somebody whose file libpcap did not open."""
    if source != "-" and os.path.isdir(source):
        return f"{source} is a directory, not a capture file"
    if "only got 0" in message:
        return f"{source} is empty: not a capture file"
    if message.startswith(("unknown file format", "truncated dump file")):
        return f"{source} is not a pcap or pcapng capture file ({message})"
    return message if message.startswith(source) else f"{source}: {message}"
