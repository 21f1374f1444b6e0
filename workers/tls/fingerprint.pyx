# cython: language_level=3
"""Fingerprints of a ClientHello: JA4 and JA3.

JA4 is the TLS client fingerprint of the JA4 specification (FoxIO, BSD 3-Clause licence) alone: none of the other methods of the
JA4+ suite, whose licence is another one. JA3 is the MD5 of its older specification. Both leave out GREASE values (RFC 8701).

Length proof: `hello` is whole, so that its spans lie in the message; room() is as large as its caller says.
"""
from appliance.native.digests import md5

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from workers.tls.hello cimport ClientHello, Span, is_grease, u16

cdef const char* HEX = b"0123456789abcdef"
cdef enum:
    SERVER_NAME = 0
    ALPN = 16
    SMALL = 128                 # numbers that are sorted on the stack; real hellos have fewer
    NUMBER_TEXT = 5             # four digits and a comma


cdef int sort(uint16_t* numbers, uint32_t count, uint16_t* spare) noexcept nogil:
    """Sort in place; `spare` has room for as many. Linear in `count`, which a client chooses."""
    cdef uint32_t[256] places
    cdef uint32_t i, j, total, here
    cdef uint16_t value
    cdef int shift
    cdef uint16_t* source = numbers
    cdef uint16_t* target = spare
    if count <= SMALL:
        for i in range(1, count):
            value = numbers[i]
            j = i
            while j > 0 and numbers[j - 1] > value:
                numbers[j] = numbers[j - 1]
                j -= 1
            numbers[j] = value
        return 0
    for shift in range(0, 16, 8):
        memset(places, 0, sizeof(places))
        for i in range(count):
            places[source[i] >> shift & 0xFF] += 1
        total = 0
        for i in range(256):
            here = places[i]
            places[i] = total
            total += here
        for i in range(count):
            target[places[source[i] >> shift & 0xFF]] = source[i]
            places[source[i] >> shift & 0xFF] += 1
        source, target = target, source
    return 0


cdef uint32_t numbers_of(const Span* span, uint16_t* out) noexcept nogil:
    """Copy the numbers of a list without GREASE values; return how many."""
    cdef uint32_t i, count = 0
    for i in range(span.size // 2):
        if not is_grease(u16(span.p + 2 * i)):
            out[count] = u16(span.p + 2 * i)
            count += 1
    return count


cdef char* put_hex(char* out, const uint16_t* numbers, uint32_t count) noexcept nogil:
    """Append numbers as four digits each, with commas between them."""
    cdef uint32_t i
    for i in range(count):
        if i:
            out[0] = 44
            out += 1
        out[0] = HEX[numbers[i] >> 12]
        out[1] = HEX[numbers[i] >> 8 & 15]
        out[2] = HEX[numbers[i] >> 4 & 15]
        out[3] = HEX[numbers[i] & 15]
        out += 4
    return out


cdef inline bint is_alphanumeric(uint8_t c) noexcept nogil:
    return 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122


cdef int put_protocol(char* out, const Span* protocols) noexcept nogil:
    """Write the first and last character of the first ALPN value, or of its hexadecimal digits if one is not alphanumeric."""
    cdef uint32_t at = 0, size
    cdef uint8_t first, last
    out[0] = out[1] = 48
    while at < protocols.size:
        size = protocols.p[at]
        first = protocols.p[at + 1]
        last = protocols.p[at + size]
        if size == 2 and first == last and first & 15 == 10:
            at += 1 + size          # a GREASE value
            continue
        if is_alphanumeric(first) and is_alphanumeric(last):
            out[0] = first
            out[1] = last
        else:
            out[0] = HEX[first >> 4]
            out[1] = HEX[last & 15]
        return 0
    return 0


cdef int put_version(char* out, const ClientHello* hello) noexcept nogil:
    """Write the highest version of supported_versions, else that of the hello."""
    cdef uint32_t i
    cdef uint16_t version = hello.version, one
    cdef bint listed = False
    if hello.versions.p != NULL:
        for i in range(hello.versions.size // 2):
            one = u16(hello.versions.p + 2 * i)
            if not is_grease(one) and (not listed or one > version):
                version = one
                listed = True
    out[0] = out[1] = 48
    if 0x0301 <= version <= 0x0304:
        out[0] = 49
        out[1] = 48 + (version & 0xFF) - 1
    elif version == 0x0300 or version == 0x0002:
        out[0] = 115
        out[1] = 51 if version == 0x0300 else 50
    return 0


cdef int put_count(char* out, uint32_t count) noexcept nogil:
    count = min(count, <uint32_t>99)
    out[0] = 48 + <char>(count // 10)
    out[1] = 48 + <char>(count % 10)
    return 0


cdef str ja4(const ClientHello* hello, char transport, TlsContext cx):
    """Return the JA4 of a whole hello; transport: "t" for TCP, "q" for QUIC."""
    cdef uint16_t[2 * SMALL] few
    cdef char[4 * SMALL * NUMBER_TEXT] short
    cdef char[10] head
    cdef uint16_t* numbers = few
    cdef char* text = short
    cdef char* end
    cdef const uint8_t* at = hello.extensions.p
    cdef uint32_t most = max(hello.ciphers.size // 2, hello.extension_count)
    cdef uint32_t letters = most + hello.signatures.size // 2
    cdef uint32_t count, all_extensions = 0
    cdef str ciphers = "000000000000", extensions = "000000000000"
    if most > SMALL or letters > 2 * SMALL:
        numbers = <uint16_t*>malloc(2 * (most + letters + 2) * sizeof(uint16_t))
        text = <char*>malloc((letters + 2) * NUMBER_TEXT)
        if numbers == NULL or text == NULL:
            free(numbers)
            free(text)
            raise MemoryError
    try:
        head[0] = transport
        put_version(head + 1, hello)
        head[3] = 100 if hello.has_server_name else 105
        count = numbers_of(&hello.ciphers, numbers)
        put_count(head + 4, count)
        if count:
            sort(numbers, count, numbers + most)
            end = put_hex(text, numbers, count)
            ciphers = cx.hash12(PyBytes_FromStringAndSize(text, end - text))
        count = 0
        for _ in range(hello.extension_count):
            if not is_grease(u16(at)):
                all_extensions += 1
                if u16(at) != SERVER_NAME and u16(at) != ALPN:
                    numbers[count] = u16(at)
                    count += 1
            at += 4 + u16(at + 2)
        put_count(head + 6, all_extensions)
        put_protocol(head + 8, &hello.protocols)
        if count:
            sort(numbers, count, numbers + most)
            end = put_hex(text, numbers, count)
            count = numbers_of(&hello.signatures, numbers)
            if count:
                end[0] = 95
                end = put_hex(end + 1, numbers, count)
            extensions = cx.hash12(PyBytes_FromStringAndSize(text, end - text))
    finally:
        if numbers != few:
            free(numbers)
            free(text)
    return f"{head[:10].decode('latin-1')}_{ciphers}_{extensions}"


cdef list decimals(const Span* span):
    return [str(u16(span.p + 2 * i)) for i in range(span.size // 2) if not is_grease(u16(span.p + 2 * i))]


cdef str ja3(const ClientHello* hello):
    """Return the JA3 of a whole hello: version, ciphers, extensions, groups and point formats, in the order of the wire."""
    cdef const uint8_t* at = hello.extensions.p
    cdef list extensions = []
    cdef uint32_t i
    for _ in range(hello.extension_count):
        if not is_grease(u16(at)):
            extensions.append(str(u16(at)))
        at += 4 + u16(at + 2)
    parts = [
        str(hello.version),
        "-".join(decimals(&hello.ciphers)),
        "-".join(extensions),
        "-".join(decimals(&hello.groups)),
        "-".join([str(hello.formats.p[i]) for i in range(hello.formats.size)]),
    ]
    return md5(",".join(parts).encode(), usedforsecurity=False).hexdigest()
