# cython: language_level=3
"""JSON of a Handshake: the content of Handshake.facts() without its objects.

Length proof: handshake_bound() adds up the longest that both parts can become (six bytes for each byte of text, BOILERPLATE for
all keys, numbers and registered names); the caller makes that much room, and the functions below only append.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from workers.events.json_text cimport put, put_bytes, put_number, put_text
from workers.tls.handshake cimport UNKNOWN, YES, Handshake, Hello
from appliance.stats.names import DECRYPTED
from workers.tls.iana import CIPHERS, GROUPS, VERSIONS, alert, cipher, curve, version

cdef enum:
    BOILERPLATE = 2048
    VERSION_BYTES = 16          # of a name of a version, with its quotes
    CLIENT = 0
    SERVER = 1
    FATAL = 2
    SSL_3 = 0x0300

cdef tuple _DECRYPTED = DECRYPTED
cdef dict _CIPHERS = CIPHERS, _GROUPS = GROUPS, _VERSIONS = VERSIONS


cdef size_t handshake_bound(Handshake handshake) except? 0:
    """Return how many bytes put_tls() and put_own_tls() need at most, together."""
    cdef size_t bound = BOILERPLATE
    cdef bytes name
    if handshake.server_name is not None:
        bound += 6 * PyBytes_GET_SIZE(handshake.server_name)
    if handshake.protocol is not None:
        bound += 6 * PyBytes_GET_SIZE(handshake.protocol)
    for name in handshake.protocols or ():
        bound += 6 * PyBytes_GET_SIZE(name) + 3
    bound += VERSION_BYTES * len(handshake.versions or ())
    if handshake.certificate is not None:
        bound += len(handshake.certificate.json)
    return bound


cdef inline uint8_t* put_name(uint8_t* out, str name) except NULL:
    """Append a registered name or digits: ASCII that JSON does not escape."""
    cdef Py_ssize_t size
    cdef const char* text = PyUnicode_AsUTF8AndSize(name, &size)
    memcpy(out, text, size)
    return out + size


cdef inline uint8_t* put_wire(uint8_t* out, bytes text) noexcept:
    return put_text(out, <const uint8_t*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef inline uint8_t* put_truth(uint8_t* out, bint value) noexcept:
    return put(out, b"true" if value else b"false")


cdef inline str version_name(uint16_t code):
    return <str>(_VERSIONS.get(code) or version(code))


cdef inline uint8_t* close(uint8_t* out, const uint8_t* opened) noexcept:
    """End an object whose members all end with a comma."""
    if out != opened:
        out -= 1
    out[0] = 125
    return out + 1


cdef uint8_t* put_tls(uint8_t* out, Handshake handshake) except NULL:
    """Append `"tls":{…}`: the fields of ECS."""
    cdef uint8_t* opened
    cdef uint8_t* inner
    out = put(out, b'"tls":{')
    opened = out
    if handshake.has_cipher:
        out = put_name(put(out, b'"version":"'), version_name(handshake.version))
        out = put(out, b'","version_protocol":"')
        out = put(out, b"ssl" if handshake.version <= SSL_3 else b"tls")
        out = put(out, b'","cipher":"')
        out = put_name(out, <str>(_CIPHERS.get(handshake.cipher) or cipher(handshake.cipher)))
        out = put(out, b'",')
        if handshake.group:
            out = put(out, b'"curve":"')
            out = put_name(out, <str>(_GROUPS.get(handshake.group) or curve(handshake.group)))
            out = put(out, b'",')
    if handshake.protocol is not None:
        out = put(put_wire(put(out, b'"next_protocol":"'), handshake.protocol), b'",')
    if handshake.resumed != UNKNOWN:
        out = put(put_truth(put(out, b'"resumed":'), handshake.resumed == YES), b",")
    if handshake.established != UNKNOWN:
        out = put(put_truth(put(out, b'"established":'), handshake.established == YES), b",")
    if handshake.server_name is not None or handshake.ja3 is not None:
        out = inner = put(out, b'"client":{')
        if handshake.server_name is not None:
            out = put(put_wire(put(out, b'"server_name":"'), handshake.server_name), b'",')
        if handshake.ja3 is not None:
            out = put(put_name(put(out, b'"ja3":"'), handshake.ja3), b'",')
        out = put(close(out, inner), b",")
    if handshake.certificate is not None:
        out = put(put_bytes(put(out, b'"server":'), <bytes>handshake.certificate.json), b",")
    return close(out, opened)


cdef uint8_t* put_hello(uint8_t* out, const Hello* hello) noexcept:
    out = put_truth(put(out, b'{"complete":'), hello.whole)
    if hello.missing:
        out = put_number(put(out, b',"missing_bytes":'), hello.missing)
    return put(out, b"},")


cdef uint8_t* put_own_tls(uint8_t* out, Handshake handshake) except NULL:
    """Append `"tls":{…}`: the fields of `appliance.tls`."""
    cdef uint8_t* opened
    cdef bytes name
    out = put(out, b'"tls":{')
    opened = out
    if handshake.ja4 is not None:
        # The letters of its ALPN part are alphanumeric by their definition.
        out = put(put_name(put(out, b'"ja4":"'), handshake.ja4), b'",')
    if handshake.protocols is not None:
        out = put(out, b'"alpn_offered":[')
        for name in handshake.protocols:
            out = put(put_wire(put(out, b'"'), name), b'",')
        if handshake.protocols:
            out -= 1
        out = put(out, b"],")
    if handshake.versions:
        out = put(out, b'"versions_offered":[')
        for number in handshake.versions:
            out = put(put_name(put(out, b'"'), version_name(number)), b'",')
        out = put(out - 1, b"],")
    if handshake.ech:
        out = put(out, b'"ech_offered":true,')
    if handshake.retry:
        out = put(out, b'"hello_retry":true,')
    if handshake.hellos[CLIENT].seen:
        out = put_hello(put(out, b'"client_hello":'), &handshake.hellos[CLIENT])
    if handshake.hellos[SERVER].seen:
        out = put_hello(put(out, b'"server_hello":'), &handshake.hellos[SERVER])
    if handshake.alert_side >= 0:
        out = put(out, b'"alert":{"level":"')
        out = put(out, b"fatal" if handshake.alert_level == FATAL else b"warning")
        out = put_name(put(out, b'","description":"'), alert(handshake.alert))
        out = put(out, b'","by":"')
        out = put(out, b"client" if handshake.alert_side == handshake.client else b"server")
        out = put(out, b'"},')
    if handshake.established == YES and handshake.hellos[CLIENT].seen and handshake.established_ns >= handshake.hello_ns:
        out = put_number(put(out, b'"handshake_ns":'), handshake.established_ns - handshake.hello_ns)
        out = put(out, b",")
    if handshake.decrypted:
        out = put(put_name(put(out, b'"decrypted":"'), <str>_DECRYPTED[handshake.decrypted]), b'",')
    if handshake.client >= 0:
        out = put_number(put(out, b'"bytes":{"client":'), handshake.passed[handshake.client])
        out = put_number(put(out, b',"server":'), handshake.passed[1 - handshake.client])
        out = put(out, b"},")
    return close(out, opened)


def handshake_json(Handshake handshake not None):
    """Return the JSON of what handshake.facts() returns."""
    cdef size_t bound = handshake_bound(handshake) + 64
    cdef uint8_t* text = <uint8_t*>malloc(bound)
    cdef uint8_t* out
    if text == NULL:
        raise MemoryError
    try:
        out = put_tls(put(text, b"{"), handshake)
        out = put_own_tls(put(out, b',"appliance":{'), handshake)
        out = put(out, b"}}")
        return PyBytes_FromStringAndSize(<char*>text, out - text)
    finally:
        free(text)
