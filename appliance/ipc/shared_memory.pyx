# cython: language_level=3
"""The shared memory of batches between a capture and its workers: written once, read in place.

    the sender's file   = control (magic, receivers, slots, slot_bytes, tables, a SlotGrant per table and slot), padded
                          slot 0  slot 1 …
    a receiver's returns = its floor, a word per slot

SlotWriter is the sender's side, SlotReader a receiver's. A slot belongs to the sender until it is granted, then to the
receiver until the receiver drops its SlotLease. The receiver then writes the number of the turn into the slot's word,
and the sender finds it there. Every file has one writer, and neither side waits. A receiver opens the sender's file for reading
only, and can return no slot but its own. A slot may be shared with one more receiver, the last, which has a table of
grants for itself; then the slot is free again when both have returned it. The sender reads the returns without mapping
them: a receiver that truncates its file harms only itself. The slots of a killed receiver stay in use. Its successor finds
them by the SlotGrant that the sender wrote, and returns those below its floor.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from posix.types cimport off_t
from posix.unistd cimport pread

import errno
import mmap
import os
import struct

cdef extern from *:
    """
    #include <sys/stat.h>
    #include <unistd.h>
    #define load_word(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define store_word(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

    /* Reads the returns of a receiver, and returns whether its file still has a name. Missing words keep their value. */
    static int read_returns(int descriptor, uint64_t *words, size_t bytes) {
        struct stat about;
        ssize_t got = pread(descriptor, words, bytes, 0);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        (void)got;
        return fstat(descriptor, &about) == 0 && about.st_nlink > 0;
    }
    """
    bint read_returns(int descriptor, uint64_t* words, size_t size) noexcept nogil
    uint64_t load_word(const uint64_t* word) noexcept nogil
    void store_word(uint64_t* word, uint64_t value) noexcept nogil

ctypedef struct SlotGrant:          # the last receiver of a slot; written from `key` = 0 to the new key
    uint64_t key                    # serial + 1; 0: being written, or never granted
    uint64_t worker             # in the table of shared slots: a number of the sender's, beside the batch
    uint64_t turn
    uint64_t length

cdef enum:
    MOST_SPARES = 4             # copies of batches whose memory is kept for the next ones

CONTROL = struct.Struct("<8sQQQQ")  # magic, receivers, slots, slot_bytes, tables
MAGIC = b"APPAREN3"
GRANT = struct.Struct("<QQQQ")
MOST_SLOTS, MOST_BYTES = 1 << 20, 1 << 40   # of an arena that is one
PAGE = 4096
RETURNS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC      # with these a file is opened that another process made


class SharedMemoryError(Exception):
    """There is no room for the arena, or the file is none. The text is for a person."""


def control_bytes(int slots, int tables=1):
    """Return the bytes in front of the first slot."""
    return -(-(CONTROL.size + <int>sizeof(SlotGrant) * slots * tables) // PAGE) * PAGE


def returns_bytes(int slots):
    """Return the bytes of a receiver's file."""
    return 8 * (slots + 1)


cdef uint8_t* start_of(object memory, Py_buffer* held, int flags) except NULL:
    """Return the first byte of a mapping, pinned until `held` is released."""
    PyObject_GetBuffer(memory, held, flags)
    return <uint8_t*>held.buf


cdef class SlotWriter:
    """The sender's side.

    path: a new file. returns: the file of each receiver, which the receiver makes. slots: the most batches of slot_bytes;
    a slot gets its memory at its first use. shared: the last receiver gets batches of the others, by share().
    """

    cdef object memory
    cdef int descriptor
    cdef Py_buffer held
    cdef uint8_t* base
    cdef SlotGrant* grants          # by slot
    cdef uint64_t* returned         # by receiver: its floor, its words
    cdef list returns               # by receiver: the path of its file
    cdef list readers               # by receiver: a descriptor of its file, -1 while there is none
    cdef readonly int slots
    cdef readonly Py_ssize_t slot_bytes
    cdef Py_ssize_t first
    cdef int made                   # slots that have memory
    cdef int most                   # slots that may have memory
    cdef readonly int refusal       # the errno with which another slot got none the last time; 0: it got some
    cdef list free                  # slots without a reader
    cdef list granted               # (slot, turn, worker, serial) that a worker has
    cdef list turns                 # by slot
    cdef list holders               # by slot: how many receivers have it
    cdef list serials               # of the next batch, by worker
    cdef list counts                # batches that a worker has

    def __init__(self, path, returns, int slots, Py_ssize_t slot_bytes, *, bint shared=False):
        cdef int workers = len(returns)
        cdef int tables = 2 if shared else 1
        self.slots = self.most = slots
        self.slot_bytes = -(-slot_bytes // PAGE) * PAGE
        self.first = control_bytes(slots, tables)
        self.descriptor = -1
        self.readers = [-1] * workers
        self.returns = list(returns)
        self.returned = <uint64_t*>calloc(workers, returns_bytes(slots))
        if self.returned == NULL:
            raise MemoryError
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self.descriptor, 0, self.first)
            os.ftruncate(self.descriptor, self.first + slots * self.slot_bytes)
            self.memory = mmap.mmap(self.descriptor, 0)
        except OSError as error:
            raise SharedMemoryError(f"{path}: {error.strerror}") from error
        self.base = start_of(self.memory, &self.held, PyBUF_WRITABLE)
        self.memory[:CONTROL.size] = CONTROL.pack(MAGIC, workers, slots, self.slot_bytes, tables)
        self.grants = <SlotGrant*>(self.base + <Py_ssize_t>CONTROL.size)
        self.free = []
        self.granted = []
        self.turns = [0] * slots
        self.holders = [0] * slots
        self.serials = [0] * workers
        self.counts = [0] * workers

    def __dealloc__(self):
        if self.base != NULL:
            PyBuffer_Release(&self.held)
        if self.descriptor >= 0:
            os.close(self.descriptor)
        for reader in self.readers or ():
            if reader >= 0:
                os.close(reader)
        free(self.returned)

    cpdef bint available(self) except -1:
        """Return whether acquire() has a slot."""
        if not self.free:
            self.reclaim()
        if not self.free:
            self.grow()
        return bool(self.free)

    cdef bint grow(self) except -1:
        """Make another slot; return whether that worked."""
        if self.made == self.most:
            if self.most < self.slots:
                self.refusal = errno.ENOSPC
            return False
        try:
            os.posix_fallocate(self.descriptor, self.first + self.made * self.slot_bytes, self.slot_bytes)
        except OSError as error:
            self.refusal = error.errno or errno.EIO
            return False
        self.refusal = 0
        self.free.append(self.made)
        self.made += 1
        return True

    def limit(self, int count):
        """Allocate up to `count` slots now, by the room of the file system, and no more later."""
        while self.made < count and self.grow():
            pass
        self.most = max(self.made, 1)

    def acquire(self):
        """Return a slot to write into, or None: all are in use, or the file system is full."""
        cdef int slot
        if not self.available():
            return None
        slot = self.free.pop()
        return memoryview(self.memory)[self.first + slot * self.slot_bytes:self.first + (slot + 1) * self.slot_bytes]

    def slot_of(self, message not None):
        """Return the slot in which these bytes lie, or -1."""
        cdef Py_buffer view
        cdef Py_ssize_t offset
        PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
        offset = <uint8_t*>view.buf - self.base - self.first if view.len else -1
        PyBuffer_Release(&view)
        return offset // self.slot_bytes if 0 <= offset < self.slots * self.slot_bytes else -1

    def grant(self, int slot, int worker, uint64_t length):
        """Grant a slot with a batch of `length` bytes to a worker; return its (turn, serial)."""
        self.turns[slot] += 1
        return self.note(&self.grants[slot], slot, worker, worker, length)

    def share(self, int slot, int receiver, uint64_t length, uint64_t beside):
        """Grant a slot to the last receiver as well, or to it alone; return its (turn, serial).

        beside: a number that it finds with the batch.
        """
        if not self.holders[slot]:
            self.turns[slot] += 1
        return self.note(&self.grants[self.slots + slot], slot, receiver, beside, length)

    cdef note(self, SlotGrant* grant, int slot, int receiver, uint64_t beside, uint64_t length):
        cdef uint64_t serial = self.serials[receiver]
        self.serials[receiver] += 1
        self.granted.append((slot, self.turns[slot], receiver, serial))
        self.counts[receiver] += 1
        self.holders[slot] += 1
        store_word(&grant.key, 0)
        store_word(&grant.worker, beside)
        store_word(&grant.turn, self.turns[slot])
        store_word(&grant.length, length)
        store_word(&grant.key, serial + 1)
        return self.turns[slot], serial

    def release(self, int slot):
        """Release a slot that was acquired and not granted."""
        self.free.append(slot)

    cdef int load_returns(self, int worker) except -1:
        """Read the returns of one receiver, if it has a file already."""
        cdef int descriptor = self.readers[worker]
        if descriptor < 0:
            try:
                descriptor = os.open(self.returns[worker], os.O_RDONLY | RETURNS)
            except OSError:
                return 0
            self.readers[worker] = descriptor
        if not read_returns(descriptor, self.returned + worker * (self.slots + 1), returns_bytes(self.slots)):
            os.close(descriptor)    # a successor has another file
            self.readers[worker] = -1
        return 0

    def reclaim(self):
        """Collect the slots that the workers have released."""
        cdef int slot, worker
        cdef uint64_t* returned
        for worker, count in enumerate(self.counts):
            if count:
                self.load_returns(worker)
        kept = []
        for one in self.granted:
            slot, turn, worker, serial = one
            returned = self.returned + worker * (self.slots + 1)
            if returned[1 + slot] == turn or serial < returned[0]:
                self.counts[worker] -= 1
                self.holders[slot] -= 1
                if not self.holders[slot]:
                    self.free.append(slot)
            else:
                kept.append(one)
        self.granted = kept

    def in_use(self, int worker):
        """Return how many batches the worker has, as of the last reclaim()."""
        return self.counts[worker]


cdef class SlotReader:
    """A receiver's side of an arena. returns: its own file, which is made unless a predecessor did. copies: batches are
    copied when they are read, so that a sender that cuts its file short harms only itself; the kernel alone may read
    them where they lie (LeaseTail.in_place). shared: it is the receiver of shared slots. Raises OSError, or SharedMemoryError if
    the file is no arena."""

    cdef object control
    cdef object memory              # the sender's file, mapped; with copies, this process touches no byte of it
    cdef int descriptor
    cdef Py_buffer held_control
    cdef Py_buffer held
    cdef uint64_t* floor
    cdef uint64_t* words
    cdef const uint8_t* base
    cdef uint64_t workers
    cdef bint shared                # it reads the table of shared slots
    cdef uint64_t slots
    cdef uint64_t slot_bytes
    cdef uint64_t first
    cdef uint8_t* spare[MOST_SPARES]    # memory of released copies
    cdef int spares

    def __init__(self, path, returns, *, bint copies=False, bint shared=False):
        self.shared = shared
        try:
            self.descriptor = os.open(path, os.O_RDONLY | RETURNS)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SharedMemoryError(f"{path}: {error.strerror}") from error
        header = os.pread(self.descriptor, CONTROL.size, 0).ljust(CONTROL.size)
        magic, self.workers, self.slots, self.slot_bytes, tables = CONTROL.unpack(header)
        if magic != MAGIC or self.slots > MOST_SLOTS or self.slot_bytes > MOST_BYTES or not shared < tables <= 2:
            raise SharedMemoryError(f"{path}: not an arena of this version")
        self.first = control_bytes(self.slots, tables)
        if os.fstat(self.descriptor).st_size != self.first + self.slots * self.slot_bytes:
            raise SharedMemoryError(f"{path}: not as long as it says")
        try:
            self.memory = mmap.mmap(self.descriptor, self.first + self.slots * self.slot_bytes, prot=mmap.PROT_READ)
        except ValueError as error:         # its sender has cut it meanwhile
            raise SharedMemoryError(f"{path}: {error}") from error
        if not copies:
            self.base = start_of(self.memory, &self.held, PyBUF_SIMPLE) + <Py_ssize_t>self.first
        size = returns_bytes(self.slots)
        with open(os.open(returns, os.O_RDWR | os.O_CREAT | RETURNS, 0o600), "r+b", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            self.control = mmap.mmap(file.fileno(), size)
        self.floor = <uint64_t*>start_of(self.control, &self.held_control, PyBUF_WRITABLE)
        self.words = self.floor + 1

    def __cinit__(self):
        self.descriptor = -1

    def __dealloc__(self):
        if self.words != NULL:
            PyBuffer_Release(&self.held_control)
        if self.base != NULL:
            PyBuffer_Release(&self.held)
        if self.descriptor >= 0:
            os.close(self.descriptor)
        while self.spares:
            self.spares -= 1
            free(self.spare[self.spares])

    def grants(self):
        """Return the SlotGrant of each slot, as a tuple. One that is granted at this moment may be half written."""
        size = <int>self.slots * GRANT.size
        data = os.pread(self.descriptor, size, CONTROL.size + (size if self.shared else 0))
        return list(GRANT.iter_unpack(data[:len(data) // GRANT.size * GRANT.size]))

    def resume(self, uint64_t worker, uint64_t serial):
        """Resume with this serial: this process reads no earlier batch of the worker. Return unread()."""
        if worker >= self.workers:
            raise SharedMemoryError(f"worker {worker} of {self.workers}")
        store_word(self.floor, serial)
        return self.unread(worker, serial)

    def unread(self, uint64_t worker, uint64_t serial):
        """Return [(serial, slot, turn, length)] of the worker's batches from this serial on, in their order.

        Those granted before the call are complete; of later ones some may be missing.
        """
        first, second, third = self.grants(), self.grants(), self.grants()
        # One that was granted before the search began: all before it were, too.
        last = max((key for (key, to, *_), again in zip(first, second)
                    if (self.shared or to == worker) and again[0] == key), default=0)
        found = []
        for slot, (one, again) in enumerate(zip(second, third)):
            key, to, turn, length = one
            if one != again:
                continue            # it is granted at this moment
            if serial < key <= last and (self.shared or to == worker) and load_word(&self.words[<int>slot]) != turn:
                found.append((key - 1, slot, turn, length))
        return sorted(found)

    def beside(self, uint64_t slot):
        """Return the number beside the batch in a slot that this process has."""
        at = CONTROL.size + <int>(self.slots + slot) * GRANT.size
        return GRANT.unpack(os.pread(self.descriptor, GRANT.size, at).ljust(GRANT.size, b"\0"))[1]

    def lease(self, uint64_t slot, uint64_t turn, uint64_t length):
        """Return the lease of a slot. Its bytes stay as they are until it is released."""
        cdef SlotLease made
        if slot >= self.slots or length > self.slot_bytes:
            raise SharedMemoryError(f"{length} bytes in slot {slot}: there are {self.slots} of {self.slot_bytes}")
        made = SlotLease.__new__(SlotLease)
        made.reader = self
        made.length = <Py_ssize_t>length
        made.word = &self.words[slot]
        made.turn = turn
        made.place = self.first + slot * self.slot_bytes
        if self.base != NULL:
            made.data = self.base + slot * self.slot_bytes
        return made

    cdef int copy(self, SlotLease made) except -1:
        """Copy a batch into memory of a released copy, if there is any: new pages cost more than the copy."""
        cdef ssize_t got
        if self.spares:
            self.spares -= 1
            made.copy = self.spare[self.spares]
        else:
            made.copy = <uint8_t*>malloc(max(self.slot_bytes, <uint64_t>1))
            if made.copy == NULL:
                raise MemoryError
        got = pread(self.descriptor, made.copy, made.length, <off_t>made.place)
        if got != made.length:
            raise SharedMemoryError("a batch was truncated")
        made.data = made.copy
        return 0


@cython.final
@cython.no_gc
cdef class SlotLease:
    """The bytes of one batch, read-only; the slot returns to its sender with the last reference or view.

    If the SlotReader makes copies, the first read of the bytes makes one. That read and start() raise SharedMemoryError
    if the sender has truncated the batch.
    """

    cdef SlotReader reader
    cdef uint64_t place             # in the sender's file
    cdef uint8_t* copy              # of what lies there, slot_bytes long; NULL: it is read where it lies
    cdef const uint8_t* data
    cdef Py_ssize_t length
    cdef uint64_t* word
    cdef uint64_t turn

    def __dealloc__(self):
        if self.word != NULL:
            store_word(self.word, self.turn)
        if self.copy != NULL and self.reader.spares < MOST_SPARES:
            self.reader.spare[self.reader.spares] = self.copy
            self.reader.spares += 1
        else:
            free(self.copy)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self.data == NULL:
            self.reader.copy(self)
        PyBuffer_FillInfo(buffer, self, <void*>self.data, self.length, 1, flags)

    def __len__(self):
        return self.length

    def start(self, Py_ssize_t count):
        """Return a copy of the first bytes, at most `count`."""
        count = min(max(count, 0), self.length)
        start = os.pread(self.reader.descriptor, count, self.place)
        if len(start) != count:
            raise SharedMemoryError("a batch was truncated")
        return start

    def beside(self):
        """Return the number beside a batch that was shared."""
        return self.reader.beside(<uint64_t>(self.word - self.reader.words))

    def tail(self, Py_ssize_t at):
        """Return the LeaseTail from this byte on."""
        cdef LeaseTail made = LeaseTail.__new__(LeaseTail)
        made.lease = self
        made.at = min(max(at, 0), self.length)
        return made


@cython.final
@cython.no_gc
cdef class LeaseTail:
    """The bytes of a batch from one on, read-only, and copied as the SlotLease says."""

    cdef SlotLease lease
    cdef Py_ssize_t at

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self.lease.data == NULL:
            self.lease.reader.copy(self.lease)
        PyBuffer_FillInfo(buffer, self, <void*>(self.lease.data + self.at), self.lease.length - self.at, 1, flags)

    def __len__(self):
        return self.lease.length - self.at

    def in_place(self):
        """Return the bytes in place, for a system call to read.

        The call fails with EFAULT, or stops early, where the file was truncated. A direct read by this process would
        raise SIGBUS there. Keep the LeaseTail as long as the bytes are in use.
        """
        cdef uint64_t start = self.lease.place + <uint64_t>self.at
        return memoryview(self.lease.reader.memory)[start:self.lease.place + <uint64_t>self.lease.length]
