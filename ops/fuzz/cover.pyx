# cython: language_level=3
"""The blocks of the sanitized rooms that have run, and buffers without a spare byte behind them.

gcc calls __sanitizer_cov_trace_pc at the start of every basic block of a file compiled with -fsanitize-coverage=trace-pc.
Two tables of addresses are kept: the blocks that have run, and the steps from one block to another (as AFL does); a step
that was never taken before makes an input worth keeping. This file itself is compiled without sanitizers, and must be
loaded with RTLD_GLOBAL before the rooms.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #define COVER_SLOTS (1u << 20)
    #define COVER_FULL (COVER_SLOTS / 4 * 3)
    struct cover_table { uintptr_t slots[COVER_SLOTS]; uint32_t used; };
    static struct cover_table cover_blocks, cover_steps;
    static uintptr_t cover_previous;
    static void cover_note(struct cover_table* table, uintptr_t key) {
        uint32_t at = (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 44);
        while (table->slots[at]) {
            if (table->slots[at] == key)
                return;
            at = (at + 1) & (COVER_SLOTS - 1);
        }
        if (table->used < COVER_FULL) {
            table->slots[at] = key;
            table->used++;
        }
    }
    __attribute__((visibility("default"))) void __sanitizer_cov_trace_pc(void) {
        uintptr_t block = (uintptr_t)__builtin_return_address(0);
        cover_note(&cover_blocks, block);
        cover_note(&cover_steps, block ^ (cover_previous << 16 | cover_previous >> 48));
        cover_previous = block;
    }
    """
    struct cover_table:
        uintptr_t* slots
        unsigned int used
    cover_table cover_blocks
    cover_table cover_steps
    uintptr_t cover_previous
    enum:
        COVER_SLOTS


def begin():
    """A new execution: its first block is no step from the last one of the execution before."""
    global cover_previous
    cover_previous = 0


def steps():
    """Return the number of different steps between blocks since the process began."""
    return cover_steps.used


def blocks():
    """The return addresses of all blocks that have run."""
    return [cover_blocks.slots[at] for at in range(COVER_SLOTS) if cover_blocks.slots[at]]


cdef class Exact:
    """A read-only copy of some bytes in memory of exactly their size.

    A bytes object ends with a NUL and a bytearray has room to grow: a read one byte too far stays inside their memory,
    and no sanitizer sees it. Here it is seen.
    """
    cdef uint8_t* data
    cdef Py_ssize_t size

    def __cinit__(self, const uint8_t[::1] source not None):
        self.size = source.shape[0]
        self.data = <uint8_t*>malloc(self.size)
        if self.data == NULL:
            raise MemoryError
        if self.size:
            memcpy(self.data, &source[0], self.size)

    def __dealloc__(self):
        free(self.data)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE == PyBUF_WRITABLE:
            raise BufferError("read-only")
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)
