# cython: language_level=3
"""LostInsertions: how many entries a lost part of the header blocks inserted."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from workers.http2.header_list cimport Field, HeaderList, Section
from workers.http2.header_table cimport Entry, HeaderTable

cdef enum:
    MAX_OLD = 128               # entries from before the loss that are candidates: the most that the default table can hold
    JUDGED_FIELDS = 64          # of a header list
    JUDGED_LISTS = 64           # after these, the decoder forgets the entries that are still undecided

cdef enum Verdict:
    UNDECIDED
    DECIDED                     # one number is left
    REFUTED                     # none is left, or none that says anything of the old entries


cdef class LostInsertions:
    cdef HeaderTable table
    cdef uint64_t border        # ordinal of the first entry inserted behind the loss
    cdef uint32_t old           # entries from before it that are held
    cdef bint deeper            # the table may have held more of them
    cdef bint any_more          # more insertions than `old` may be missing: the last candidate stands for all these
    cdef uint32_t candidates    # numbers from 0 to candidates - 1
    cdef uint32_t left          # … of which are not refuted
    cdef uint32_t judged        # header lists so far
    cdef size_t limit           # the largest size that the table may have had
    cdef bint[MAX_OLD + 1] alive
    cdef uint32_t[MAX_OLD + 1] sizes    # of the newest n old entries

    cdef int begin(self, HeaderTable table, uint64_t most, size_t limit) noexcept
    cdef const Entry* entry(self, uint32_t depth, uint32_t missing, uint32_t pending, bint* impossible) noexcept
    cdef Verdict judge(self, HeaderList fields, Section section) noexcept
    cdef bint consistent(self, HeaderList fields, Section section, uint32_t missing) noexcept
    cdef const Entry* agreed(self, const Field* field) noexcept
    cdef uint32_t only(self) noexcept
