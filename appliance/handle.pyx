# cython: language_level=3
"""An open source of frames: into a Sharder or as Packets; its filter, its counters, and frames sent through it.

Built on python-libpcap's handle base; the calls that it does not declare are in libpcap.pxd. A Handle owns one pcap_t and
closes it; pcap.pyx opens them. Man pages: pcap(3PCAP), pcap_dispatch, pcap_stats, pcap_inject, pcap-filter(7), packet(7).
"""
import fcntl
import os
import struct
import time
from typing import NamedTuple

cimport libc.errno
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport SEEK_SET, FILE, fseek, ftell
from libc.stdlib cimport free
from posix.unistd cimport close, read

from appliance.bpf cimport attach, attach_refusal, compile_filter
from appliance.libpcap cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, POLLIN, POLLOUT, bpf_program, eventfd, eventfd_write, pcap_close, pcap_datalink_val_to_name,
    pcap_dispatch, pcap_file, pcap_freecode, pcap_get_selectable_fd, pcap_geterr, pcap_inject, pcap_pkthdr, pcap_setfilter,
    pcap_stat, pcap_stats, poll, pollfd, u_char,
)
from appliance.pending cimport About
from appliance.shard cimport monotonic_ns

from appliance.pcaperror import BadFilter, FrameRefused, PcapError, reading_failure, sending_failure

SIOCGIFMTU = 0x8921
cdef enum:
    CHUNK = 256                 # frames that packets() takes from the ring at a time
    HELD_BYTES = 64 << 20       # frames taken from the ring before libpcap changes its filter: at most about so much
    SLICE_NS = 250000000        # an idle wait looks this often whether the interface is still there
    BLIND_SLICE_NS = 10000000   # the same for a source without a descriptor to wait on
    SEND_NS = 1000000000        # inject() waits so long for room in the socket
SETTLE_S = 0.005                # a frame that passed a filter just replaced is in the ring after that
cdef uint64_t FOREVER = <uint64_t>-1
cdef uint64_t LONGEST_NS = <uint64_t>0x7fffffff * 1000000 - 1000000     # that poll() can count in ms
cdef object new_packet = None   # appliance.packet's classes, once packets() is used
cdef object new_metadata = None


class Stats(NamedTuple):
    """Frames since a handle was opened; zeros for a file."""

    received: int
    dropped: int
    if_dropped: int


cdef inline uint64_t time_of(const pcap_pkthdr* header, uint64_t scale) noexcept:
    """ns since the epoch. libpcap takes the 32 bits of a file's seconds for signed, which they are not: 2038 to 2106."""
    cdef int64_t seconds = <int64_t>header.ts.tv_sec
    if seconds < 0:
        seconds += <int64_t>1 << 32
    return <uint64_t>seconds * 1000000000 + <uint64_t>header.ts.tv_usec * scale


cdef void on_frame(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept:
    cdef Handle handle = <Handle><void*>user
    if handle.failure is not None:
        return
    if handle.skip:
        handle.skip -= 1
        return
    try:
        handle.sharder.add(time_of(header, handle.scale), data, header.caplen, header.len)
    except BaseException as failure:    # an exception must not cross libpcap's C frames; read_some re-raises it
        handle.failure = failure


cdef void on_packet(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept:
    cdef Handle handle = <Handle><void*>user
    if handle.failure is not None:
        return
    if handle.skip:
        handle.skip -= 1
        return
    try:
        handle.pending.add(time_of(header, handle.scale), data, header.caplen, header.len)
    except BaseException as failure:
        handle.failure = failure


cdef void on_nothing(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept:
    (<uint64_t*>user)[0] += 1


cdef class Handle(BasePcap):
    """An open source of frames: open_live() and open_offline() make it; close() or a with block ends it.

    One thread reads it; stop(), close(), stats(), set_filter() and inject() may be called from any other, and from a signal
    handler.
    """

    def __init__(self):
        self.source = self.warning = ""
        self.scale = 1
        self.pipe = self.wake = -1
        self.pending = Pending()

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self):
        """Gives everything back. A thread that waits in packets() ends its iteration first, and closes in our place."""
        self.closing = True
        if self.busy:
            if self.wake >= 0:
                eventfd_write(self.wake, 1)
        else:
            self.release()

    def stop(self):
        """Ends every iteration over packets(), the running one at once, also one that waits; the handle stays open."""
        self.stopping = True
        if self.wake >= 0:
            eventfd_write(self.wake, 1)

    cdef int leave(self) noexcept:
        self.busy -= 1
        return self.release() if self.closing and self.busy == 0 else 0

    cdef int release(self) noexcept:
        if self.handler != NULL:
            pcap_close(self.handler)
            self.handler = NULL
        free(self.buffer)
        self.buffer = NULL
        if self.wake >= 0:
            close(self.wake)
            self.wake = -1
        if self.pipe_is_ours:
            close(self.pipe)
            self.pipe_is_ours = False
        return 0

    def __dealloc__(self):
        self.release()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    cdef int check_open(self) except -1:
        if self.handler == NULL or self.closing:
            raise PcapError(f"{self.source}: the handle is closed")
        return 0

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def link_type_name(self):
        """libpcap's name of the link type, such as EN10MB."""
        cdef const char* name = pcap_datalink_val_to_name(self.link_type)
        return name.decode() if name != NULL else str(self.link_type)

    @property
    def seamless(self):
        """Whether the filter can be changed so that no frame is refused or uncounted meanwhile."""
        return self.direct and self.begun

    def fileno(self):
        """A descriptor that poll() reports readable when frames wait; -1 if the source has none (a regular file)."""
        self.check_open()
        return pcap_get_selectable_fd(self.handler)

    def tell(self):
        """Bytes of the file read so far; 0 where that has no meaning (live, a pipe)."""
        cdef FILE* stream
        self.check_open()
        if self.live or self.pipe >= 0:
            return 0
        if self.records is not None:
            return self.records.offset
        stream = <FILE*>pcap_file(self.handler)
        return max(0, ftell(stream)) if stream != NULL else 0

    def stats(self):
        """Stats(received, dropped, if_dropped) since the handle was opened, 64 bits wide; zeros for a file.

        On Linux `received` counts frames that passed the filter, those `dropped` for lack of room in the ring included
        (pcap_stats(3)); received - dropped are delivered or still to be read. `if_dropped`: by the interface, as far as it
        says. libpcap counts in 32 bits: call this more often than they can wrap (4.8 minutes at 14.88 million frames a
        second).
        """
        cdef pcap_stat now
        self.check_open()
        if not self.live:
            return Stats(0, 0, 0)
        if pcap_stats(self.handler, &now) != 0:
            raise PcapError(f"{self.source}: {pcap_geterr(self.handler).decode(errors='replace')}")
        self.received += <unsigned int>(now.ps_recv - self.last[0])
        self.dropped += <unsigned int>(now.ps_drop - self.last[1])
        self.if_dropped += <unsigned int>(now.ps_ifdrop - self.last[2])
        self.last[0] = now.ps_recv
        self.last[1] = now.ps_drop
        self.last[2] = now.ps_ifdrop
        return Stats(self.received, self.dropped, self.if_dropped)

    # -- filters -------------------------------------------------------------------------------------------------------

    def set_filter(self, str text not None):
        """Only frames that match this pcap-filter(7) expression from now on; BadFilter leaves the old one in force.

        The first filter of a live handle, if nothing was read yet, discards the frames that came in before it and leaves
        them out of stats(), so that the kernel's count and ours start together. Later changes lose nothing: the kernel
        tests each frame against the old filter or the new one, and those that it captured before are still delivered,
        whatever the new one says. Only where libpcap filters by itself (`any` and other interfaces without a link header
        of their own; a program that is too long for the kernel) a change is not seamless: what came in before is kept up
        to 64 MiB, but frames that arrive while it is made are refused and in no count.
        """
        cdef bpf_program program
        self.check_open()
        compile_filter(self.handler, text, &program)
        try:
            if self.packet_socket and not self.begun:
                self.discard_waiting()
            if self.direct:
                if attach(pcap_get_selectable_fd(self.handler), &program) == 0:
                    self.begun = True
                    return
                self.direct, self.mirror = False, True      # libpcap will drop frames by itself
                if not self.begun:
                    self.discard_waiting()
            while self.live and self.begun and self.pending.bytes < HELD_BYTES and self.read_some(CHUNK, on_packet) > 0:
                pass
            self.skip = 0
            self.hand_over()
            if pcap_setfilter(self.handler, &program) != 0:
                raise BadFilter(f"the filter {text!r} was refused: {pcap_geterr(self.handler).decode(errors='replace')}")
            self.begun = True
        finally:
            pcap_freecode(&program)

    cdef int discard_waiting(self) except -1:
        """What came in so far will not be delivered, and stats() counts from here. The kernel refuses frames from then on."""
        cdef uint64_t discarded = 0
        self.stop_accepting()
        time.sleep(SETTLE_S)
        self.stats()
        if self.mirror:         # libpcap drops some of these frames by itself: only an empty ring says that they are gone
            quiet_at = time.monotonic() + 2 * self.timeout_ms / 1000
            while discarded < self.received - self.dropped and time.monotonic() < quiet_at:
                if pcap_dispatch(self.handler, -1, on_nothing, <u_char*>&discarded) > 0:
                    quiet_at = time.monotonic() + 2 * self.timeout_ms / 1000
                time.sleep(0.002)
                self.check_open()
            self.skip = 0
        else:
            self.skip += self.received - self.dropped
        self.received = self.dropped = self.if_dropped = 0
        return 0

    def stop_accepting(self):
        """Makes the kernel refuse every new frame while those in the ring stay readable: the first step of a drain."""
        self.check_open()
        if attach_refusal(pcap_get_selectable_fd(self.handler)) != 0:
            raise PcapError(f"{self.source}: the kernel refused a filter")

    # -- reading -------------------------------------------------------------------------------------------------------

    cdef int read_some(self, int limit, frame_taker taker) except -2:
        """Up to `limit` frames through the callback: how many, 0 if none wait now, -1 at the end of a file or a stop."""
        cdef int count
        cdef bytes message = b""
        self.check_open()
        if self.reading:
            raise PcapError(f"{self.source}: another thread is reading it")
        self.begun = self.reading = True
        self.busy += 1
        count = 0
        if self.records is not None:
            count = self.records.dispatch(limit, taker, <u_char*><void*>self)
        if count == 0:
            self.hand_over()
            count = pcap_dispatch(self.handler, limit, taker, <u_char*><void*>self)
        if count < 0:
            message = pcap_geterr(self.handler)
        self.reading = False
        self.leave()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if count < 0 and not (self.pipe >= 0 and self.idle is None and (self.stopping or self.closing)):
            raise reading_failure(self.source, message.decode(errors="replace"), self.live)
        return count if count > 0 or self.live else -1

    cdef int hand_over(self) except -1:
        """From here on libpcap reads, from where we are in the file."""
        if self.records is not None:
            if fseek(<FILE*>pcap_file(self.handler), <long>self.records.offset, SEEK_SET) != 0:
                raise PcapError(f"{self.source}: {os.strerror(libc.errno.errno)}")
            self.records = None
        return 0

    def shard(self, Sharder sharder not None, int limit):
        """Reads up to `limit` frames into the sharder: how many there were, 0 if none wait now, -1 at the end of a file.

        Raises TruncatedCapture at a cut-off end, PcapError when the source fails; every whole frame before that is in.
        """
        cdef About about
        cdef bytes frame
        cdef int count = 0
        while count < limit and len(self.pending):
            frame = self.pending.take(&about)
            sharder.add(about.ts_ns, <const uint8_t*>frame, <unsigned int>len(frame), about.wirelen)
            count += 1
        if count:
            return count
        self.sharder = sharder
        try:
            return self.read_some(limit, on_frame)
        finally:
            self.sharder = None

    def drain(self):
        """Reads the rest of a source and throws it away; the number of frames. What reading costs, for benchmarks."""
        cdef uint64_t count = 0
        self.check_open()
        while self.records is not None and self.records.dispatch(CHUNK, on_nothing, <u_char*>&count) > 0:
            pass
        self.hand_over()
        while pcap_dispatch(self.handler, -1, on_nothing, <u_char*>&count) > 0:
            pass
        return count

    def packets(self, *, limit=None, timeout=None):
        """Iterates over the frames as appliance.packet.Packet, each with bytes of its own.

        Live it waits for frames and ends only with close(), stop() or after `limit` packets; an idle interface yields
        nothing, unless `timeout` is given: then None whenever that many seconds pass without a frame, for work that has to
        be done from time to time. Signals are handled while it waits. A file ends at its end, and never yields None.
        Raises TruncatedCapture at a cut-off end, PcapError when the source fails or the interface disappears, each after
        the last whole frame. `metadata.interface` is the name of the interface, "" for a file.
        """
        global new_packet, new_metadata
        self.check_open()
        if limit is not None and limit < 0:
            raise ValueError(f"limit: at least 0, not {limit}")
        if timeout is not None and not 0 <= timeout < 1e9:
            raise ValueError(f"timeout: seconds, not {timeout}")
        if new_packet is None:
            from appliance.packet import Metadata, Packet
            new_packet, new_metadata = Packet, Metadata
        return self._packets(-1 if limit is None else limit, FOREVER if timeout is None else int(timeout * 1e9))

    def _packets(self, long long left, uint64_t idle_ns):
        cdef int state
        while left != 0 and not self.stopping and not self.closing:
            if len(self.pending) == 0:
                state = self.fill(<int>min(left, CHUNK) if left > 0 else CHUNK, idle_ns)
                if state < 0:
                    return
                if state == 0:
                    yield None
                    continue
            left -= left > 0
            yield self.next_packet()

    cdef object next_packet(self):
        cdef About about
        cdef bytes frame = self.pending.take(&about)
        metadata = new_metadata(about.ts_ns, len(frame), about.wirelen, self.source if self.live else "")
        return new_packet(frame, metadata, self.link_type)

    cdef int fill(self, int limit, uint64_t idle_ns) except -2:
        """Makes frames pending: 1 when there are any, 0 when none came for idle_ns, -1 when none will come."""
        cdef uint64_t waited
        cdef uint64_t started = monotonic_ns()
        cdef uint64_t slice_ns
        cdef int count, descriptor
        if self.broken is not None:
            raise self.broken
        while not self.stopping and not self.closing:
            try:
                # A file is read frame by frame: its filter may be changed between two of them. Only a call, no system call.
                count = self.read_some(limit if self.live else 1, on_packet)
            except PcapError as failure:
                self.broken = failure
                if len(self.pending) == 0:
                    raise
            if len(self.pending):
                return 1
            if count < 0:
                return -1
            if count > 0:       # frames of before the filter
                continue
            waited = monotonic_ns() - started
            if waited >= idle_ns:
                return 0
            descriptor = pcap_get_selectable_fd(self.handler)
            slice_ns = SLICE_NS if descriptor >= 0 else BLIND_SLICE_NS
            self.wait(descriptor, POLLIN, min(slice_ns, idle_ns - waited))
        return -1

    cdef int wait(self, int descriptor, short events, uint64_t wait_ns) except -1:
        """Until the descriptor has one of the events (1), or a stop, a close, a signal or the time (0). Without the GIL."""
        cdef pollfd wanted[2]
        cdef int ready, number
        cdef int wait_ms = -1 if wait_ns > LONGEST_NS else <int>((wait_ns + 999999) // 1000000)
        if self.wake < 0:
            self.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
            if self.wake < 0:
                raise OSError(libc.errno.errno, os.strerror(libc.errno.errno))
        wanted[0].fd = descriptor
        wanted[0].events = events
        wanted[0].revents = 0
        wanted[1].fd = self.wake
        wanted[1].events = POLLIN
        self.busy += 1
        with nogil:
            ready = poll(wanted, 2, wait_ms)
            number = libc.errno.errno
        self.leave()
        if ready < 0 and number != EINTR:
            raise OSError(number, os.strerror(number))
        PyErr_CheckSignals()
        return ready > 0 and wanted[0].revents != 0

    cdef ssize_t read_piece(self, char* buffer, size_t size) except -1:
        """The stream's next bytes for libpcap (fopencookie(3)): 0 at its end, at a stop, or when idle() said enough."""
        cdef ssize_t count
        cdef bint ready
        while True:
            if self.idle is None and (self.stopping or self.closing):
                return 0
            ready = self.wait(self.pipe, POLLIN, FOREVER if self.idle is None else self.idle_ns)
            if self.idle is not None and (not ready or monotonic_ns() - self.idle_at >= self.idle_ns):
                if not self.idle():
                    return 0
                self.idle_at = monotonic_ns()
            if ready:
                count = read(self.pipe, buffer, size)
                if count >= 0:
                    return count
                if libc.errno.errno != EINTR:
                    raise PcapError(f"{self.source}: {os.strerror(libc.errno.errno)}")

    # -- sending -------------------------------------------------------------------------------------------------------

    def inject(self, const uint8_t[::1] frame not None):
        """Sends one frame, from the link header on, to the interface of a live handle.

        Waits up to a second for room in the socket. Raises FrameRefused (too long or too short for this interface),
        QueueFull (the same frame may go a moment later), PcapError.
        """
        cdef int sent, number
        cdef Py_ssize_t size = frame.shape[0]
        cdef bint waited = False
        self.check_open()
        if not self.live:
            raise PcapError(f"{self.source}: frames are sent to an interface; this handle reads a file")
        if size == 0:
            raise FrameRefused(f"{self.source}: a frame of 0 bytes", "empty")
        while True:
            libc.errno.errno = 0
            sent = pcap_inject(self.handler, &frame[0], size)
            number = libc.errno.errno
            if sent == size:
                return
            if sent >= 0:
                raise PcapError(f"{self.source}: only {sent} of {size} bytes were sent")
            if number == EINTR:
                PyErr_CheckSignals()
            elif number == EAGAIN and not waited:
                self.wait(pcap_get_selectable_fd(self.handler), POLLOUT, SEND_NS)
                waited = True
            else:
                message = pcap_geterr(self.handler).decode(errors="replace")
                raise sending_failure(self.source, number, size, self._mtu(), message)
            self.check_open()

    def _mtu(self):
        """Of the interface; 0 where it has none."""
        try:
            asked = struct.pack("16si12x", self.source.encode(), 0)
            return struct.unpack("16si12x", fcntl.ioctl(self.fileno(), SIOCGIFMTU, asked))[1]
        except OSError:
            return 0
