# cython: language_level=3
"""libpcap: opens interfaces and capture files.

This module exports everything of the package but writing. The others: handle (an open source), savefile_reader (plain
pcap files), pcapng_blocks (pcapng captures), devices (interfaces), bpf (filters), packet_queue (frames read ahead),
writer, errors. Man pages: pcap(3PCAP), pcap_create, pcap_activate, pcap_open_offline, fopencookie(3).
"""
import os
import stat

from libc.stdint cimport uint64_t
from libc.stdio cimport _IOFBF, FILE, fclose, setvbuf
from libc.stdlib cimport malloc
from libc.string cimport memcpy
from posix.stdio cimport fdopen

from appliance.pcap.pcapng_blocks cimport PcapngReader
from appliance.pcap.handle cimport Handle
from appliance.pcap.libpcap cimport (
    AF_PACKET, DLT_LINUX_SLL, DLT_LINUX_SLL2, PCAP_ERROR_IFACE_NOT_UP, PCAP_ERROR_NO_SUCH_DEVICE, PCAP_ERROR_PERM_DENIED,
    PCAP_ERROR_PROMISC_PERM_DENIED, PCAP_TSTAMP_PRECISION_NANO, SO_DOMAIN, SOL_SOCKET, getsockopt, open_pieces, pcap_activate,
    pcap_create, pcap_datalink, pcap_datalink_val_to_name, pcap_fopen_offline_with_tstamp_precision,
    pcap_get_selectable_fd, pcap_get_tstamp_precision, pcap_geterr, pcap_lib_version, pcap_open_dead, pcap_set_buffer_size,
    pcap_set_promisc, pcap_set_snaplen, pcap_set_timeout, pcap_set_tstamp_precision, pcap_setnonblock, pcap_statustostr,
    pcap_snapshot,
)
from appliance.pcap.savefile_reader cimport SavefileReader
from appliance.native.clock cimport monotonic_ns

from appliance.pcap.bpf import Filter
from appliance.pcap.handle import Stats
from appliance.pcap.devices import Address, Device, devices
from appliance.pcap.errors import (
    Absent, BadFilter, FrameRefused, NoSuchDevice, NotACapture, PcapError, PermissionDenied, QueueFull, TruncatedCapture,
    offline_failure,
)

__all__ = [
    "Absent", "Address", "BadFilter", "Device", "Filter", "FrameRefused", "Handle", "NoSuchDevice", "NotACapture", "PcapError",
    "PermissionDenied", "QueueFull", "Stats", "TruncatedCapture", "devices", "library_version", "open_live", "open_offline",
    "open_stream",
]

globals()["Handle"] = Handle    # cimport does not make a class an attribute
LOOPBACK = "lo"
# Maximum bytes that libpcap reads from a file at a time. Its own size is a page, which costs a quarter more kernel
# time.
cdef size_t FILE_BUFFER = 1 << 18
SECTION = b"\x0a\x0d\x0d\x0a"        # the start of a pcapng capture
LONGEST = 262144


def library_version():
    """Return libpcap's own version line."""
    return pcap_lib_version().decode()


def open_live(str device not None, *, int snaplen=262144, bint promiscuous=True, double timeout=0.05,
              long long ring_bytes=256 << 20):
    """Open a live, non-blocking Handle on an interface; packets() waits by itself.

    snaplen: maximum bytes captured per frame. timeout: seconds, the longest time that a frame waits in a partial block
    of the kernel's ring; it never ends a wait. ring_bytes: size of that ring. Raises NoSuchDevice, PermissionDenied,
    PcapError.
    """
    cdef Handle handle = Handle()
    cdef int status, domain
    cdef unsigned int size = sizeof(domain)
    cdef bytes name = device.encode()
    if snaplen < 1:
        raise ValueError(f"snaplen: at least 1, not {snaplen}")
    if not 0 < timeout < 1e6:       # 0 is undefined in libpcap
        raise ValueError(f"timeout: seconds, more than 0, not {timeout:g}")
    if not 0 < ring_bytes < 1 << 31:
        raise ValueError(f"ring_bytes: 1 to 2147483647, not {ring_bytes}")
    handle.source = device
    handle.live = True
    handle.timeout_ms = max(1, round(timeout * 1000))
    if not name or b"\0" in name:   # an empty name would mean `any`
        raise no_such_device(device)
    handle.handler = pcap_create(name, handle.errbuf)
    if handle.handler == NULL:
        raise PcapError(f"{device}: {handle.errbuf.decode(errors='replace')}")
    pcap_set_snaplen(handle.handler, snaplen)
    pcap_set_promisc(handle.handler, promiscuous)
    pcap_set_timeout(handle.handler, handle.timeout_ms)
    pcap_set_buffer_size(handle.handler, <int>ring_bytes)
    pcap_set_tstamp_precision(handle.handler, PCAP_TSTAMP_PRECISION_NANO)
    status = pcap_activate(handle.handler)
    if status < 0:
        raise live_failure(handle, status)
    if status > 0:
        handle.warning = f"{device}: {pcap_geterr(handle.handler).decode(errors='replace') or pcap_statustostr(status).decode()}"
    handle.precision_ns = pcap_get_tstamp_precision(handle.handler) == PCAP_TSTAMP_PRECISION_NANO
    handle.scale = 1 if handle.precision_ns else 1000
    handle.link_type = handle.frame_link_type = pcap_datalink(handle.handler)
    if getsockopt(pcap_get_selectable_fd(handle.handler), SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0:
        handle.packet_socket = domain == AF_PACKET
    # The kernel's filter does not see the link header that libpcap makes for an interface without one.
    handle.direct = handle.packet_socket and handle.link_type not in (DLT_LINUX_SLL, DLT_LINUX_SLL2)
    handle.mirror = device == LOOPBACK or not handle.direct
    if pcap_setnonblock(handle.handler, 1, handle.errbuf) != 0:
        raise PcapError(f"{device}: {handle.errbuf.decode(errors='replace')}")
    return handle


def no_such_device(device):
    names = ", ".join(found.name for found in devices())
    return NoSuchDevice(f"there is no interface {device!r}; there are: {names or 'none'}")


cdef live_failure(Handle handle, int status):
    """Return the exception for a failed pcap_activate."""
    device = handle.source
    detail = pcap_geterr(handle.handler).decode(errors="replace")
    reason = pcap_statustostr(status).decode()
    if status == PCAP_ERROR_NO_SUCH_DEVICE:
        return no_such_device(device)
    if status == PCAP_ERROR_PERM_DENIED or status == PCAP_ERROR_PROMISC_PERM_DENIED:
        return PermissionDenied(
            f"{device}: opening an interface needs the capability CAP_NET_RAW. Run as root, or give it to this one command: "
            "sudo setpriv --reuid \"$(id -u)\" --regid \"$(id -g)\" --init-groups --inh-caps +net_raw "
            "--ambient-caps +net_raw COMMAND, or under systemd: AmbientCapabilities=CAP_NET_RAW")
    if status == PCAP_ERROR_IFACE_NOT_UP:
        return Absent(f"{device} is down; bring it up: ip link set {device} up")
    return PcapError(f"{device}: {reason}{': ' + detail if detail and detail != reason else ''}")


def open_offline(path not None, on_secrets=None):
    """Open a capture file (pcap or pcapng, not compressed); "-" is standard input. Raises NotACapture.

    Time stamps are in nanoseconds for any unit of the file. The interfaces of a pcapng capture may differ in link type:
    each packet has its own. Names and comments in pcapng captures are ignored. on_secrets(text) is called with each TLS key log
    of a pcapng capture before the frames behind it are read.
    """
    cdef Handle handle
    cdef FILE* file
    cdef SavefileReader records
    cdef bytes name = os.fsencode(path)
    cdef int descriptor
    try:
        descriptor = os.dup(0) if name == b"-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotACapture(f"{os.fsdecode(name)}: {error.strerror}") from error
    if stat.S_IFMT(os.fstat(descriptor).st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return stream(descriptor, None, 0, os.fsdecode(name), True, on_secrets)
    start = os.lseek(descriptor, 0, os.SEEK_CUR)     # the caller may have read part of standard input
    handle = Handle()
    handle.source = os.fsdecode(name)
    if is_pcapng(descriptor, start):
        handle.pipe, handle.pipe_is_ours = descriptor, True
        return walked(handle, PcapngReader(handle.source, descriptor, start, None, handle.follow_link, on_secrets), b"")
    handle.buffer = <char*>malloc(FILE_BUFFER)
    file = fdopen(descriptor, "rb") if handle.buffer != NULL else NULL
    if file == NULL:
        os.close(descriptor)
        raise MemoryError
    setvbuf(file, handle.buffer, _IOFBF, FILE_BUFFER)
    opened(handle, file)
    records = SavefileReader()
    if start == 0 and records.begin(descriptor, pcap_snapshot(handle.handler)):
        handle.records = records
    return handle


cdef bint is_pcapng(int descriptor, start):
    """Return whether a plain file has a pcapng capture at this offset."""
    try:
        return os.pread(descriptor, len(SECTION), start) == SECTION
    except OSError:             # a directory
        return False


cdef Handle walked(Handle handle, PcapngReader blocks, bytes first):
    """Read a pcapng capture up to its first interface. Return its handle. Raises NotACapture."""
    handle.blocks = blocks
    link_type = blocks.begin(first)
    if handle.failure is not None:
        raise handle.failure
    if link_type < 0:
        raise NotACapture(f"{handle.source}: a pcapng capture without any interface")
    handle.handler = pcap_open_dead(link_type, LONGEST)     # libpcap only compiles filters for it
    if handle.handler == NULL:
        raise MemoryError
    handle.precision_ns = True
    handle.link_type = handle.frame_link_type = link_type
    return handle


cdef Handle opened(Handle handle, FILE* file):
    """Return the handle once libpcap has read the file header; the handle then owns the file."""
    handle.handler = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, handle.errbuf)
    if handle.handler == NULL:
        fclose(file)
        if handle.failure is not None:
            raise handle.failure
        raise NotACapture(offline_failure(handle.source, handle.errbuf.decode(errors="replace")))
    handle.precision_ns = True
    handle.link_type = handle.frame_link_type = pcap_datalink(handle.handler)
    return handle


def open_stream(int descriptor, idle not None, int idle_ms=20, str name="-", on_secrets=None):
    """Open a capture that comes through a pipe, a terminal or a socket.

    name: its name in messages. idle() is called whenever the stream is empty for idle_ms, and at least at that interval
    otherwise; frames read before are then complete in the sharder. It returns whether to continue; False ends the
    stream. on_secrets: as of open_offline(). Raises NotACapture, and any exception of idle(). The caller keeps the descriptor.
    """
    return stream(descriptor, idle, <uint64_t>max(1, idle_ms) * 1000000, name, False, on_secrets)


cdef ssize_t on_read(void* cookie, char* buffer, size_t size) noexcept:
    cdef Handle handle = <Handle>cookie
    cdef size_t count = len(handle.first)
    if count:
        memcpy(buffer, <const char*>handle.first, count)
        handle.first = b""
        return count
    try:
        return handle.read_piece(buffer, size)
    except BaseException as failure:
        handle.failure = failure
        return -1


cdef Handle stream(int descriptor, idle, uint64_t idle_ns, str name, bint ours, on_secrets):
    """Return a Handle that reads a descriptor in pieces, and closes it if it is `ours`."""
    cdef Handle handle = Handle()
    cdef FILE* file
    handle.source = name
    handle.pipe = descriptor
    handle.pipe_is_ours = ours
    handle.idle = idle
    handle.idle_ns = idle_ns
    handle.idle_at = monotonic_ns()
    head = bytearray(len(SECTION))
    there = 0
    while there < len(SECTION):
        count = handle.piece_into(memoryview(head)[there:])
        if count == 0:
            break
        there += count
    handle.first = bytes(head[:there])
    if handle.first == SECTION:
        return walked(handle, PcapngReader(name, -1, 0, handle.piece_into, handle.follow_link, on_secrets), handle.first)
    handle.buffer = <char*>malloc(FILE_BUFFER)
    file = open_pieces(<void*>handle, on_read, NULL, handle.buffer, FILE_BUFFER) if handle.buffer != NULL else NULL
    if file == NULL:
        raise MemoryError
    return opened(handle, file)


def name_of_link(int link_type):
    """Return libpcap's name of a link type (DLT_*), "" if it has none."""
    cdef const char* name = pcap_datalink_val_to_name(link_type)
    return name.decode() if name != NULL else ""
