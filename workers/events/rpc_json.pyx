# cython: language_level=3
"""The members of an event about a gRPC call, over HTTP/2 or as gRPC-Web over HTTP/1.

Length proof: put_rpc() writes each byte of path and status once, put_grpc() each of the message; the rest is less than
BOILERPLATE of their callers' room.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from workers.events.json_text cimport put, put_number, put_text

STATUSES = (                    # github.com/grpc/grpc, doc/statuscodes.md, by number
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)


cdef bytes status_name(bytes status):
    """Return the name of a status; of an unknown one what was sent."""
    if status.isdigit() and len(status) < 3 and int(status) < len(STATUSES):
        return STATUSES[int(status)].encode()
    return status


cdef uint8_t* put_rpc(uint8_t* out, Text path, bytes status) except NULL:
    """Write rpc, with a comma behind. path: its last part is the method, that before the service. None: a status is not known."""
    cdef Text service
    out = put(out, b'"rpc":{"system":"grpc"')
    if path.p != NULL and path.size > 2 and path.p[0] == 47:
        service.p = path.p + 1
        service.size = path.size - 2
        while service.size and service.p[service.size] != 47:
            service.size -= 1
        if service.size:
            out = put_text(put(out, b',"service":"'), service.p, service.size)
            out = put(out, b'","method":"')
            out = put_text(out, service.p + service.size + 1, path.size - service.size - 2)
            out = put(out, b'"')
    if status is not None:
        status = status_name(status)
        out = put(out, b',"response":{"status_code":"')
        out = put_text(out, <const uint8_t*>PyBytes_AS_STRING(status), PyBytes_GET_SIZE(status))
        out = put(out, b'"}')
    return put(out, b"},")


cdef uint8_t* put_side(uint8_t* out, const char* name, const CallSide* side) noexcept nogil:
    out = put(put(put(out, b'"'), name), b'":{"messages":')
    out = put_number(out, side.messages)
    out = put_number(put(out, b',"bytes":'), side.bytes)
    return put(out, b"},")


cdef uint8_t* put_grpc(uint8_t* out, const CallSide* request, const CallSide* response, bytes message) except NULL:
    """Write appliance.grpc, with a comma before it. A side that is not known is absent.

    message: grpc-message; None: it is not known.
    """
    out = put(out, b',"grpc":{')
    if request.known:
        out = put_side(out, b"request", request)
    if response.known:
        out = put_side(out, b"response", response)
    if message is not None:
        out = put_text(put(out, b'"message":"'), <const uint8_t*>PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        out = put(out, b'",')
    if out[-1] == 44:
        out -= 1
    return put(out, b"}")
