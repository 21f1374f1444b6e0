# cython: language_level=3
"""The members of events that transactions of HTTP/1 and HTTP/2 share, as JSON.

Length proof: put_mime_type() writes at most six bytes for each byte of the type, and less than 32 more.
"""
import json
from functools import lru_cache

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr

from workers.core.counts cimport CLASSES_END
from workers.events.url_json cimport Text, put_member

from appliance.stats.names import ANOMALIES
from workers.body.redact import REDACTED, Parameters
from workers.events.json_text import text_json

ALWAYS_REDACTED = ("authorization", "proxy-authorization", "cookie", "set-cookie")


cdef class HeaderChoice:
    """The header fields that events report, and the values that they hide. http: the configuration's section."""

    def __init__(self, http):
        names = [name.lower().encode() for name in http.headers]
        self.every = b"all" in names
        self.names = frozenset(names)
        self.some = bool(names)
        hidden = (*ALWAYS_REDACTED, *http.redact) if http.redaction else http.redact
        self.redacted = frozenset(name.lower().encode() for name in hidden)
        self.parameters = Parameters(http.redact_parameters)
        self.hiding = bool(self.parameters)

    cdef bint shows(self, bytes name) except -1:
        """Return whether events report a field of this lower-case name."""
        return self.every or name in self.names

    cdef bytes value(self, bytes name, bytes value):
        """Return the value of a field as events show it."""
        return REDACTED if name in self.redacted else value

    cdef bytes headers_json(self, dict found):
        """Return {name: [values]} as JSON."""
        return b"{%b}" % b",".join(
            b"%b:[%b]" % (text_json(name), b",".join(text_json(value) for value in values))
            for name, values in found.items())


cdef int topic_of_status(int status) noexcept:
    """Return the place of a topic in the dataset: the class of a final status, or none."""
    return status // 100 - 1 if 1 <= status // 100 <= CLASSES_END else CLASSES_END


cdef uint8_t* put_mime_type(uint8_t* out, Text mime) noexcept:
    """Write mime_type, the type in a Content-Type without its parameters, with a comma behind; nothing for an empty one."""
    cdef const uint8_t* mark = <const uint8_t*>memchr(mime.p, 59, mime.size) if mime.size else NULL
    if mark != NULL:
        mime.size = mark - mime.p
    while mime.size and mime.p[mime.size - 1] == 32:
        mime.size -= 1
    return put_member(out, b'"mime_type":"', mime) if mime.size else out


cdef tuple told_body(facts):
    """Return the pieces (ECS fields, own fields, type) of an event; a piece is empty if its facts are unknown."""
    own = {name: value for name, value in (("sha256", facts.sha256), ("md5", facts.md5)) if value is not None}
    if facts.codings:
        own["decoded_bytes"] = facts.size
        own["codings"] = list(facts.codings)
    if facts.base64 is not None:
        own["content_base64"] = facts.base64
    return (
        b',"content":%b' % text_json(facts.text) if facts.text is not None else b"",
        b',"body":%b' % json.dumps(own, separators=(",", ":")).encode() if own else b"",
        b'"mime_type":%b,' % text_json(facts.mime_type.encode()) if facts.mime_type is not None else b"",
    )


cdef tuple told_files(asked, said):
    """Return the pieces `file` and `appliance.file` of an event; empty if no body of it could have become a file.

    asked, said: the BodyFacts of the request and the response, or None. The response's file goes first if it is whole, or if
    neither is."""
    asked = None if asked is None else asked.file
    said = None if said is None else said.file
    if asked is None and said is None:
        return (b"", b"")
    first, other, direction = said, asked, "response"
    if said is None or (said.reason and asked is not None and not asked.reason):
        first, other, direction = asked, said, "request"
    own = {"direction": direction} | file_state(first)
    if other is not None:
        state = file_state(other)
        if not other.reason:
            state |= {"hash": {"sha256": other.sha256}, "size": other.size}
        own["request" if direction == "response" else "response"] = state
    ecs = b"" if first.reason else b'"file":%b,' % json.dumps(file_members(first), separators=(",", ":")).encode()
    return (ecs, b',"file":%b' % json.dumps(own, separators=(",", ":")).encode())


def file_state(file):
    """Return the members of appliance.file that tell of one message."""
    found = {"complete": not file.reason} | ({"reason": file.reason} if file.reason else {})
    return found | ({"parts": [part_members(part) for part in file.parts]} if file.parts else {})


def part_members(file):
    """Return the members of a file of a form."""
    found = {"name": json.loads(text_json(file.name))} if file.name else {}
    found |= {"complete": not file.reason} | ({"reason": file.reason} if file.reason else {})
    if not file.reason:
        found |= {"hash": {"sha256": file.sha256}, "size": file.size}
        found |= {"mime_type": file.mime_type} if file.mime_type is not None else {}
    return found


def file_members(file):
    """Return the members of a whole file, by their names in ECS."""
    found = {"hash": {"sha256": file.sha256}, "size": file.size, "path": file.path}
    return found | ({"mime_type": file.mime_type} if file.mime_type is not None else {})


@lru_cache(1024)        # combinations: most events have none, or one of a few
def anomalies_json(uint64_t bits):
    """Return the names of the anomaly bits as JSON, in the order of the list."""
    return json.dumps([name for i, name in enumerate(ANOMALIES) if bits >> i & 1], separators=(",", ":")).encode()
