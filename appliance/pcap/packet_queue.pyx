# cython: language_level=3
"""PacketQueue: the frames that libpcap delivered and the caller has not taken yet, in order, each in
bytes of its own.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc


cdef class PacketQueue:
    """A queue of frames. It grows as needed: the caller of add() checks its length and `bytes`."""

    def __cinit__(self):
        self.frames = []

    def __dealloc__(self):
        free(self.about)

    def __len__(self):
        return len(self.frames) - self.at

    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen,
                 int link_type) except -1:
        """Copy one frame (caplen bytes readable during this call) to the end."""
        cdef Py_ssize_t count = len(self.frames)
        cdef Py_ssize_t capacity
        cdef void* about
        if count == self.capacity:
            capacity = max(64, 2 * count)
            about = realloc(self.about, capacity * sizeof(FrameInfo))
            if about == NULL:
                raise MemoryError
            self.about = <FrameInfo*>about
            self.capacity = capacity
        self.frames.append((<const char*>frame)[:caplen])
        self.about[count].ts_ns = ts_ns
        self.about[count].wirelen = wirelen
        self.about[count].link_type = link_type
        self.bytes += caplen
        return 0

    cdef bytes take(self, FrameInfo* about):
        """Remove and return the first frame; None if there is none."""
        cdef bytes frame
        if self.at == len(self.frames):
            return None
        frame = self.frames[self.at]
        self.frames[self.at] = None     # only the caller keeps the frame
        about[0] = self.about[self.at]
        self.bytes -= len(frame)
        self.at += 1
        if self.at == len(self.frames):
            self.frames.clear()
            self.at = 0
        return frame
