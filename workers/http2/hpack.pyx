# cython: language_level=3
"""Decode header blocks of one direction as an observer has to: exact from the start, honest after a late join or a loss.

RFC 7541. Three states of knowledge:

- exact: every block since the connection's start was decoded;
- joined: entries from before are unknown. An index is a distance from the newest entry, so every entry inserted since is certain;
- behind a loss: how many entries the lost bytes inserted is unknown, see lost_insertions.pyx. Until it is known, only entries
  inserted since are certain.

A block that violates RFC 7541 ends the connection at its receiver; here the decoder joins anew behind it.

Length proof: every read of *p stands behind p < end; a string is read only if its length is at most end - p.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from workers.http2.header_list cimport (
    BAD_HUFFMAN, BAD_INDEX, BAD_INTEGER, BAD_SIZE_UPDATE, BEFORE_LOSS, EXACT, FROM_INFERRED, JOINED,
    NEVER_INDEXED, NO_ENTRY, SOUND, TRUNCATED, Fault, Field, HeaderList, Section, pseudo_bit, reserve,
)
from workers.http2.header_table cimport (
    DEFAULT_TABLE_BYTES, ENTRY_OVERHEAD, INFERRED, MAX_TABLE_BYTES, NAME_UNKNOWN, VALUE_UNKNOWN, Entry, HeaderTable, entry_at,
)
from workers.http2.huffman cimport decode_huffman, decoded_bound
from workers.http2.lost_insertions cimport DECIDED, REFUTED, LostInsertions, Verdict
from workers.http2.static_table cimport STATIC_ENTRIES, StaticEntry, static_entry, token_by_name

FAULTS = ("sound", "truncated", "integer", "index", "huffman", "size_update")   # in the order of Fault
CERTAINTIES = ("exact", "joined", "inferred")                                   # in the order of Certainty
SECTIONS = ("any", "request", "response", "trailers", "client", "server")      # in the order of Section

cdef enum:
    RECENT_BLOCKS = 16          # after this number, the counts of recent blocks are halved
    ENOUGH_INSERTIONS = 4       # before these, the usual number of insertions is unknown
    UNUSUAL = 3                 # a loss hides at most this multiple of the usual insertions …
    BESIDES = 3                 # … and these
    USUAL_FIELD = 32            # bytes of a field in a block; the rest of a longer one says nothing about insertions


cdef Fault read_integer(const uint8_t** at, const uint8_t* end, uint8_t mask, uint64_t* value) noexcept nogil:
    """Read an integer whose prefix is under `mask` (RFC 7541 section 5.1), up to 32 bits; at[0] < end."""
    cdef const uint8_t* p = at[0]
    cdef uint32_t shift = 0
    value[0] = p[0] & mask
    p += 1
    if value[0] == mask:
        while True:
            if p >= end:
                return TRUNCATED
            if shift > 28:
                return BAD_INTEGER
            value[0] += <uint64_t>(p[0] & 127) << shift
            shift += 7
            p += 1
            if p[-1] < 128:
                break
        if value[0] >> 32:
            return BAD_INTEGER
    at[0] = p
    return SOUND


cdef Fault read_string(const uint8_t** at, const uint8_t* end, HeaderList out, size_t offset, size_t* length) except <Fault>-1:
    """Read a string (RFC 7541 section 5.2) to `offset` bytes behind those used of `out`."""
    cdef bint huffman
    cdef uint64_t size = 0
    cdef Py_ssize_t decoded
    cdef Fault fault
    if at[0] >= end:
        return TRUNCATED
    huffman = at[0][0] & 128
    fault = read_integer(at, end, 127, &size)
    if fault != SOUND:
        return fault
    if size > <uint64_t>(end - at[0]):
        return TRUNCATED
    if huffman:
        decoded = decode_huffman(at[0], size, reserve(out, offset + decoded_bound(size)) + offset)
        if decoded < 0:
            return BAD_HUFFMAN
        length[0] = decoded
    else:
        memcpy(reserve(out, offset + size + 1) + offset, at[0], size)
        length[0] = size
    at[0] += size
    return SOUND


cdef inline Field* add_field(HeaderList out, size_t name_length, size_t value_length) except? NULL:
    """Add a field whose strings stand behind the bytes used of `out`, and use them; NULL: the list is full."""
    cdef Field* field
    cdef size_t size = ENTRY_OVERHEAD + name_length + value_length
    if out.size + size > out.limit:
        out.left_out += 1
        return NULL
    if out.count == out.capacity:
        out.make_fields()
    field = &out.fields[out.count]
    out.count += 1
    out.size += size
    field.name_at = <uint32_t>out.used
    field.name_length = <uint32_t>name_length
    field.value_at = <uint32_t>(out.used + name_length)
    field.value_length = <uint32_t>value_length
    field.ordinal = NO_ENTRY
    field.flags = 0
    field.token = 0
    out.used += name_length + value_length
    return field


@cython.final
@cython.no_gc
cdef class HpackDecoder:
    """The decoder of one direction. joined: the connection was open before its first byte was seen."""

    def __init__(self, bint joined=False):
        self.table = HeaderTable()
        self.exact = True
        self.announced = DEFAULT_TABLE_BYTES
        if joined:
            self.announced = self.table.limit = MAX_TABLE_BYTES
            self.join()

    cdef int announce(self, uint32_t limit) noexcept:
        """Note SETTINGS_HEADER_TABLE_SIZE of the other side: the encoder may use a table as large as this."""
        self.announced = max(self.announced, <size_t>limit)
        return 0

    cdef int join(self) noexcept:
        """Forget the table: the entries that it holds are unknown."""
        self.table.forget(self.table.inserted)
        self.table.limit = max(self.table.limit, self.announced)    # a size update may be among what is unknown
        self.exact = False
        self.lost = None
        self.generation += 1
        return 0

    cdef int lose(self, uint64_t size, int64_t blocks) except -1:
        """Note that header blocks of up to `size` bytes were lost. blocks: how many at most; -1: that is unknown.

        Bytes that decode() left unread of a block that is not whole count too.

        Two assumptions beside RFC 7541 and RFC 9113, without which a loss would often leave nothing certain: lost blocks are at
        most twice as long as the longest one seen, and insert at most UNUSUAL times as often for their size as recent ones, and
        BESIDES.
        """
        cdef uint64_t most
        size += self.unread
        self.unread = 0
        if blocks >= 0 and self.longest:
            size = min(size, <uint64_t>blocks * 2 * self.longest)
        most = size // 2        # no insertion is shorter: an indexed name, an empty value
        if most == 0:
            return 0
        if self.table.inserted >= ENOUGH_INSERTIONS and self.recent_bytes:
            most = min(most, BESIDES + UNUSUAL * size * (self.recent_insertions + 1) // self.recent_bytes)
        self.exact = False
        if self.lost is not None:
            self.table.forget(self.lost.border)
            self.generation += 1
        if self.malformed or self.table.oldest == self.table.inserted:
            self.join()
            return 0
        self.table.limit = max(self.table.limit, self.announced)
        self.lost = LostInsertions()
        self.lost.begin(self.table, most, self.table.limit)
        self.behind = 0
        return 0

    cdef Fault decode(self, const uint8_t* p, size_t size, Section section, bint whole, HeaderList out) except <Fault>-1:
        """Decode a header block to `out`, which is empty. whole: False if its end was lost or is still to come.

        Of a block that is not whole, whole representations are decoded. The fault is in out.fault, too.
        """
        cdef const uint8_t* at = p
        cdef const uint8_t* end = p + size
        cdef uint64_t inserted = self.table.inserted
        cdef const uint8_t* field = p
        cdef size_t consumed = 0, usual = 0
        cdef Fault fault = SOUND
        if self.unread:
            self.lose(0, -1)
        while at < end:
            usual += min(at - field, <ptrdiff_t>USUAL_FIELD)
            field = at
            consumed = at - p
            if at[0] & 128:
                fault = self.representation(&at, end, out)
            elif at[0] >> 5 == 1:
                fault = self.representation(&at, end, out)
            else:
                fault = self.literal(&at, end, at[0], out)
            if fault != SOUND:
                break
        else:
            consumed = size
            usual += min(at - field, <ptrdiff_t>USUAL_FIELD)
        self.count_block(consumed, usual, self.table.inserted - inserted)
        self.finish(section, out)
        if fault == TRUNCATED and not whole:
            self.unread = size - consumed
            return SOUND
        out.fault = fault
        if fault != SOUND:
            self.join()
        return fault

    cdef Fault representation(self, const uint8_t** at, const uint8_t* end, HeaderList out) except <Fault>-1:
        """Read an indexed field or a size update (RFC 7541 sections 6.1 and 6.3)."""
        cdef bint indexed = at[0][0] & 128
        cdef uint64_t number = 0
        cdef Fault fault = read_integer(at, end, 127 if indexed else 31, &number)
        if fault != SOUND:
            return fault
        if indexed:
            return self.indexed(number, out)
        if out.count or out.left_out:
            return BAD_SIZE_UPDATE
        return self.resize(number)

    cdef Fault resize(self, uint64_t limit) noexcept:
        """Change the table's maximum size."""
        if limit > self.announced and self.exact:
            return BAD_SIZE_UPDATE
        self.table.set_limit(limit)
        return SOUND

    cdef Fault indexed(self, uint64_t index, HeaderList out) except <Fault>-1:
        """Add the field that an index means."""
        cdef const StaticEntry* static_
        cdef const Entry* entry
        cdef Field* field
        cdef uint64_t held = self.table.inserted - self.table.oldest, behind = 0
        if index <= STATIC_ENTRIES:
            if index == 0:
                return BAD_INDEX
            static_ = static_entry(index)
            memcpy(reserve(out, static_.name_length + static_.value_length), static_.text,
                   static_.name_length + static_.value_length)
            field = add_field(out, static_.name_length, static_.value_length)
            if field != NULL:
                field.token = static_.token
            return SOUND
        index -= STATIC_ENTRIES + 1
        if self.lost is not None:
            behind = self.table.inserted - self.lost.border
            if index >= behind:
                field = add_field(out, 0, 0)
                if field != NULL:
                    field.flags = NAME_UNKNOWN | VALUE_UNKNOWN | BEFORE_LOSS
                    field.depth = <uint32_t>(index - behind)
                    field.pending = <uint32_t>min(self.behind, <uint64_t>0xFFFFFFFF)
                return SOUND
        if index >= held:
            if self.table.complete:
                return BAD_INDEX
            field = add_field(out, 0, 0)
            if field != NULL:
                field.flags = NAME_UNKNOWN | VALUE_UNKNOWN
                field.ordinal = <int64_t>self.table.inserted - 1 - <int64_t>index
            return SOUND
        entry = entry_at(self.table, self.table.inserted - 1 - index)
        reserve(out, <size_t>entry.name_length + entry.value_length)
        # A table has the value of an entry behind its name.
        memcpy(out.data + out.used, self.table.data + entry.name_at, <size_t>entry.name_length + entry.value_length)
        field = add_field(out, entry.name_length, entry.value_length)
        if field != NULL:
            field.token = entry.token
            field.flags = entry.flags
            field.ordinal = <int64_t>self.table.inserted - 1 - <int64_t>index
        return SOUND

    cdef Fault literal(self, const uint8_t** at, const uint8_t* end, uint8_t first, HeaderList out) except <Fault>-1:
        """Read a literal field (RFC 7541 section 6.2): its name by an index or a string, its value a string."""
        cdef bint indexing = first & 64
        cdef uint8_t token = 0, flags = NEVER_INDEXED if first >> 4 == 1 else 0, inherited = 0
        cdef uint64_t index = 0
        cdef size_t name_length = 0, value_length = 0
        cdef const StaticEntry* static_
        cdef const Entry* entry
        cdef const uint8_t* name
        cdef uint32_t depth = 0
        cdef Field* field
        cdef Fault fault = read_integer(at, end, 63 if indexing else 15, &index)
        if fault != SOUND:
            return fault
        if index == 0:
            fault = read_string(at, end, out, 0, &name_length)
            if fault != SOUND:
                return fault
            token = token_by_name(out.data + out.used, name_length)
        elif index <= STATIC_ENTRIES:
            static_ = static_entry(index)
            name_length = static_.name_length
            token = static_.token
            memcpy(reserve(out, name_length), static_.text, name_length)
        else:
            index -= STATIC_ENTRIES + 1
            if self.lost is not None and index >= self.table.inserted - self.lost.border:
                inherited = NAME_UNKNOWN | BEFORE_LOSS
                depth = <uint32_t>(index - (self.table.inserted - self.lost.border))
            elif index >= self.table.inserted - self.table.oldest:
                if self.table.complete:
                    return BAD_INDEX
                inherited = NAME_UNKNOWN
            else:
                entry = entry_at(self.table, self.table.inserted - 1 - index)
                name_length = entry.name_length
                token = entry.token
                inherited = entry.flags & (NAME_UNKNOWN | INFERRED)
                memcpy(reserve(out, name_length), self.table.data + entry.name_at, name_length)
        fault = read_string(at, end, out, name_length, &value_length)
        if fault != SOUND:
            return fault
        name = out.data + out.used
        if indexing:
            self.table.insert(name, name_length, name + name_length, value_length, token,
                              inherited & (NAME_UNKNOWN | INFERRED))
        field = add_field(out, name_length, value_length)
        if field != NULL:
            field.token = token
            field.flags = flags | inherited
            field.depth = depth
            field.pending = <uint32_t>min(self.behind, <uint64_t>0xFFFFFFFF)
        if indexing:
            self.behind += ENTRY_OVERHEAD + name_length + value_length
        return SOUND

    cdef int count_block(self, size_t size, size_t usual, uint64_t inserted) noexcept:
        """Count a block among the recent ones. usual: its size without what is unusually long in it."""
        self.recent_bytes += usual
        self.recent_insertions += inserted
        self.longest = max(self.longest, <uint32_t>size)
        self.recent_blocks += 1
        if self.recent_blocks >= RECENT_BLOCKS:
            self.recent_blocks //= 2
            self.recent_bytes //= 2
            self.recent_insertions //= 2
        return 0

    cdef int finish(self, Section section, HeaderList out) except -1:
        """Look at a list whose block is decoded: its form, what a loss leaves open, what is unknown."""
        cdef uint32_t place
        cdef uint8_t bit
        cdef Field* field
        cdef uint8_t flags = 0
        for place in range(out.count):
            field = &out.fields[place]
            flags |= field.flags
            if field.flags & NAME_UNKNOWN:
                continue
            if field.name_length and out.data[field.name_at] == c":":
                bit = pseudo_bit(field.token)
                if out.regular or bit == 0 or out.pseudo & bit:
                    out.malformed = True
                out.pseudo |= bit
            else:
                out.regular = True
        if out.malformed:
            self.malformed = True
        if self.lost is not None:
            flags |= self.infer_insertions(section, out)
        out.unknown = 0
        if flags & (NAME_UNKNOWN | VALUE_UNKNOWN):
            for place in range(out.count):
                if out.fields[place].flags & (NAME_UNKNOWN | VALUE_UNKNOWN):
                    out.unknown += 1
        out.generation = self.generation
        out.certainty = EXACT if self.exact else FROM_INFERRED if flags & INFERRED else JOINED
        return 0

    cdef uint8_t infer_insertions(self, Section section, HeaderList out) except? 255:
        """Narrow the numbers of lost insertions by a list; fill the fields on which the others agree. Return the flags added."""
        cdef Verdict verdict = self.lost.judge(out, section)
        cdef LostInsertions lost = self.lost
        cdef const Entry* entry
        cdef Field* field
        cdef uint32_t place, missing
        cdef uint64_t ordinal
        cdef uint8_t flags = 0
        if verdict == REFUTED:
            self.table.forget(lost.border)
            self.generation += 1
            self.lost = None
            return 0
        for place in range(out.count):
            field = &out.fields[place]
            if not field.flags & BEFORE_LOSS:
                continue
            entry = lost.agreed(field)
            if entry == NULL or out.size + entry.name_length + entry.value_length > out.limit:
                continue
            reserve(out, <size_t>entry.name_length + entry.value_length)
            memcpy(out.data + out.used, self.table.data + entry.name_at, entry.name_length)
            field.name_at = <uint32_t>out.used
            field.name_length = entry.name_length
            field.token = entry.token
            if entry.name_length and self.table.data[entry.name_at] == c":":
                out.pseudo |= pseudo_bit(entry.token)
            out.used += entry.name_length
            out.size += entry.name_length
            if field.flags & VALUE_UNKNOWN:
                memcpy(out.data + out.used, self.table.data + entry.value_at, entry.value_length)
                field.value_at = <uint32_t>out.used
                field.value_length = entry.value_length
                out.used += entry.value_length
                out.size += entry.value_length
            field.flags = field.flags & ~(NAME_UNKNOWN | VALUE_UNKNOWN) | INFERRED
            flags = INFERRED
        if verdict == DECIDED:
            missing = lost.only()
            self.table.rewritten += 1
            for ordinal in range(self.table.oldest, lost.border):
                entry_at(self.table, ordinal).flags |= INFERRED
            if self.table.oldest > lost.border:
                self.table.complete = False
            else:
                self.table.insert_unknown(lost.border, missing)
            self.lost = None
        return flags

    cdef int empty(self) noexcept:
        """Drop the table and its memory: its entries are unknown from now on."""
        self.join()
        self.table.release()
        return 0

    cdef size_t allocated(self) noexcept:
        """Return the bytes of memory that the decoder has."""
        return self.table.allocated() + (0 if self.lost is None else sizeof(LostInsertions))

    # For tests and tools: the same as Python objects.

    def read(self, bytes block not None, str section="any", bint whole=True, size_t limit=1 << 16):
        """Decode a block; return (fields, certainty, fault), the fields as [(name, value)] with None for what is unknown."""
        cdef HeaderList out = HeaderList(limit)
        self.decode(<const uint8_t*>block, len(block), SECTIONS.index(section), whole, out)
        return out.to_list(), CERTAINTIES[<int>out.certainty], FAULTS[<int>out.fault]

    def note_loss(self, uint64_t size, int64_t blocks=-1):
        """Note that header blocks of up to `size` bytes were lost."""
        self.lose(size, blocks)

    def note_table_size(self, uint32_t limit):
        """Note SETTINGS_HEADER_TABLE_SIZE of the other side."""
        self.announce(limit)

    @property
    def memory(self):
        """Return the bytes that the decoder has allocated."""
        return self.allocated()
