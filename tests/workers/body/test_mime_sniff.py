"""MIME types from content."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mime_signatures import SIGNATURES

from workers.body.mime_sniff import SNIFFED, mime_type


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        (b"GIF89a\1\0\1\0", "image/gif"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"%PDF-1.7\n%\xe2\xe3", "application/pdf"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "application/gzip"),
        (b"wOF2\0\1\0\0" + bytes(20), "font/woff2"),
        (b"wOFF\0\1\0\0" + bytes(20), "font/woff"),
        (b"\0asm\1\0\0\0", "application/wasm"),
        (b"\x7fELF\2\1\1" + bytes(60), "application/x-elf"),
        (archive("a.txt"), "application/zip"),
        (b"<!DOCTYPE html><html>", "text/html"),
        (b"\xef\xbb\xbf \n<HTML lang=en>", "text/html"),
        (b"<!-- a comment -->", "text/html"),
        (b"<abbr>", "text/plain"),
        (b"<?xml version='1.0'?><a/>", "application/xml"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "image/svg+xml"),
        (b"<svg width='1'>", "image/svg+xml"),
        (b'{"a": 1}', "application/json"),
        (b" [ {}, 1]", "application/json"),
        (b"[[1, 2], 3]", "application/json"),
        (b"[true,false]", "application/json"),
        (b"[section]\nkey=value", "text/plain"),
        (b"[[link]]", "text/plain"),
        (b"{color: red}", "text/plain"),
        (b"just words \xe4\xf6", "text/plain"),
        (b"\xff\xfet\0e\0x\0t\0", "text/plain"),
        (b"words and \0 a zero", None),
        (bytes(range(1, 9)), None),
    ],
)
def test_a_content_is_of_this_type(data, expected):
    assert mime_type(data) == expected


@pytest.mark.parametrize("content", SIGNATURES)
def test_a_type_is_that_of_all_that_is_sniffed(content, monkeypatch):
    found = mime_type(content)
    monkeypatch.setattr("workers.body.mime_sniff.SHORT", SNIFFED)
    assert mime_type(content) == found


@given(st.binary(max_size=300))
def test_any_bytes_have_a_type_or_none(data):
    found = mime_type(data)
    assert found is None or "/" in found


@given(
    st.sampled_from(
        [b"PK\3\4", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"RIFF", b"\0\0\0\x18ftyp", b"\x1aE\xdf\xa3", b"ID3", b"["]
    )
)
def test_a_beginning_of_a_format_is_no_fault(start):
    for size in range(len(start) + 1):
        mime_type(start[:size])
    mime_type(start * 2000)
