# cython: language_level=3
"""Hold the fields of a header section compactly: an array of fields, and one buffer with their bytes."""
cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, realloc

from workers.http2.header_table cimport NAME_UNKNOWN, VALUE_UNKNOWN

cdef enum:
    FIRST_FIELDS = 32
    FIRST_BYTES = 1024


@cython.final
@cython.no_gc
cdef class HeaderList:
    def __init__(self, size_t limit=1 << 16):
        self.limit = limit

    def __dealloc__(self):
        free(self.fields)
        free(self.data)

    cdef int clear(self) noexcept:
        """Make the list empty; its memory stays."""
        self.count = self.left_out = self.unknown = 0
        self.used = self.size = 0
        self.pseudo = 0
        self.regular = self.malformed = False
        self.certainty = EXACT
        self.fault = SOUND
        return 0

    cdef int make_room(self, size_t need) except -1:
        """Make room for `need` more bytes."""
        cdef size_t room = max(self.room, <size_t>FIRST_BYTES)
        cdef uint8_t* data
        while room <= self.used + need:
            room *= 2
        data = <uint8_t*>realloc(self.data, room)
        if data == NULL:
            raise MemoryError()
        self.data = data
        self.room = room
        return 0

    cdef int make_fields(self) except -1:
        """Make room for one more field."""
        cdef uint32_t capacity = max(2 * self.capacity, <uint32_t>FIRST_FIELDS)
        cdef Field* fields = <Field*>realloc(self.fields, capacity * sizeof(Field))
        if fields == NULL:
            raise MemoryError()
        self.fields = fields
        self.capacity = capacity
        return 0

    cdef const Field* find(self, uint8_t token) noexcept:
        """Return the first field whose name is known to have this token; NULL: there is none."""
        cdef uint32_t place
        for place in range(self.count):
            if self.fields[place].token == token and not self.fields[place].flags & NAME_UNKNOWN:
                return &self.fields[place]
        return NULL

    cdef object to_list(self):
        """Return [(name, value)]; None stands for what is unknown."""
        cdef list out = []
        cdef const Field* field
        cdef uint32_t place
        for place in range(self.count):
            field = &self.fields[place]
            out.append((
                None if field.flags & NAME_UNKNOWN else self.data[field.name_at:field.name_at + field.name_length],
                None if field.flags & VALUE_UNKNOWN else self.data[field.value_at:field.value_at + field.value_length]))
        return out
