# cython: language_level=3
"""Infer how many entries a loss hides from the dynamic table, from the header lists behind it.

An index behind a loss counts from the newest entry. Which older entry it means depends on one number: how many entries the
lost bytes inserted. Each number that the lost bytes allow is a candidate. A header list refutes a candidate under which

- an index would be beyond the table: the entries that are newer than it fill the table's size (RFC 7541 section 4.1),
- a pseudo-header would stand behind another field, twice, or in a section where it is not allowed (RFC 9113 section 8.3),
- a pseudo-header that the section must have is missing, and no unknown field can be it,
- the value of a pseudo-header would not have its form.

Under a candidate, an index may mean a lost entry; that refutes nothing. A value is given only where all candidates that are
left agree. Header lists that violate RFC 9113 whatever the number is make their direction useless for this; the decoder then
gives up the old entries. It does so after JUDGED_LISTS lists, too. A list costs at most JUDGED_FIELDS times MAX_OLD look-ups.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from workers.http2.header_list cimport (
    BEFORE_LOSS, FROM_CLIENT, METHOD, METHOD_BIT, PATH, PATH_BIT, REQUEST_SECTION, RESPONSE_SECTION, SCHEME, SCHEME_BIT, STATUS,
    STATUS_BIT, TRAILER_SECTION, Field, HeaderList, Section, pseudo_bit,
)
from workers.http2.header_table cimport (
    ENTRY_OVERHEAD, NAME_UNKNOWN, VALUE_UNKNOWN, Entry, HeaderTable, entry_at, entry_size,
)


cdef bint allowed(uint8_t bits, Section section) noexcept nogil:
    """Return whether these pseudo-headers may stand in one such section."""
    if section == REQUEST_SECTION or section == FROM_CLIENT:
        return not bits & STATUS_BIT
    if section == RESPONSE_SECTION:
        return not bits & ~STATUS_BIT
    if section == TRAILER_SECTION:
        return not bits
    return not bits & STATUS_BIT or bits == STATUS_BIT


cdef bint well_formed(uint8_t token, const uint8_t* p, size_t size) noexcept nogil:
    """Return whether the value of a pseudo-header has its form (RFC 9113 section 8.3, RFC 9110 sections 9.1 and 15)."""
    if token == PATH:
        return size > 0 and (p[0] == c"/" or p[0] == c"*")
    if token == STATUS:
        return size == 3 and c"1" <= p[0] <= c"9" and c"0" <= p[1] <= c"9" and c"0" <= p[2] <= c"9"
    if token == SCHEME:
        return size > 0 and (c"a" <= p[0] <= c"z" or c"A" <= p[0] <= c"Z")
    if token == METHOD:
        return size > 0
    return True


@cython.final
@cython.no_gc
cdef class LostInsertions:
    cdef int begin(self, HeaderTable table, uint64_t most, size_t limit) noexcept:
        """Start with the table as it was before the loss. most: insertions that may be missing; limit: of the table's size."""
        cdef uint32_t place
        self.table = table
        self.border = table.inserted
        self.old = <uint32_t>min(table.inserted - table.oldest, <uint64_t>MAX_OLD)
        self.deeper = not table.complete or table.inserted - table.oldest > MAX_OLD
        self.any_more = most > self.old
        self.candidates = self.left = <uint32_t>min(most, <uint64_t>self.old) + 1
        self.limit = limit
        self.judged = 0
        self.sizes[0] = 0
        for place in range(self.candidates):
            self.alive[place] = True
        for place in range(self.old):
            self.sizes[place + 1] = self.sizes[place] + <uint32_t>entry_size(entry_at(table, self.border - 1 - place))
        return 0

    cdef const Entry* entry(self, uint32_t depth, uint32_t missing, uint32_t pending, bint* impossible) noexcept:
        """Return the old entry that a field means under a candidate; NULL: a lost entry, or one never seen."""
        cdef uint32_t place
        impossible[0] = False
        if missing == self.old and self.any_more or depth < missing:
            return NULL
        place = depth - missing
        if place >= self.old:
            impossible[0] = not self.deeper
            return NULL
        if <uint64_t>self.sizes[place + 1] + pending + <uint64_t>ENTRY_OVERHEAD * missing > self.limit:
            impossible[0] = True
            return NULL
        if self.border - 1 - place < self.table.oldest:
            return NULL         # evicted since the field, by others of its block
        return entry_at(self.table, self.border - 1 - place)

    cdef Verdict judge(self, HeaderList fields, Section section) noexcept:
        """Drop the candidates that contradict a header list, whose fields from before the loss are marked BEFORE_LOSS."""
        cdef uint32_t missing, place
        cdef bint old = False
        for place in range(min(fields.count, <uint32_t>JUDGED_FIELDS)):
            old = old or fields.fields[place].flags & BEFORE_LOSS
        if fields.malformed:
            return REFUTED
        if old:
            for missing in range(self.candidates):
                if self.alive[missing] and not self.consistent(fields, section, missing):
                    self.alive[missing] = False
                    self.left -= 1
        self.judged += 1
        if self.left == 0 or self.judged >= JUDGED_LISTS and self.left > 1:
            return REFUTED
        if self.left > 1:
            return UNDECIDED
        return REFUTED if self.any_more and self.alive[self.old] else DECIDED

    cdef bint consistent(self, HeaderList fields, Section section, uint32_t missing) noexcept:
        """Return whether a header list is possible; missing: number of lost insertions."""
        cdef uint32_t place, unknown = 0, required = 0, count = min(fields.count, <uint32_t>JUDGED_FIELDS)
        cdef const Field* field
        cdef const Entry* entry
        cdef const uint8_t* name
        cdef const uint8_t* value
        cdef uint32_t name_length, value_length
        cdef uint8_t token, bit, bits = 0
        cdef bint regular = False, impossible = False, connect = False, valued
        for place in range(count):
            field = &fields.fields[place]
            token = field.token
            name = fields.data + field.name_at
            name_length = field.name_length
            value = fields.data + field.value_at
            value_length = field.value_length
            valued = not field.flags & VALUE_UNKNOWN
            if field.flags & BEFORE_LOSS:
                entry = self.entry(field.depth, missing, field.pending, &impossible)
                if impossible:
                    return False
                if entry == NULL or entry.flags & NAME_UNKNOWN:
                    unknown += not regular
                    continue
                token = entry.token
                name = self.table.data + entry.name_at
                name_length = entry.name_length
                if not valued:          # else only the name comes from the entry
                    value = self.table.data + entry.value_at
                    value_length = entry.value_length
                    valued = not entry.flags & VALUE_UNKNOWN
            elif field.flags & NAME_UNKNOWN:
                unknown += not regular
                continue
            if name_length == 0 or name[0] != c":":
                regular = True
                continue
            bit = pseudo_bit(token)
            if regular or bit == 0 or bits & bit or not allowed(bits | bit, section):
                return False
            bits |= bit
            if valued and field.flags & BEFORE_LOSS and not well_formed(token, value, value_length):
                return False
            if token == METHOD:
                connect = not valued or value_length == 7 and memcmp(value, b"CONNECT", 7) == 0
        if count < fields.count or fields.left_out:
            return True
        if section == REQUEST_SECTION:
            required = not bits & METHOD_BIT
            if bits & METHOD_BIT and not connect:
                required += (not bits & SCHEME_BIT) + (not bits & PATH_BIT)
        elif section == RESPONSE_SECTION:
            required = not bits & STATUS_BIT
        return required <= unknown

    cdef const Entry* agreed(self, const Field* field) noexcept:
        """Return the old entry that a field means under every candidate left, or one with the same strings; NULL: they differ."""
        cdef const Entry* first = NULL
        cdef const Entry* entry
        cdef bint impossible = False
        cdef uint32_t missing
        cdef const uint8_t* data = self.table.data
        if self.left > 4:
            return NULL
        for missing in range(self.candidates):
            if not self.alive[missing]:
                continue
            entry = self.entry(field.depth, missing, field.pending, &impossible)
            if entry == NULL or entry.flags & (NAME_UNKNOWN | VALUE_UNKNOWN):
                return NULL
            if first == NULL:
                first = entry
            elif entry.name_length != first.name_length or entry.value_length != first.value_length \
                    or memcmp(data + entry.name_at, data + first.name_at, entry.name_length) != 0 \
                    or memcmp(data + entry.value_at, data + first.value_at, entry.value_length) != 0:
                return NULL
        return first

    cdef uint32_t only(self) noexcept:
        """Return the candidate that is left, once one alone is."""
        cdef uint32_t missing
        for missing in range(self.candidates):
            if self.alive[missing]:
                return missing
        return 0
