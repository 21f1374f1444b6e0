# cython: language_level=3
"""Pending: the frames of a handle that libpcap has handed out and nobody has taken yet, in order, each in bytes of its own."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc


cdef class Pending:
    """A queue of frames. It grows as needed: who adds looks at its length and `bytes`."""

    def __cinit__(self):
        self.frames = []

    def __dealloc__(self):
        free(self.about)

    def __len__(self):
        return len(self.frames) - self.at

    cdef int add(self, uint64_t ts_ns, const uint8_t* frame, uint32_t caplen, uint32_t wirelen) except -1:
        """Copies one frame (caplen bytes readable during this call) to the end."""
        cdef Py_ssize_t count = len(self.frames)
        cdef Py_ssize_t capacity
        cdef void* about
        if count == self.capacity:
            capacity = max(64, 2 * count)
            about = realloc(self.about, capacity * sizeof(About))
            if about == NULL:
                raise MemoryError
            self.about = <About*>about
            self.capacity = capacity
        self.frames.append((<const char*>frame)[:caplen])
        self.about[count].ts_ns = ts_ns
        self.about[count].wirelen = wirelen
        self.bytes += caplen
        return 0

    cdef bytes take(self, About* about):
        """The first frame; None when there is none."""
        cdef bytes frame
        if self.at == len(self.frames):
            return None
        frame = self.frames[self.at]
        self.frames[self.at] = None     # the frame is its taker's alone
        about[0] = self.about[self.at]
        self.bytes -= len(frame)
        self.at += 1
        if self.at == len(self.frames):
            self.frames.clear()
            self.at = 0
        return frame
