# cython: language_level=3
"""Recognize gRPC by its content type, and count the messages in DATA by their prefixes of five bytes.

github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/PROTOCOL-WEB.md. A message of gRPC-Web with the high bit set in its first byte
has the trailers.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from workers.http2.exchange cimport IS_GRPC, NO_GRPC, PERHAPS_GRPC, SERVER, Exchange, HeaderSection, Messages
from workers.http2.header_list cimport CONTENT_TYPE, GRPC_MESSAGE, GRPC_STATUS, METHOD, Field, HeaderList
from workers.http2.header_table cimport VALUE_UNKNOWN

cdef enum:
    PREFIX = 5                  # bytes before a message: flags and its length
    TRAILERS = 0x80             # flag of gRPC-Web
    MOST_TRAILERS = 4096        # bytes kept of these


cdef int recognize(Exchange exchange, HeaderList fields) noexcept:
    """Note what the header fields of a request or response say about gRPC. The section of the fields is in the exchange."""
    cdef const Field* kind = fields.find(CONTENT_TYPE)
    cdef const Field* method
    cdef const uint8_t* p
    cdef int side
    if exchange.grpc == IS_GRPC:
        return 0
    if kind == NULL or kind.flags & VALUE_UNKNOWN:
        # The content type of a known request decides, and it is sent by POST.
        if exchange.grpc == NO_GRPC and fields.unknown and (exchange.response is None or exchange.request is None):
            method = fields.find(METHOD)
            if method == NULL or method.flags & VALUE_UNKNOWN \
                    or method.value_length == 4 and memcmp(fields.data + method.value_at, b"POST", 4) == 0:
                exchange.grpc = PERHAPS_GRPC
        return 0
    p = fields.data + kind.value_at
    if kind.value_length >= 16 and memcmp(p, b"application/grpc", 16) == 0 and (
            kind.value_length == 16 or p[16] == 43 or p[16] == 59 or p[16] == 45):
        for side in range(2):
            if exchange.grpc == NO_GRPC and exchange.halves[side].body_bytes:
                exchange.messages[side].lost = True     # they were passed over
        exchange.grpc = IS_GRPC
    else:
        exchange.grpc = NO_GRPC
    return 0


cdef int take_messages(Exchange exchange, int side, const uint8_t* p, uint64_t count) except -1:
    """Count the messages in the next bytes of DATA; return the bytes of memory that the exchange keeps from now on."""
    cdef bytearray before = exchange.web_trailers
    exchange.web_trailers = read_messages(&exchange.messages[side], p, count, before, side == SERVER)
    return MOST_TRAILERS if before is None and exchange.web_trailers is not None else 0


cdef bytearray read_messages(Messages* messages, const uint8_t* p, uint64_t count, bytearray trailers, bint web):
    """Count the messages in the next bytes; return the trailers of gRPC-Web so far, or None.

    trailers: those before; None: there were none. web: a message with the flag TRAILERS has them.
    """
    cdef uint64_t take
    while count and not messages.lost:
        if messages.prefix_size < PREFIX:
            take = min(count, <uint64_t>(PREFIX - messages.prefix_size))
            memcpy(messages.prefix + messages.prefix_size, p, take)
            messages.prefix_size += <uint32_t>take
            p += take
            count -= take
            if messages.prefix_size < PREFIX:
                break
            messages.left = (<uint64_t>messages.prefix[1] << 24 | <uint64_t>messages.prefix[2] << 16
                             | <uint64_t>messages.prefix[3] << 8 | messages.prefix[4])
        take = min(count, messages.left)
        if messages.prefix[0] & TRAILERS and web and take:
            if trailers is None:
                trailers = bytearray()
            trailers += p[:min(take, <uint64_t>(MOST_TRAILERS - len(trailers)))]
        p += take
        count -= take
        messages.left -= take
        end_message(messages)
    return trailers


cdef inline int end_message(Messages* messages) noexcept nogil:
    """Count the message being read if it is whole."""
    if messages.left == 0:
        if not messages.prefix[0] & TRAILERS:
            messages.count += 1
            messages.bytes += (<uint64_t>messages.prefix[1] << 24 | <uint64_t>messages.prefix[2] << 16
                               | <uint64_t>messages.prefix[3] << 8 | messages.prefix[4])
        messages.prefix_size = 0
    return 0


cdef int lose_messages(Messages* messages, uint64_t count) noexcept:
    """Skip lost bytes, exactly if they are of one message."""
    if count == 0:
        return 0
    if messages.prefix_size < PREFIX or count > messages.left:
        messages.lost = True
    else:
        messages.left -= count
        end_message(messages)
    return 0


cdef int decide(Exchange exchange) except -1:
    """Decide whether an ended exchange is a gRPC call. Without a known content type, a gRPC status makes it one."""
    if exchange.grpc == PERHAPS_GRPC and status_of(exchange) is not None:
        exchange.grpc = IS_GRPC
    return 0


cdef object trailer(Exchange exchange, uint8_t token, bytes name):
    """Return a field of the trailers, which are those of the stream, of a response without a body, or of gRPC-Web; or None."""
    cdef HeaderSection section
    for section in (exchange.response_trailers, exchange.response):
        if section is not None:
            value = section.value(token)
            if value is not None:
                return value
    return None if exchange.web_trailers is None else trailer_in(exchange.web_trailers, name)


cdef bytes trailer_in(bytearray trailers, bytes name):
    """Return a field of the trailers in a body of gRPC-Web; None: it is not among them."""
    for line in bytes(trailers).split(b"\r\n"):
        found, colon, value = line.partition(b":")
        if colon and found.strip().lower() == name:
            return value.strip()
    return None


cdef object status_of(Exchange exchange):
    """Return grpc-status as sent; None: it is not known."""
    return trailer(exchange, GRPC_STATUS, b"grpc-status")


cdef bytes message_of(Exchange exchange):
    """Return grpc-message as sent; None: there is none, or it is not known."""
    return trailer(exchange, GRPC_MESSAGE, b"grpc-message")
