# cython: language_level=3
"""An open source of frames: into a FrameSink or as Packets; its filter, its counters, and frames sent through it.

Built on python-libpcap's declarations; libpcap.pxd has the calls that it lacks. A Handle owns one pcap_t and closes it;
opening.pyx opens them. One class, because each method uses that pcap_t and its buffer. Man pages: pcap(3PCAP),
pcap_dispatch, pcap_stats, pcap_inject, pcap-filter(7), packet(7).
"""
import os
import time
from typing import NamedTuple

cimport libc.errno
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport SEEK_SET, FILE, fseek, ftell
from libc.stdlib cimport free
from posix.unistd cimport close, read

from appliance.pcap.bpf cimport (
    MOST_INSTRUCTIONS, LinkFilters, CapturedStderr, attach, attach_refusal, compile_filter, compile_for, is_long, program_of,
)
from appliance.pcap.libpcap cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, POLLIN, POLLOUT, bpf_insn, bpf_program, eventfd, eventfd_write, pcap_close,
    pcap_datalink_val_to_name, pcap_dispatch, pcap_file, pcap_get_selectable_fd, pcap_geterr, pcap_inject,
    pcap_offline_filter, pcap_pkthdr, pcap_setfilter, pcap_snapshot, pcap_stat, pcap_stats,
    poll, pollfd, u_char,
)
from appliance.pcap.packet_queue cimport FrameInfo
from appliance.native.clock cimport monotonic_ns

from appliance.pcap.mtu import mtu_of
from appliance.pcap.errors import BadFilter, FrameRefused, PcapError, TruncatedCapture, reading_failure, sending_failure

cdef enum:
    CHUNK = 256                 # frames that packets() reads from the ring at a time
    HELD_BYTES = 64 << 20       # approximate limit of frames read from the ring before libpcap changes its filter
    SLICE_NS = 250000000        # interval at which an idle wait checks that the interface still exists
    BLIND_SLICE_NS = 10000000   # the same for a source without a descriptor to wait on
    ETHERNET = 1                # DLT_EN10MB
    SEND_NS = 1000000000        # inject() waits this long for room in the socket
SETTLE_S = 0.005                # after this time the ring has every frame that the replaced filter accepted
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
    """Return ns since the epoch. libpcap reads the unsigned seconds of a file as signed: wrong from 2038 to 2106."""
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
    if handle.here is not None and pcap_offline_filter(&handle.here_program, header, data) == 0:
        handle.refused += 1
        return
    try:
        handle.sink.add(time_of(header, handle.scale), data, header.caplen, header.len)
    except BaseException as failure:    # an exception must not cross libpcap's C frames; read_some re-raises it
        handle.failure = failure


cdef void on_packet(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept:
    cdef Handle handle = <Handle><void*>user
    if handle.failure is not None:
        return
    if handle.skip:
        handle.skip -= 1
        return
    if handle.here is not None and pcap_offline_filter(&handle.here_program, header, data) == 0:
        handle.refused += 1
        return
    try:
        handle.pending.add(time_of(header, handle.scale), data, header.caplen, header.len, handle.frame_link_type)
    except BaseException as failure:
        handle.failure = failure


cdef void on_nothing(u_char* user, const pcap_pkthdr* header, const u_char* data) noexcept:
    (<uint64_t*>user)[0] += 1


cdef class Handle:
    """An open source of frames, from open_live() or open_offline(); close() or a with block ends it.

    One thread reads it. Any other thread, and a signal handler, may call stop(), close(), stats(), set_filter() and
    inject().
    """

    def __init__(self):
        self.source = self.warning = ""
        self.scale = 1
        self.pipe = self.wake = -1
        self.pending = PacketQueue()
        self.parts = {}
        self.parts_here = {}
        self.first = b""

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self):
        """Release everything. A thread that waits in packets() ends its iteration first, and then closes it."""
        self.closing = True
        if self.busy:
            if self.wake >= 0:
                eventfd_write(self.wake, 1)
        else:
            self.release()

    def stop(self):
        """End the running iteration over packets() at once, also a waiting one; the handle stays open."""
        self.stopping = True
        if self.wake >= 0:
            eventfd_write(self.wake, 1)

    cdef int leave(self) noexcept:
        self.busy -= 1
        return self.release() if self.closing and self.busy == 0 else 0

    cdef int release(self) noexcept:
        if self.handler != NULL:        # close() and the destructor may both come here
            self.blocks = None
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
        """Return libpcap's name of the link type, such as EN10MB."""
        cdef const char* name = pcap_datalink_val_to_name(self.link_type)
        return name.decode() if name != NULL else str(self.link_type)

    @property
    def link_types(self):
        """Return the link types (DLT_*) of the interfaces met so far, in order; several only in pcapng captures."""
        return list(self.blocks.seen) if self.blocks is not None else [self.link_type]

    @property
    def seamless(self):
        """Return whether the filter can be changed without refusing or missing a frame."""
        return self.direct and self.begun

    def fileno(self):
        """Return a descriptor that poll() reports readable when frames wait; -1 for a regular file."""
        self.check_open()
        return pcap_get_selectable_fd(self.handler)

    def tell(self):
        """Return the bytes of the file read so far; 0 for a live source or a pipe."""
        cdef FILE* stream
        self.check_open()
        if self.blocks is not None:
            return self.blocks.offset if self.idle is None else 0
        if self.live or self.pipe >= 0:
            return 0
        if self.records is not None:
            return self.records.offset
        stream = <FILE*>pcap_file(self.handler)
        return max(0, ftell(stream)) if stream != NULL else 0

    def stats(self):
        """Return Stats(received, dropped, if_dropped) since the handle was opened, 64 bits wide; zeros for a file.

        On Linux `received` counts frames that passed the filter, including those `dropped` for lack of room in the ring
        (pcap_stats(3)); received - dropped are delivered or still to be read. `if_dropped`: by the interface, if it
        reports them. libpcap counts in 32 bits: call this at least once per wrap (4.8 minutes at 14.88 million frames a
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
        return Stats(self.received - self.refused, self.dropped, self.if_dropped)

    # -- filters -------------------------------------------------------------------------------------------------------

    def compile_filter(self, str text not None, *, bint vlan_aware=False, str only not None=""):
        """Do the slow part of set_filter() with the same arguments, which is fast from then on: for a thread of its own.

        Names of hosts are looked up here. Raises BadFilter.
        """
        self.check_open()
        if self.blocks is not None:
            LinkFilters(text, vlan_aware).of(self.link_type)
            return
        vlan_aware = vlan_aware and self.link_type == ETHERNET
        self.busy += 1
        try:
            instructions = compile_filter(self.handler, self.parts, text, vlan_aware, only)
            if self.direct and (self.here is not None or is_long(instructions)):
                self.compiled_here(text, vlan_aware)
        finally:
            self.leave()

    cdef bytes compiled_here(self, str text, bint vlan_aware):
        """Return instructions for frames as they come out of libpcap: with their VLAN tag, which the kernel keeps apart."""
        return compile_for(self.link_type, pcap_snapshot(self.handler), self.parts_here, text, vlan_aware)

    def follow_link(self, int link_type):
        """Set the link type of the next frames of a pcapng capture, for PcapngReader. Raises BadFilter."""
        self.frame_link_type = link_type
        if self.sink is not None:
            self.sink.use_link_type(link_type)
        if self.filters is not None:
            self.apply_here(self.filters.of(link_type))

    cdef int apply_here(self, bytes instructions) except -1:
        self.here_program = program_of(instructions)
        self.here = instructions
        return 0

    def set_filter(self, str text not None, *, bint vlan_aware=False, str only not None=""):
        """Accept only frames that match this pcap-filter(7) expression; BadFilter leaves the old one in force.

        vlan_aware: match frames inside one or two VLAN tags as those without, on Ethernet. only: a second expression
        that has to match as well (not for a file).

        The first filter of a live handle, if nothing was read yet, discards earlier frames and excludes them from
        stats(), so that the kernel's counters and ours start together. Later changes lose nothing: the kernel tests
        each frame against the old filter or the new one, and still delivers frames that it captured before. A program
        that is too long for the kernel runs here, on frames that the kernel delivers; stats() excludes frames that it
        refuses. If libpcap filters by itself (`any` and other interfaces without a link header), a change is not
        seamless: earlier frames are kept up to 64 MiB, but frames that arrive during the change are refused, uncounted.
        Returns "", or the reason why the kernel does not run the filter.
        """
        cdef bytes instructions
        cdef bpf_program program
        cdef int result
        cdef CapturedStderr overheard
        self.check_open()
        if self.blocks is not None:
            filters = LinkFilters(text, vlan_aware)
            self.apply_here(filters.of(self.frame_link_type))
            self.filters = filters
            return ""
        vlan_aware = vlan_aware and self.link_type == ETHERNET
        if self.direct:
            return self.filter_directly(text, vlan_aware, only)
        instructions = compile_filter(self.handler, self.parts, text, vlan_aware, only)
        program = program_of(instructions)
        if self.packet_socket and not self.begun:
            self.discard_waiting()
        while self.live and self.begun and self.pending.bytes < HELD_BYTES and self.read_some(CHUNK, on_packet) > 0:
            pass
        self.skip = 0
        self.hand_over()
        overheard = CapturedStderr()
        with overheard:
            result = pcap_setfilter(self.handler, &program)
        if result != 0:
            raise BadFilter(f"the filter {text!r} was refused: {pcap_geterr(self.handler).decode(errors='replace')}")
        self.begun = True
        return overheard.text

    cdef str filter_directly(self, str text, bint vlan_aware, str only):
        """Set the filter of a packet socket, below libpcap."""
        cdef bytes instructions = compile_filter(self.handler, self.parts, text, vlan_aware, only)
        cdef bytes here = None
        cdef size_t length = len(instructions) // sizeof(bpf_insn)
        cdef bint long_one = is_long(instructions)
        cdef bpf_program program
        cdef int refusal
        if long_one or self.here is not None:   # frames that the filter here let into the ring have to be tested again
            here = self.compiled_here(text, vlan_aware)
        if long_one:
            instructions = compile_filter(self.handler, {}, only, False, "")
        program = program_of(instructions)
        if not self.begun:
            self.discard_waiting()
        refusal = attach(pcap_get_selectable_fd(self.handler), &program)
        if refusal != 0:
            raise BadFilter(f"the filter {text!r} was refused: {os.strerror(refusal)}")
        self.begun = True
        if here is not None:
            self.apply_here(here)
        return f"its program has {length:,} instructions, and the kernel takes {MOST_INSTRUCTIONS:,}" if long_one else ""

    cdef int discard_waiting(self) except -1:
        """Discard the frames in the ring, and restart the counts of stats(). The kernel refuses frames from then on."""
        cdef uint64_t discarded = 0
        self.stop_accepting()
        time.sleep(SETTLE_S)
        self.stats()
        if self.mirror:         # libpcap drops some of these frames: only an empty ring proves that they are gone
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
        """Make the kernel refuse every new frame while those in the ring stay readable: the first step of a drain."""
        self.check_open()
        if attach_refusal(pcap_get_selectable_fd(self.handler)) != 0:
            raise PcapError(f"{self.source}: the kernel refused a filter")

    # -- reading -------------------------------------------------------------------------------------------------------

    cdef int read_some(self, int limit, frame_taker taker) except -2:
        """Pass up to `limit` frames to the callback. Return their number, 0 if none wait, -1 at the end or a stop."""
        cdef int count
        cdef bytes message = b""
        self.check_open()
        if self.reading:
            raise PcapError(f"{self.source}: another thread is reading it")
        self.begun = self.reading = True
        self.busy += 1
        count = 0
        if self.blocks is not None:
            try:
                count = self.blocks.dispatch(limit, taker, <u_char*><void*>self)
            except TruncatedCapture:
                if not (self.stopping or self.closing):
                    raise
                count = -1          # a stream that was ended here
            finally:
                self.reading = False
                self.leave()
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            return count
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
        """Let libpcap read from the current position of the file on."""
        if self.records is not None:
            if fseek(<FILE*>pcap_file(self.handler), <long>self.records.offset, SEEK_SET) != 0:
                raise PcapError(f"{self.source}: {os.strerror(libc.errno.errno)}")
            self.records = None
        return 0

    def read_into(self, FrameSink sink not None, int limit):
        """Read up to `limit` frames into the sink: how many there were, 0 if none wait now, -1 at the end of a file.

        Raises TruncatedCapture at a cut-off end, PcapError when the source fails; every whole frame before that is in.
        """
        cdef FrameInfo about
        cdef bytes frame
        cdef int count = 0
        while count < limit and len(self.pending):
            frame = self.pending.take(&about)
            sink.use_link_type(about.link_type)
            sink.add(about.ts_ns, <const uint8_t*>frame, <unsigned int>len(frame), about.wirelen)
            count += 1
        if count:
            return count
        self.sink = sink
        sink.use_link_type(self.frame_link_type)
        try:
            return self.read_some(limit, on_frame)
        finally:
            self.sink = None

    def drain(self):
        """Read and discard the rest of a source, for benchmarks of reading. Return the number of frames."""
        cdef uint64_t count = 0
        self.check_open()
        if self.blocks is not None:
            while self.blocks.dispatch(CHUNK, on_nothing, <u_char*>&count) > 0:
                pass
            return count
        while self.records is not None and self.records.dispatch(CHUNK, on_nothing, <u_char*>&count) > 0:
            pass
        self.hand_over()
        while pcap_dispatch(self.handler, -1, on_nothing, <u_char*>&count) > 0:
            pass
        return count

    def packets(self, *, limit=None, timeout=None):
        """Iterate over the frames as appliance.packet.Packet, each with bytes of its own.

        A live handle waits for frames and ends only with close(), stop() or after `limit` packets. With `timeout`, it
        yields None whenever that many seconds pass without a frame, for periodic work. Signals are handled while it
        waits. A file ends at its end, and never yields None. Raises TruncatedCapture at a truncated end, PcapError if
        the source fails or the interface disappears, each after the last whole frame. `metadata.interface` is the name
        of the interface, "" for a file.
        """
        global new_packet, new_metadata
        self.check_open()
        if limit is not None and limit < 0:
            raise ValueError(f"limit: at least 0, not {limit}")
        if timeout is not None and not 0 <= timeout < 1e9:
            raise ValueError(f"timeout: seconds, not {timeout}")
        if new_packet is None:
            from appliance.packet.packet import Metadata, Packet
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
        cdef FrameInfo about
        cdef bytes frame = self.pending.take(&about)
        metadata = new_metadata(about.ts_ns, len(frame), about.wirelen, self.source if self.live else "")
        return new_packet(frame, metadata, about.link_type)

    cdef int fill(self, int limit, uint64_t idle_ns) except -2:
        """Read ahead. Return 1 if frames are pending, 0 if none came for idle_ns, -1 at the end."""
        cdef uint64_t waited
        cdef uint64_t started = monotonic_ns()
        cdef uint64_t slice_ns
        cdef int count, descriptor
        if self.broken is not None:
            raise self.broken
        while not self.stopping and not self.closing:
            try:
                # Read a file frame by frame: its filter may change between two frames. It costs no system call.
                count = self.read_some(limit if self.live else 1, on_packet)
            except PcapError as failure:
                self.broken = failure
                if len(self.pending) == 0:
                    raise
            if len(self.pending):
                return 1
            if count < 0:
                return -1
            if count > 0:       # frames from before the filter
                continue
            waited = monotonic_ns() - started
            if waited >= idle_ns:
                return 0
            descriptor = pcap_get_selectable_fd(self.handler)
            slice_ns = SLICE_NS if descriptor >= 0 else BLIND_SLICE_NS
            self.wait(descriptor, POLLIN, min(slice_ns, idle_ns - waited))
        return -1

    cdef int wait(self, int descriptor, short events, uint64_t wait_ns) except -1:
        """Wait without the GIL for one of the events (1), or a stop, a close, a signal or the timeout (0)."""
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
        """Read the next bytes of the stream for libpcap (fopencookie(3)). Return 0 at its end or a stop."""
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

    def piece_into(self, room not None):
        """Read the next bytes of the stream into writable memory. Return their number, 0 at its end."""
        cdef Py_buffer view
        PyObject_GetBuffer(room, &view, PyBUF_WRITABLE)
        try:
            return self.read_piece(<char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def inject(self, frame not None):
        """Send one frame, from the link header on, to the interface of a live handle.

        Waits up to a second for room in the socket. Raises FrameRefused (too long or too short for this interface),
        QueueFull (a later attempt may succeed), PcapError.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
        try:
            self.send(view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int send(self, const void* frame, Py_ssize_t size) except -1:
        cdef int sent, number
        cdef bint waited = False
        self.check_open()
        if not self.live:
            raise PcapError(f"{self.source}: frames are sent to an interface; this handle reads a file")
        if size == 0:
            raise FrameRefused(f"{self.source}: a frame of 0 bytes", "empty")
        while True:
            libc.errno.errno = 0
            sent = pcap_inject(self.handler, frame, size)
            number = libc.errno.errno
            if sent == size:
                return 0
            if sent >= 0:
                raise PcapError(f"{self.source}: only {sent} of {size} bytes were sent")
            if number == EINTR:
                PyErr_CheckSignals()
            elif number == EAGAIN and not waited:
                self.wait(pcap_get_selectable_fd(self.handler), POLLOUT, SEND_NS)
                waited = True
            else:
                message = pcap_geterr(self.handler).decode(errors="replace")
                raise sending_failure(self.source, number, size, mtu_of(self.fileno(), self.source), message)
            self.check_open()
