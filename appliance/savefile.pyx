# cython: language_level=3
"""Capture files, written: pcap as pcap-savefile(5) has it, in this machine's byte order, nanoseconds unless asked otherwise.

What reaches the file at a time are whole frames: a reader, or whoever comes after a crash, finds a valid file.
"""
import os

cimport libc.errno
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport FILE, _IOFBF, clearerr, fclose, fopen, setvbuf
from libc.string cimport memset
from posix.stat cimport S_ISREG, fstat
from posix.stat cimport struct_stat as stat_result
from posix.stdio cimport fdopen, fileno
from posix.unistd cimport close, ftruncate

from appliance.libpcap cimport (
    PCAP_TSTAMP_PRECISION_MICRO, PCAP_TSTAMP_PRECISION_NANO, discard_buffer, pcap_close, pcap_dump, pcap_dump_close,
    pcap_dump_flush, pcap_dump_fopen, pcap_open_dead_with_tstamp_precision, pcap_pkthdr, pcap_t, u_char,
)

from appliance.pcaperror import PcapError

cdef enum:
    FILE_HEADER = 24
cdef uint64_t END_OF_TIME = (<uint64_t>1 << 32) * 1000000000    # seconds are 32 bits wide in the format


cdef class PcapWriter:
    """Writes frames to a new capture file that tcpdump, tshark and open_offline() read; an old file is replaced.

    path: where; "-" is standard output. link_type: DLT_* value of the frames (1: Ethernet). snaplen: longer frames are cut
    to so many bytes. nanoseconds: False cuts time stamps to microseconds, for readers that know nothing else.
    close() or the end of a with block writes what is held, also after an exception in the block. Raises PcapError, which
    names the path: no such directory, disk full, a link type that capture files cannot have. When a write fails, a regular
    file is cut back to its last whole frame and closed. There is no appending.
    """

    def __init__(self, path not None, int link_type=1, int snaplen=262144, bint nanoseconds=True):
        if self.name is not None:
            raise TypeError("a PcapWriter is made once")
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
        cdef int descriptor
        dead = pcap_open_dead_with_tstamp_precision(
            self.link_type, self.snaplen, PCAP_TSTAMP_PRECISION_NANO if self.unit == 1 else PCAP_TSTAMP_PRECISION_MICRO)
        if dead == NULL:
            raise MemoryError
        try:
            file = fopen("/dev/null", "wb")     # asked before an old file is lost
            if file == NULL:
                raise PcapError(f"/dev/null: {os.strerror(libc.errno.errno)}")
            refused = pcap_dump_fopen(dead, file) == NULL
            fclose(file)
            if refused:
                raise PcapError(f"{self.name}: a capture file cannot have link type {self.link_type}")
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                descriptor = os.dup(1) if self.name == "-" else os.open(self.name, flags, 0o666)
            except OSError as error:
                raise PcapError(f"{self.name}: {error.strerror}") from error
            file = fdopen(descriptor, "wb")
            if file == NULL:
                close(descriptor)
                raise MemoryError
            setvbuf(file, NULL, _IOFBF, BUFFER)
            self.dumper = pcap_dump_fopen(dead, file)
        finally:
            pcap_close(dead)
        self.waiting = FILE_HEADER
        return self.pass_on()

    def write(self, packet not None):
        """Appends an appliance.packet.Packet, with its time and its length on the wire."""
        if packet.link_type != self.link_type:
            raise PcapError(f"{self.name}: a frame of link type {packet.link_type} in a file of link type {self.link_type}")
        about = packet.metadata
        self.write_frame(packet.data, about.ts_ns, about.wirelen)

    def write_frame(self, const uint8_t[::1] data not None, uint64_t ts_ns, wirelen=None):
        """Appends one frame. ts_ns: since the epoch, before the year 2106; wirelen: its length on the wire if it was cut."""
        cdef pcap_pkthdr header
        cdef const uint8_t* frame = &data[0] if data.shape[0] else <const uint8_t*>b""
        cdef uint32_t size
        self.check_open()
        if ts_ns >= END_OF_TIME:
            raise ValueError(f"ts_ns: a capture file cannot say {ts_ns}")
        if not data.shape[0] <= (data.shape[0] if wirelen is None else wirelen) <= 0xffffffff:
            raise ValueError(f"wirelen: {wirelen} is no length on the wire of a frame with {data.shape[0]} bytes here")
        memset(&header, 0, sizeof(header))
        header.ts.tv_sec = ts_ns // 1000000000
        header.ts.tv_usec = ts_ns % 1000000000 // self.unit
        header.caplen = <unsigned int>min(data.shape[0], self.snaplen)
        header.len = <unsigned int>(data.shape[0] if wirelen is None else wirelen)
        size = RECORD_HEADER + header.caplen
        if self.waiting + size > BUFFER and self.waiting:
            self.pass_on()
        pcap_dump(<u_char*>self.dumper, &header, frame)
        self.waiting += size
        self.ends[self.held] = self.waiting
        self.held += 1
        self.frames += 1
        if self.waiting > BUFFER:   # one frame, longer than the buffer
            self.pass_on()

    def flush(self):
        """Hands what was written so far to the system, where every reader of the file sees it."""
        self.check_open()
        self.pass_on()

    def close(self):
        """Writes what is held and closes the file. Closing again does nothing."""
        if self.dumper != NULL:
            self.pass_on()
            pcap_dump_close(self.dumper)
            self.dumper = NULL

    def __dealloc__(self):
        if self.dumper != NULL:
            pcap_dump_close(self.dumper)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        return f"PcapWriter({self.name!r}, link_type={self.link_type})"

    cdef int check_open(self) except -1:
        if self.dumper == NULL:
            raise PcapError(f"{self.name}: the file is closed")
        return 0

    cdef int pass_on(self) except -1:
        """Writes the buffer; a failure closes the file."""
        cdef int number
        libc.errno.errno = 0
        while pcap_dump_flush(self.dumper) != 0:
            number = libc.errno.errno
            if number == EINTR:     # a signal came while a pipe was full; stdio keeps what is not written yet
                clearerr(<FILE*>self.dumper)
                PyErr_CheckSignals()
                continue
            self.cut_back()
            raise PcapError(f"{self.name}: {os.strerror(number)}")
        self.flushed += self.waiting
        self.waiting = self.held = 0
        return 0

    cdef int cut_back(self) noexcept:
        """Closes the file, the end of a frame being its last byte where a file can be cut."""
        cdef FILE* file = <FILE*>self.dumper
        cdef stat_result about
        cdef uint64_t end = self.flushed
        cdef uint32_t number
        discard_buffer(file)
        if self.name != "-" and fstat(fileno(file), &about) == 0 and S_ISREG(about.st_mode):
            for number in range(self.held):
                if self.flushed + self.ends[number] > <uint64_t>about.st_size:
                    self.frames -= self.held - number
                    break
                end = self.flushed + self.ends[number]
            ftruncate(fileno(file), end)
        pcap_dump_close(self.dumper)
        self.dumper = NULL
        return 0
