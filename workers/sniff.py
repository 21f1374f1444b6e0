"""MIME type of a content from its first bytes, never from what somebody says it is.

Binary formats are told by filetype; texts by few rules in the manner of the WHATWG MIME Sniffing Standard: HTML by its
first tag, XML and SVG by theirs, JSON by its first tokens, anything else without binary bytes is text/plain.
"""

import re

import filetype

SNIFFED = 4096  # bytes that are looked at

_HTML = re.compile(
    rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|meta|link)[ \t\r\n\f/>]"
    rb"|<!--",
    re.I,
)
_JSON = re.compile(
    rb'\{[ \t\r\n]*["}]|\[[ \t\r\n\[]*(?:["{\]]|(?:true|false|null|-?[0-9][0-9.eE+-]{,40})[ \t\r\n]*[,\]])'
)
_SVG = re.compile(rb"<svg[ \t\r\n>]", re.I)
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_NAMES = {  # registered names for those that filetype has of old
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
    """The type of a content that begins with these bytes; None: unknown."""
    data = data[:SNIFFED]
    if not data:
        return None
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\f")
    found = _told_by_first_token(text) if text[:1] in (b"<", b"{", b"[") else None
    if found is not None and not _BINARY.search(data):
        return found
    found = filetype.guess_mime(data)
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
