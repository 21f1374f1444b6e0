"""MIME type of a content from its first bytes, never from a declared type.

filetype identifies binary formats. A few rules in the manner of the WHATWG MIME Sniffing Standard identify texts: HTML
by its first tag, XML and SVG by theirs, JSON by its first tokens; other content without binary bytes is text/plain.
"""

import codecs
import re

import filetype

SNIFFED = 4096  # bytes that mime_type() examines
SHORT = 512  # … unless a format begins that needs bytes further behind; some matchers search their whole input

codecs.lookup("hex")  # filetype needs it for a film: by then a worker is in its sandbox, and has no files

_HTML = re.compile(
    rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta|link)[ \t\r\n\f/>]"
    rb"|<!--",
    re.I,
)
_JSON = re.compile(
    rb'\{[ \t\r\n]*["}]|\[[ \t\r\n\[]*(?:["{\]]|(?:true|false|null|-?[0-9][0-9.eE+-]{,40})[ \t\r\n]*[,\]])'
)
_SVG = re.compile(rb"<svg[ \t\r\n>]", re.I)
_LONG = (b"PK\3\4", b"\xd0\xcf\x11\xe0", b"\x89PNG", b"\x1a\x45\xdf\xa3")  # archives, OLE, PNG, EBML
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_NAMES = {  # registered names for the older ones of filetype
    "application/font-woff": "font/woff",
    "application/font-sfnt": "font/ttf",
    "application/x-executable": "application/x-elf",
    "application/x-rar-compressed": "application/vnd.rar",
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "image/jpx": "image/jp2",
    "video/x-m4v": "video/mp4",
    "video/x-msvideo": "video/avi",
}


def mime_type(data: bytes) -> str | None:
    """Return the type of a content that begins with these bytes; None: unknown."""
    data = data[:SNIFFED]
    if not data:
        return None
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\f")
    found = _told_by_first_token(text) if text[:1] in (b"<", b"{", b"[") else None
    if found is not None and not _BINARY.search(data):
        return found
    long = data.startswith(_LONG) or data[4:8] == b"ftyp" or data[1:4] == b"*M\x18"
    found = filetype.guess_mime(data if long else data[:SHORT])
    if found is not None:
        return "font/woff2" if data.startswith(b"wOF2") else _NAMES.get(found, found)
    if data.startswith((b"\xfe\xff", b"\xff\xfe")):
        return "text/plain"
    return None if _BINARY.search(data) else "text/plain"


def _told_by_first_token(text: bytes) -> str | None:
    if text.startswith(b"<?xml"):
        return "image/svg+xml" if _SVG.search(text) else "application/xml"
    if _SVG.match(text):
        return "image/svg+xml"
    if _HTML.match(text):
        return "text/html"
    if _JSON.match(text):
        return "application/json"
    return None
