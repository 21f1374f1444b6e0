# cython: language_level=3
"""Store the dynamic table compactly: a ring of entries, and one buffer with their bytes; no Python object for an entry.

Entries have ordinals, counted from the first insertion that was seen, so that an index of the wire is `inserted - 1 - index`
whatever was inserted meanwhile. An encoder that keeps to RFC 7541 never refers to an evicted entry. Keeping an entry too long
is therefore harmless; evicting it too early only makes its value unknown. So an unknown string counts as empty.

Length proof: for each entry held, name_at + name_length <= used and value_at + value_length <= used, and used <= room.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove

cdef enum:
    FIRST_ENTRIES = 16
    FIRST_BYTES = 512


@cython.final
@cython.no_gc
cdef class HeaderTable:
    def __cinit__(self):
        self.limit = DEFAULT_TABLE_BYTES
        self.complete = True

    def __dealloc__(self):
        free(self.ring)
        free(self.data)

    cdef int insert(self, const uint8_t* name, size_t name_length, const uint8_t* value, size_t value_length,
                    uint8_t token, uint8_t flags) except -1:
        """Insert an entry, evicting others for it (RFC 7541 section 4.4). The strings must not lie in self.data."""
        cdef size_t size = ENTRY_OVERHEAD + name_length + value_length
        cdef Entry* entry
        if size > self.limit:
            self.evict(0)
            return 0
        if size > MAX_TABLE_BYTES:
            name_length = value_length = 0
            flags |= NAME_UNKNOWN | VALUE_UNKNOWN
            token = 0
            size = ENTRY_OVERHEAD
        self.evict(self.limit - size)
        if MAX_TABLE_BYTES - size < self.size:
            self.complete = False
            self.evict(MAX_TABLE_BYTES - size)
        if self.data == NULL or self.used + name_length + value_length > self.room:
            self.make_room(name_length + value_length)
        if self.ring == NULL or self.inserted - self.oldest > self.mask:
            self.grow_ring(self.inserted - self.oldest + 1)
        entry = entry_at(self, self.inserted)
        entry.name_at = <uint32_t>self.used
        entry.name_length = <uint32_t>name_length
        if name_length:
            memcpy(self.data + self.used, name, name_length)
        self.used += name_length
        entry.value_at = <uint32_t>self.used
        entry.value_length = <uint32_t>value_length
        if value_length:
            memcpy(self.data + self.used, value, value_length)
        self.used += value_length
        entry.token = token
        entry.flags = flags
        self.size += size
        self.inserted += 1
        return 0

    cdef int evict(self, size_t limit) noexcept:
        """Evict the oldest entries until the size is at most limit."""
        while self.size > limit:
            self.size -= entry_size(entry_at(self, self.oldest))
            self.oldest += 1
        return 0

    cdef int set_limit(self, size_t limit) noexcept:
        """Change the maximum size (RFC 7541 section 4.3)."""
        self.limit = limit
        self.evict(limit)
        return 0

    cdef int forget(self, uint64_t before) noexcept:
        """Drop the entries with an ordinal below `before`; from here on, entries older than the others are unknown."""
        self.complete = False
        while self.oldest < before and self.oldest < self.inserted:
            self.size -= entry_size(entry_at(self, self.oldest))
            self.oldest += 1
        return 0

    cdef int insert_unknown(self, uint64_t at, uint64_t count) except -1:
        """Insert `count` unknown entries before ordinal `at`; later ordinals rise by `count`."""
        cdef uint64_t ordinal
        cdef Entry* entry
        cdef uint32_t place
        if count == 0:
            return 0
        self.grow_ring(self.inserted - self.oldest + count)
        place = <uint32_t>self.used if at >= self.inserted else entry_at(self, at).name_at
        ordinal = self.inserted
        while ordinal > at:
            ordinal -= 1
            self.ring[(ordinal + count) & self.mask] = self.ring[ordinal & self.mask]
        for ordinal in range(at, at + count):
            entry = entry_at(self, ordinal)
            entry.name_at = entry.value_at = place
            entry.name_length = entry.value_length = 0
            entry.token = 0
            entry.flags = NAME_UNKNOWN | VALUE_UNKNOWN
        self.inserted += count
        self.rewritten += 1
        self.size += ENTRY_OVERHEAD * count
        self.evict(min(self.limit, <size_t>MAX_TABLE_BYTES))
        return 0

    cdef int make_room(self, size_t need) except -1:
        """Move the live bytes to the front; enlarge the buffer if they and `need` would fill more than half of it."""
        cdef size_t start = self.used if self.oldest == self.inserted else entry_at(self, self.oldest).name_at
        cdef size_t live = self.used - start, room = max(self.room, <size_t>FIRST_BYTES)
        cdef uint64_t ordinal
        cdef uint8_t* data
        if start:
            memmove(self.data, self.data + start, live)
            for ordinal in range(self.oldest, self.inserted):
                entry_at(self, ordinal).name_at -= <uint32_t>start
                entry_at(self, ordinal).value_at -= <uint32_t>start
            self.used = live
        while room < 2 * (live + need):
            room *= 2
        if room > self.room:
            data = <uint8_t*>realloc(self.data, room)
            if data == NULL:
                raise MemoryError()
            self.data = data
            self.room = room
        return 0

    cdef int grow_ring(self, uint64_t entries) except -1:
        """Make the ring large enough; entries: how many it must hold."""
        cdef uint64_t capacity = FIRST_ENTRIES if self.ring == NULL else <uint64_t>self.mask + 1, ordinal
        cdef Entry* ring
        if self.ring != NULL and capacity >= entries:
            return 0
        while capacity < entries:
            capacity *= 2
        ring = <Entry*>calloc(capacity, sizeof(Entry))
        if ring == NULL:
            raise MemoryError()
        for ordinal in range(self.oldest, self.inserted):
            ring[ordinal & (capacity - 1)] = self.ring[ordinal & self.mask]
        free(self.ring)
        self.ring = ring
        self.mask = <uint32_t>(capacity - 1)
        return 0

    cdef int release(self) noexcept:
        """Drop all entries, and free their memory."""
        self.forget(self.inserted)
        free(self.ring)
        free(self.data)
        self.ring = NULL
        self.data = NULL
        self.mask = 0
        self.room = self.used = 0
        return 0

    cdef size_t allocated(self) noexcept:
        """Return the bytes of memory that the table has."""
        return self.room + (0 if self.ring == NULL else (<size_t>self.mask + 1) * sizeof(Entry))
