# cython: language_level=3
"""EventBody: lines of JSON in one growing buffer, with the topic of each.

All protocols of a pipeline append to the same body, so the events of a connection stay in the order in which they ended.

Length proof: an encoder adds up the longest that its event can become and asks for that much room() before it writes.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from appliance.ipc.event_runs cimport RUN_EVENTS, Run
from workers.core.backlog_share cimport Share, Taken

cdef enum:
    FIRST_CAPACITY = 1 << 16
    FIRST_RUNS = 512
    LONGEST = 0xFFFFFFFF        # bytes of a run


cdef class EventBody:
    """The events of one pipeline. limit: bytes of a body and its runs; a longer event has a body of its own.

    share: the part of the backlog that one connection may have.
    """

    def __init__(self, size_t limit, Share share=None):
        self.full = []
        self.share = Share() if share is None else share
        self.limit = limit

    def __dealloc__(self):
        free(self.data)
        free(self.runs)

    def take(self):
        """Return [(runs, events, body)] since the last take(). No newline ends a body. runs: see appliance.ipc.event_runs."""
        if self.lines:
            self.close(self.used)
        taken = self.full
        self.full = []
        self.events = self.size = 0
        return taken

    cdef int close(self, size_t end) except -1:
        """Make one body of the lines up to `end`; a line behind them begins the next."""
        runs = PyBytes_FromStringAndSize(<char*>self.runs, self.runs_used * sizeof(Run))
        self.full.append((runs, self.lines, PyBytes_FromStringAndSize(<char*>self.data, end - 1)))
        self.used -= end
        memmove(self.data, self.data + end, self.used)
        self.lines = self.runs_used = 0
        self.share.number += 1
        return 0

    cdef int line(self, int topic, size_t length) except -1:
        """Add a line of this topic to the runs."""
        cdef Run* run
        cdef Run* grown
        cdef size_t capacity
        if self.runs_used:
            run = &self.runs[self.runs_used - 1]
            if run.what >> 24 == <uint32_t>topic and run.what & RUN_EVENTS < RUN_EVENTS and length <= LONGEST - run.bytes:
                run.bytes += <uint32_t>length
                run.what += 1
                return 0
        if self.runs_used == self.runs_capacity:
            capacity = max(2 * self.runs_capacity, <size_t>FIRST_RUNS)
            grown = <Run*>realloc(self.runs, capacity * sizeof(Run))
            if grown == NULL:
                raise MemoryError
            self.runs = grown
            self.runs_capacity = capacity
        run = &self.runs[self.runs_used]
        run.bytes = <uint32_t>length
        run.what = <uint32_t>topic << 24 | 1
        self.runs_used += 1
        return 0

    cdef uint8_t* room(self, size_t bound) except NULL:
        """Return the place of the next event, with room for `bound` bytes."""
        cdef uint8_t* grown
        cdef size_t capacity
        if self.capacity - self.used < bound:
            capacity = max(2 * self.capacity, self.used + bound, <size_t>FIRST_CAPACITY)
            grown = <uint8_t*>realloc(self.data, capacity)
            if grown == NULL:
                raise MemoryError
            self.data = grown
            self.capacity = capacity
        return self.data + self.used

    cdef int append(self, int topic, const uint8_t* end, Taken* taken) except -1:
        """Take the line that was written at room(), up to `end`, as an event of this topic and connection."""
        cdef size_t before = self.used, length = (end - self.data) - before
        self.used += length
        self.size += length
        if before and self.used - 1 + (self.runs_used + 1) * sizeof(Run) > self.limit:
            self.close(before)
        self.line(topic, length)
        self.share.add(taken, length)
        self.lines += 1
        self.events += 1
        return 0

    cdef uint8_t* time(self, uint8_t* out, uint64_t ns) noexcept:
        """Write RFC 3339 in UTC with nine digits. The text of a second is made once and kept."""
        cdef uint64_t second = ns // 1000000000
        cdef uint32_t rest = <uint32_t>(ns % 1000000000)
        cdef int i
        if second != self.second or self.second_text[0] == 0:
            put_second(self.second_text, second)
            self.second = second
        memcpy(out, self.second_text, 19)
        out[19] = 46
        for i in range(28, 19, -1):
            out[i] = <uint8_t>(48 + rest % 10)
            rest //= 10
        out[29] = 90
        return out + TIME_BYTES


cdef void put_second(uint8_t* out, uint64_t second) noexcept nogil:
    """Write the 2026-11-22T10:00:00 of a POSIX time: days to a date in the proleptic Gregorian calendar, years from March on."""
    cdef uint64_t days = second // 86400, clock = second % 86400
    cdef uint64_t z = days + 719468                     # from 0000-03-01
    cdef uint64_t era = z // 146097
    cdef uint64_t doe = z - era * 146097
    cdef uint64_t yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    cdef uint64_t doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    cdef uint64_t mp = (5 * doy + 2) // 153
    cdef uint64_t day = doy - (153 * mp + 2) // 5 + 1
    cdef uint64_t month = mp + 3 if mp < 10 else mp - 9
    cdef uint64_t year = yoe + era * 400 + (1 if month <= 2 else 0)
    put_two(out, year // 100 % 100)
    put_two(out + 2, year % 100)
    out[4] = out[7] = 45
    put_two(out + 5, month)
    put_two(out + 8, day)
    out[10] = 84
    put_two(out + 11, clock // 3600)
    out[13] = out[16] = 58
    put_two(out + 14, clock // 60 % 60)
    put_two(out + 17, clock % 60)


cdef inline void put_two(uint8_t* out, uint64_t value) noexcept nogil:
    out[0] = <uint8_t>(48 + value // 10)
    out[1] = <uint8_t>(48 + value % 10)
