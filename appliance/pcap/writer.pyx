# cython: language_level=3
"""Capture files, written: pcap as in pcap-savefile(5), in this machine's byte order, with nanoseconds by default.

Each write(2) has whole frames: a reader of the file finds it valid at any time, also after a crash.
"""
import os

cimport libc.errno
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport FILE, fclose, fopen
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.unistd cimport close, ftruncate, write

from appliance.pcap.libpcap cimport (
    PCAP_TSTAMP_PRECISION_MICRO, PCAP_TSTAMP_PRECISION_NANO, discard_buffer, open_pieces, pcap_close, pcap_dump,
    pcap_dump_close, pcap_dump_flush, pcap_dump_fopen, pcap_open_dead_with_tstamp_precision, pcap_pkthdr, pcap_t, u_char,
)

from appliance.pcap.errors import PcapError

cdef enum:
    FILE_HEADER = 24
cdef uint64_t END_OF_TIME = (<uint64_t>1 << 32) * 1000000000    # seconds are 32 bits wide in the format


cdef ssize_t on_write(void* cookie, const char* data, size_t size) noexcept:
    """Write all bytes of libpcap's FILE (fopencookie(3)): stdio itself loses bytes if a signal interrupts it."""
    cdef PcapWriter writer = <PcapWriter>cookie
    cdef size_t done = 0
    cdef ssize_t count
    cdef int number
    writer.writing = True
    while done < size and writer.failure is None:
        with nogil:
            count = write(writer.descriptor, data + done, size - done)
            number = libc.errno.errno
        if count >= 0:
            done += count
            writer.written += count
            continue
        try:
            if number != EINTR:
                raise PcapError(f"{writer.name}: {os.strerror(number)}")
            PyErr_CheckSignals()
        except BaseException as failure:
            writer.failure = failure
    writer.writing = False
    return <ssize_t>done


cdef class PcapWriter:
    """Writes frames to a new capture file that tcpdump, tshark and open_offline() read; replaces an old file.

    path: the file; "-" is standard output. link_type: DLT_* value of the frames (1: Ethernet). snaplen: longer frames
    are truncated to this length. nanoseconds: False truncates time stamps to microseconds, for readers without
    nanoseconds.

    close() or the end of a with block writes the buffer, also after an exception in the block. Raises PcapError, which
    names the path: no such directory, disk full, a link type that capture files cannot have. After a failed write, a
    regular file is truncated to its last whole frame and closed. There is no append mode.
    """

    def __init__(self, path not None, int link_type=1, int snaplen=262144, bint nanoseconds=True):
        if self.name is not None:
            raise TypeError("a PcapWriter cannot be initialised twice")
        self.descriptor = -1
        if snaplen < 1:
            raise ValueError(f"snaplen: at least 1, not {snaplen}")
        self.name = os.fsdecode(path)
        self.link_type = link_type
        self.snaplen = snaplen
        self.unit = 1 if nanoseconds else 1000
        self.open()

    cdef int open(self) except -1:
        cdef pcap_t* dead
        cdef FILE* file
        dead = pcap_open_dead_with_tstamp_precision(
            self.link_type, self.snaplen, PCAP_TSTAMP_PRECISION_NANO if self.unit == 1 else PCAP_TSTAMP_PRECISION_MICRO)
        if dead == NULL:
            raise MemoryError
        try:
            file = fopen("/dev/null", "wb")     # check the link type before the old file is lost
            if file == NULL:
                raise PcapError(f"/dev/null: {os.strerror(libc.errno.errno)}")
            refused = pcap_dump_fopen(dead, file) == NULL
            fclose(file)
            if refused:
                raise PcapError(f"{self.name}: a capture file cannot have link type {self.link_type}")
            self.buffer = <char*>malloc(BUFFER)
            if self.buffer == NULL:
                raise MemoryError
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self.descriptor = os.dup(1) if self.name == "-" else os.open(self.name, flags, 0o666)
            except OSError as error:
                raise PcapError(f"{self.name}: {error.strerror}") from error
            file = open_pieces(<void*>self, NULL, on_write, self.buffer, BUFFER)
            if file == NULL:
                raise MemoryError
            self.dumper = pcap_dump_fopen(dead, file)
        finally:
            pcap_close(dead)
        self.waiting = FILE_HEADER
        return self.write_buffer()

    def write(self, packet not None):
        """Append an appliance.packet.Packet, with its time and its length on the wire."""
        if packet.link_type != self.link_type:
            raise PcapError(f"{self.name}: a frame of link type {packet.link_type} in a file of link type {self.link_type}")
        about = packet.metadata
        self.write_frame(packet.data, about.ts_ns, about.wirelen)

    def write_frame(self, data not None, uint64_t ts_ns, wirelen=None):
        """Append one frame. ts_ns: since the epoch, before the year 2106; wirelen: its length on the wire if it was
        truncated.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.append(<const u_char*>view.buf, view.len, ts_ns, wirelen)
        finally:
            PyBuffer_Release(&view)

    cdef int append(self, const u_char* frame, Py_ssize_t length, uint64_t ts_ns, wirelen) except -1:
        cdef pcap_pkthdr header
        cdef uint32_t size
        self.check_open()
        if ts_ns >= END_OF_TIME:
            raise ValueError(f"ts_ns: a capture file cannot say {ts_ns}")
        if not length <= (length if wirelen is None else wirelen) <= 0xffffffff:
            raise ValueError(f"wirelen: {wirelen} is no length on the wire of a frame with {length} bytes here")
        memset(&header, 0, sizeof(header))
        header.ts.tv_sec = ts_ns // 1000000000
        header.ts.tv_usec = ts_ns % 1000000000 // self.unit
        header.caplen = <unsigned int>min(length, self.snaplen)
        header.len = <unsigned int>(length if wirelen is None else wirelen)
        size = RECORD_HEADER + header.caplen
        if self.waiting + size > BUFFER and self.waiting:
            self.write_buffer()
        pcap_dump(<u_char*>self.dumper, &header, frame)
        self.waiting += size
        self.ends[self.held] = self.waiting
        self.held += 1
        self.frames += 1
        if self.waiting > BUFFER:   # one frame, longer than the buffer
            self.write_buffer()

    def flush(self):
        """Write the buffered frames, so that every reader of the file sees them."""
        self.check_open()
        self.write_buffer()

    def close(self):
        """Write the buffered frames and close the file. A second call does nothing."""
        if self.dumper != NULL:
            self.flush()
            self.end()

    def __dealloc__(self):
        if self.name is not None:       # never opened otherwise
            self.end()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        return f"PcapWriter({self.name!r}, link_type={self.link_type})"

    cdef int check_open(self) except -1:
        if self.dumper == NULL:
            raise PcapError(f"{self.name}: the file is closed")
        if self.writing:
            raise PcapError(f"{self.name}: another thread is writing it")
        return 0

    cdef int write_buffer(self) except -1:
        """Write the buffer. A failure closes the file, truncated to its last whole frame if possible."""
        cdef struct_stat about
        cdef uint64_t end = self.flushed
        cdef uint32_t number
        pcap_dump_flush(self.dumper)
        if self.failure is None:
            self.flushed += self.waiting
            self.waiting = self.held = 0
            return 0
        for number in range(self.held):
            if self.flushed + self.ends[number] > self.written:
                self.frames -= self.held - number
                break
            end = self.flushed + self.ends[number]
        if self.name != "-" and fstat(self.descriptor, &about) == 0 and S_ISREG(about.st_mode):
            ftruncate(self.descriptor, end)
        self.end()
        raise self.failure

    cdef int end(self) noexcept:
        """Release everything; frames in the buffer are lost."""
        if self.dumper != NULL:
            discard_buffer(<FILE*>self.dumper)
            pcap_dump_close(self.dumper)
            self.dumper = NULL
        if self.descriptor >= 0:
            close(self.descriptor)
            self.descriptor = -1
        free(self.buffer)
        self.buffer = NULL
        return 0
