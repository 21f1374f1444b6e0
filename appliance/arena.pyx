# cython: language_level=3
"""The memory in which batches cross from a capture to its workers: written once, read where it lies, never sent.

    file = control (magic, slots, slot_bytes, a floor per worker, a word and a Given per slot), padded   slot 0   slot 1  …

Arena is the capture's side, View a worker's. A slot belongs to the capture until it is passed on, then to the worker until
that lets its Batch go: it writes the number of the turn into the slot's word, and the capture finds it there. Every word has
one writer at a time, and nobody waits for anybody. What a killed worker had and did not give back lies there still: its
successor finds it by what the capture wrote when it passed the slot on (Given), and says by its floor which batches nobody
reads any more.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint64_t

import mmap
import os
import struct

cdef extern from *:
    """
    #define load_word(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define store_word(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    """
    uint64_t load_word(uint64_t* word) noexcept nogil
    void store_word(uint64_t* word, uint64_t value) noexcept nogil

ctypedef struct Given:              # to whom a slot was passed on last; written from `key` = 0 to the new key
    uint64_t key                    # serial + 1; 0: being written, or never passed on
    uint64_t worker
    uint64_t turn
    uint64_t length

CONTROL = struct.Struct("<8sQQQ")   # magic, workers, slots, slot_bytes
MAGIC = b"APPARENA"
PAGE = 4096
SLOT_CONTROL = 8 + sizeof(Given)    # bytes


class ArenaError(Exception):
    """There is no room for the arena, or the file is none. The text is for a person."""


def control_bytes(int workers, int slots):
    """Bytes in front of the first slot."""
    return -(-(CONTROL.size + 8 * workers + SLOT_CONTROL * slots) // PAGE) * PAGE


cdef uint8_t* start_of(object memory, Py_buffer* held, int flags) except NULL:
    """The first byte of a mapping, pinned until `held` is released."""
    PyObject_GetBuffer(memory, held, flags)
    return <uint8_t*>held.buf


cdef class Arena:
    """The capture's side. path: a new file; slots: at most so many batches of slot_bytes, memory is taken as it is needed."""

    cdef object memory
    cdef int descriptor
    cdef Py_buffer held
    cdef uint8_t* base
    cdef uint64_t* floors           # by worker
    cdef uint64_t* words            # by slot
    cdef Given* given               # by slot
    cdef readonly int slots
    cdef readonly Py_ssize_t slot_bytes
    cdef Py_ssize_t first
    cdef int made                   # slots that have memory
    cdef list free                  # slots that nobody reads
    cdef list gone                  # (slot, turn, worker, serial) that a worker has
    cdef list turns                 # by slot
    cdef list serials               # of the next batch, by worker
    cdef list counts                # batches that a worker has

    def __init__(self, path, int workers, int slots, Py_ssize_t slot_bytes):
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // PAGE) * PAGE
        self.first = control_bytes(workers, slots)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self.descriptor, 0, self.first)
            os.ftruncate(self.descriptor, self.first + slots * self.slot_bytes)
            self.memory = mmap.mmap(self.descriptor, 0)
        except OSError as error:
            raise ArenaError(f"{path}: {error.strerror}") from error
        self.base = start_of(self.memory, &self.held, PyBUF_WRITABLE)
        self.memory[:CONTROL.size] = CONTROL.pack(MAGIC, workers, slots, self.slot_bytes)
        self.floors = <uint64_t*>(self.base + <Py_ssize_t>CONTROL.size)
        self.words = self.floors + workers
        self.given = <Given*>(self.words + slots)
        self.free = []
        self.gone = []
        self.turns = [0] * slots
        self.serials = [0] * workers
        self.counts = [0] * workers

    def __dealloc__(self):
        if self.base != NULL:
            PyBuffer_Release(&self.held)
            os.close(self.descriptor)

    cpdef bint available(self) except -1:
        """Whether lend() has a slot."""
        if not self.free:
            self.collect()
        if not self.free and self.made < self.slots:
            try:
                os.posix_fallocate(self.descriptor, self.first + self.made * self.slot_bytes, self.slot_bytes)
            except OSError:
                return False
            self.free.append(self.made)
            self.made += 1
        return bool(self.free)

    def lend(self):
        """A slot to write into, or None: all are in use, or the file system is full."""
        cdef int slot
        if not self.available():
            return None
        slot = self.free.pop()
        return memoryview(self.memory)[self.first + slot * self.slot_bytes:self.first + (slot + 1) * self.slot_bytes]

    def slot_of(self, message not None):
        """The slot in which these bytes lie, or -1."""
        cdef const uint8_t[::1] view = message
        cdef Py_ssize_t offset
        if view.shape[0] == 0:
            return -1
        offset = &view[0] - self.base - self.first
        return offset // self.slot_bytes if 0 <= offset < self.slots * self.slot_bytes else -1

    def give(self, int slot, int worker, uint64_t length):
        """(turn, serial) of a slot with a batch of so many bytes that is passed on to a worker now."""
        cdef Given* given = &self.given[slot]
        cdef uint64_t serial = self.serials[worker]
        self.turns[slot] += 1
        self.serials[worker] += 1
        self.gone.append((slot, self.turns[slot], worker, serial))
        self.counts[worker] += 1
        store_word(&given.key, 0)
        store_word(&given.worker, <uint64_t>worker)
        store_word(&given.turn, self.turns[slot])
        store_word(&given.length, length)
        store_word(&given.key, serial + 1)
        return self.turns[slot], serial

    def take_back(self, int slot):
        """A slot that was lent and not passed on."""
        self.free.append(slot)

    def collect(self):
        """Takes in what the workers have let go."""
        cdef int slot, worker
        kept = []
        for one in self.gone:
            slot, turn, worker, serial = one
            if load_word(&self.words[slot]) == turn or serial < load_word(&self.floors[worker]):
                self.free.append(slot)
                self.counts[worker] -= 1
            else:
                kept.append(one)
        self.gone = kept

    def out(self, int worker):
        """How many batches the worker has, as of the last collect()."""
        return self.counts[worker]


cdef class View:
    """A worker's side of an arena: frames are mapped for reading only. Raises OSError, or ArenaError if it is none."""

    cdef object control
    cdef object memory
    cdef Py_buffer held_control
    cdef Py_buffer held
    cdef uint64_t* floors
    cdef uint64_t* words
    cdef Given* given
    cdef const uint8_t* base
    cdef uint64_t workers
    cdef uint64_t slots
    cdef uint64_t slot_bytes

    def __init__(self, path):
        with open(path, "r+b", buffering=0) as file:
            magic, self.workers, self.slots, self.slot_bytes = CONTROL.unpack(file.read(CONTROL.size).ljust(CONTROL.size))
            if magic != MAGIC:
                raise ArenaError(f"{path}: not an arena of this version")
            first = control_bytes(self.workers, self.slots)
            if os.fstat(file.fileno()).st_size != first + self.slots * self.slot_bytes:
                raise ArenaError(f"{path}: not as long as it says")
            self.control = mmap.mmap(file.fileno(), first)
            self.memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.floors = <uint64_t*>(start_of(self.control, &self.held_control, PyBUF_WRITABLE) + <Py_ssize_t>CONTROL.size)
        self.words = self.floors + self.workers
        self.given = <Given*>(self.words + self.slots)
        self.base = start_of(self.memory, &self.held, PyBUF_SIMPLE) + <Py_ssize_t>first

    def __dealloc__(self):
        if self.words != NULL:
            PyBuffer_Release(&self.held_control)
        if self.base != NULL:
            PyBuffer_Release(&self.held)

    def begin(self, uint64_t worker, uint64_t serial):
        """This process reads no batch of the worker's that was passed on before this one.

        Returns [(serial, slot, turn, length)] of those from there on that are there already, in their order: each was
        passed on to a predecessor. They may be announced once more.
        """
        cdef Given seen
        cdef uint64_t slot
        cdef uint64_t last = 0      # key of one that was passed on before the search began: all before it were, too
        if worker >= self.workers:
            raise ArenaError(f"worker {worker} of {self.workers}")
        store_word(&self.floors[worker], serial)
        left = []
        for slot in range(self.slots):
            seen.key = load_word(&self.given[slot].key)
            if load_word(&self.given[slot].worker) == worker and load_word(&self.given[slot].key) == seen.key:
                last = max(last, seen.key)
        for slot in range(self.slots):
            seen.key = load_word(&self.given[slot].key)
            seen.worker = load_word(&self.given[slot].worker)
            seen.turn = load_word(&self.given[slot].turn)
            seen.length = load_word(&self.given[slot].length)
            if not serial < seen.key <= last or seen.worker != worker or load_word(&self.words[slot]) == seen.turn:
                continue
            if load_word(&self.given[slot].key) == seen.key:    # else it is passed on in this moment, and will be announced
                left.append((seen.key - 1, slot, seen.turn, seen.length))
        return sorted(left)

    def batch(self, uint64_t slot, uint64_t turn, uint64_t length):
        """The Batch in a slot. Its bytes stay as they are until it is let go."""
        cdef Batch made
        if slot >= self.slots or length > self.slot_bytes:
            raise ArenaError(f"{length} bytes in slot {slot}: there are {self.slots} of {self.slot_bytes}")
        made = Batch.__new__(Batch)
        made.view = self
        made.data = self.base + slot * self.slot_bytes
        made.length = <Py_ssize_t>length
        made.word = &self.words[slot]
        made.turn = turn
        return made


@cython.final
@cython.no_gc
cdef class Batch:
    """The bytes of one batch, read-only; the slot goes back when nobody holds this object or a view of it any more."""

    cdef View view
    cdef const uint8_t* data
    cdef Py_ssize_t length
    cdef uint64_t* word
    cdef uint64_t turn

    def __dealloc__(self):
        if self.word != NULL:
            store_word(self.word, self.turn)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*>self.data, self.length, 1, flags)

    def __len__(self):
        return self.length
