# cython: language_level=3
"""Keep what an HTTP/2 stream has said: header sections in one piece of memory each, sizes and times."""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from workers.http2.header_list cimport METHOD, STATUS, Field, HeaderList
from workers.http2.header_table cimport NAME_UNKNOWN, VALUE_UNKNOWN
from workers.http2.static_table cimport token_by_name

_CERTAINTIES = ("exact", "joined", "inferred")      # in the order of Certainty


@cython.final
@cython.no_gc
cdef class HeaderSection:
    """The fields of one header section."""

    def __dealloc__(self):
        free(self.fields)

    cdef const Field* find(self, uint8_t token) noexcept:
        """Return the first field whose name is known to have this token; NULL: there is none."""
        cdef uint32_t place
        if not self.tokens >> (token & 63) & 1:
            return NULL
        for place in range(self.count):
            if self.fields[place].token == token and not self.fields[place].flags & NAME_UNKNOWN:
                return &self.fields[place]
        return NULL

    cdef object value(self, uint8_t token):
        """Return the value of the first field with this token; None: there is none, or its value is unknown."""
        cdef const Field* field = self.find(token)
        if field == NULL or field.flags & VALUE_UNKNOWN:
            return None
        return self.data[field.value_at:field.value_at + field.value_length]

    cdef int status(self) noexcept:
        """Return the value of :status; 0: it is unknown."""
        cdef const Field* field = self.find(STATUS)
        cdef const uint8_t* p
        if field == NULL or field.flags & VALUE_UNKNOWN or field.value_length != 3:
            return 0
        p = self.data + field.value_at
        if not (c"1" <= p[0] <= c"9" and c"0" <= p[1] <= c"9" and c"0" <= p[2] <= c"9"):
            return 0
        return 100 * (p[0] - c"0") + 10 * (p[1] - c"0") + p[2] - c"0"

    cdef bint is_connect(self) noexcept:
        """Return whether :method is known to be CONNECT."""
        cdef const Field* field = self.find(METHOD)
        return field != NULL and not field.flags & VALUE_UNKNOWN and field.value_length == 7 \
            and memcmp(self.data + field.value_at, b"CONNECT", 7) == 0

    def get(self, bytes name not None):
        """Return the value of the first field of this name; None: there is none, or it is unknown."""
        cdef uint8_t token = token_by_name(<const uint8_t*>name, len(name))
        if token:
            return self.value(token)
        return next((value for each, value in self.items() if each == name), None)

    def items(self):
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

    @property
    def known(self):
        """Return the certainty by its name in events: exact, joined or inferred."""
        return _CERTAINTIES[<int>self.certainty]


cdef HeaderSection section_of(HeaderList fields):
    """Return a copy of a header list that lasts."""
    cdef HeaderSection section = HeaderSection.__new__(HeaderSection)
    cdef size_t table = fields.count * sizeof(Field)
    cdef uint32_t place
    section.fields = <Field*>malloc(table + fields.used + 1)
    if section.fields == NULL:
        raise MemoryError()
    section.data = <uint8_t*>section.fields + table
    if table:
        memcpy(section.fields, fields.fields, table)
    if fields.used:
        memcpy(section.data, fields.data, fields.used)
    section.count = fields.count
    for place in range(fields.count):
        section.tokens |= <uint64_t>1 << (fields.fields[place].token & 63)
    section.size = <uint32_t>(table + fields.used + 1)
    section.unknown = fields.unknown
    section.left_out = fields.left_out
    section.generation = fields.generation
    section.certainty = fields.certainty
    section.malformed = fields.malformed
    return section


@cython.final
@cython.no_gc
cdef class Exchange:
    """One stream. For tests and tools its parts are readable from Python."""

    def __cinit__(self):
        self.reset_by = NOT_RESET

    @property
    def stream(self):
        """Return the stream id."""
        return self.stream_id

    @property
    def sections(self):
        """Return (request, response, request trailers, response trailers): HeaderSection or None."""
        return self.request, self.response, self.request_trailers, self.response_trailers

    @property
    def interim(self):
        """Return the status codes of 1xx responses."""
        return list(self.informational or ())

    @property
    def reset(self):
        """Return (side, error code) of the RST_STREAM that ended it, or None."""
        return None if self.reset_by == NOT_RESET else (("client", "server")[self.reset_by], self.reset_code)

    @property
    def marks(self):
        """Return {name: bool}: pushed, upgraded, evicted."""
        return {"pushed": self.pushed, "upgraded": self.upgraded, "evicted": self.evicted}

    def half(self, int side):
        """Return what was seen of a side, as a dict."""
        if not 0 <= side <= 1:
            raise IndexError(side)
        return {
            "first_ns": self.halves[side].first_ns, "last_ns": self.halves[side].last_ns, "bytes": self.halves[side].bytes,
            "body_bytes": self.halves[side].body_bytes, "missing": self.halves[side].missing,
            "ended": bool(self.halves[side].ended), "loss": bool(self.halves[side].loss),
        }
