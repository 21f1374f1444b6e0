# cython: language_level=3
"""gRPC-Web over HTTP/1: the messages in a body, and the status behind them.

github.com/grpc/grpc, doc/PROTOCOL-WEB.md. The content type is application/grpc-web, perhaps with a suffix as +proto. With
application/grpc-web-text the body is base64, in pieces of their own padding. A message with the high bit set in its first
byte has the trailers.

A GrpcWebBody stands where a BodyReader does, and passes the body on to that if options ask for its contents.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int8_t, uint8_t, uint32_t
from libc.string cimport memset

from workers.core.context cimport Context
from workers.events.rpc_json cimport CallSide
from workers.http1.grammar cimport same_word
from workers.http1.message cimport Message
from workers.http1.transaction cimport field_of
from workers.http2.grpc cimport read_messages, trailer_in

cdef enum:
    NAME_BYTES = 20             # of application/grpc-web
    TEXT_BYTES = 5              # … of -text behind it
    DECODED = 768               # bytes of base64 that are decoded at once

cdef int8_t[256] DIGITS         # values of the digits of base64 (RFC 4648 section 4); -1: it is none
for place in range(256):
    DIGITS[place] = -1
cdef const uint8_t* ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
for place in range(64):
    DIGITS[ALPHABET[place]] = place


cdef bint is_grpc_web(Message message) noexcept:
    """Return whether the content type of a message is that of gRPC-Web."""
    cdef const uint8_t* p
    cdef uint8_t behind
    if message.content_type.length < NAME_BYTES \
            or message.content_type.at + message.content_type.length > <uint32_t>len(message.head):
        return False
    p = <const uint8_t*>PyBytes_AS_STRING(message.head) + message.content_type.at
    if not same_word(p, b"application/grpc-web", NAME_BYTES):
        return False
    behind = p[NAME_BYTES] if message.content_type.length > NAME_BYTES else c";"
    return behind == c";" or behind == c"+" or behind == c"-" or behind == c" "


cdef bint is_encoded(Message message) noexcept:
    """Return whether the body of gRPC-Web is base64."""
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(message.head) + message.content_type.at
    return message.content_type.length >= NAME_BYTES + TEXT_BYTES and same_word(p + NAME_BYTES, b"-text", TEXT_BYTES)


cdef object body_reader(Message message, uint32_t bombs, Context cx):
    """Return what reads the body of a message; None: nothing does. bombs: bodies of the connection that reached a limit."""
    cdef object reader = cx.bodies.begin(message.head, message.status, bombs) if cx.bodies is not None else None
    cdef GrpcWebBody body
    message.grpc = None
    if not is_grpc_web(message):
        return reader
    body = GrpcWebBody.__new__(GrpcWebBody)
    body.reader = reader
    body.encoded = is_encoded(message)
    if message.coded and not message.chunked or field_of(message, b"content-encoding") not in (b"", b"identity"):
        body.messages.lost = True               # a coding hides them
    message.grpc = body
    return body


cdef class GrpcWebBody:
    @property
    def facts(self):
        """Return the BodyFacts of the BodyReader; None: there is none."""
        return None if self.reader is None else self.reader.facts

    def take(self, data):
        """Read the next bytes of the body."""
        cdef Py_buffer view
        if not self.messages.lost:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                if self.encoded:
                    self.read_base64(<const uint8_t*>view.buf, view.len)
                else:
                    self.read(<const uint8_t*>view.buf, view.len)
            finally:
                PyBuffer_Release(&view)
        if self.reader is not None:
            self.reader.take(data)

    def gap(self):
        """Note that bytes are lost: where messages begin is unknown from now on."""
        self.messages.lost = True
        if self.reader is not None:
            self.reader.gap()

    def end(self, complete):
        """End the body, and return the BodyFacts; None: nothing else reads it. complete: its end was captured."""
        return None if self.reader is None else self.reader.end(complete)

    cdef int read(self, const uint8_t* p, size_t size) except -1:
        """Read bytes of messages."""
        self.trailers = read_messages(&self.messages, p, size, self.trailers, True)
        return 0

    cdef int read_base64(self, const uint8_t* p, size_t size) except -1:
        """Decode groups of four digits; one with padding ends a piece, and another piece may follow."""
        cdef uint8_t[DECODED] out
        cdef uint32_t used = 0, value
        cdef size_t at
        cdef int digit
        cdef uint32_t padding
        for at in range(size):
            if p[at] == c"\r" or p[at] == c"\n":
                continue
            digit = DIGITS[p[at]]
            if digit < 0 and not (p[at] == c"=" and self.digit_count >= 2):
                self.messages.lost = True       # it is no base64
                break
            if digit >= 0 and self.digit_count and self.digits[self.digit_count - 1] == 64:
                self.messages.lost = True       # a digit behind padding
                break
            self.digits[self.digit_count] = 64 if digit < 0 else <uint8_t>digit
            self.digit_count += 1
            if self.digit_count < 4:
                continue
            self.digit_count = 0
            padding = (self.digits[2] == 64) + (self.digits[3] == 64)
            value = (<uint32_t>self.digits[0] << 18 | <uint32_t>self.digits[1] << 12
                     | <uint32_t>(self.digits[2] & 63) << 6 | (self.digits[3] & 63))
            out[used] = <uint8_t>(value >> 16)
            out[used + 1] = <uint8_t>(value >> 8 & 255)
            out[used + 2] = <uint8_t>(value & 255)
            used += 3 - padding
            if used > DECODED - 3:
                self.read(out, used)
                used = 0
        return self.read(out, used)


cdef CallSide side_of(Message message) noexcept:
    """Return what is known of the messages in a body; message: None if it was not captured."""
    cdef CallSide side
    cdef GrpcWebBody body
    memset(&side, 0, sizeof(side))
    if message is None or not is_grpc_web(message):
        return side
    if message.grpc is None:
        side.known = message.body_bytes == 0
        return side
    body = <GrpcWebBody>message.grpc
    side.known = not body.messages.lost
    side.messages = body.messages.count
    side.bytes = body.messages.bytes
    return side


cdef bytes trailer_of(Message response, bytes name):
    """Return a trailer of gRPC: out of the body, else out of the head of a response without messages; None: it is not there."""
    if response is None:
        return None
    if response.grpc is not None and (<GrpcWebBody>response.grpc).trailers is not None:
        value = trailer_in((<GrpcWebBody>response.grpc).trailers, name)
        if value is not None:
            return value
    return field_of(response, name) or None
