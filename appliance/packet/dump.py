"""Layers as text, as fields and as hexadecimal.

The sender chose everything in a frame. So no text made here holds a character that could control a terminal, and the
length of each text is bounded.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any

import dpkt

from appliance.packet.layer_decoder import HEADER, LEAF, LayerDecoder, LayerSpan
from appliance.text.terminal import safe

TEXT = 96  # characters of one value in a line for people
BYTES = 24  # bytes of one value, or of a payload, in such a line
ITEMS = 16  # of one list
DEPTH = 6

FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS")
HARDWARE = {"src", "dst", "sha", "tha"}
ADDRESSES = {"src", "dst", "spa", "tpa", "ip", "ip6", "group"}
IN_HEX = {"sum", "flags"}
TYPES = {
    "type",
    "ethtype",
    "pro",
    "p",
}  # Ethernet and PPP types are written in hexadecimal, IP and ICMP ones in decimal


def rfc3339(ts_ns: int) -> str:
    """Format a time as 2026-11-22T10:00:00.123456789Z."""
    seconds, nanos = divmod(ts_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"
    except (ValueError, OverflowError, OSError):  # after the year 9999
        return f"{seconds}.{nanos:09d}"


def tcp_flags(flags: int) -> str:
    """Format the flags as SYN|ACK."""
    return "|".join(name for bit, name in enumerate(FLAGS) if flags >> bit & 1) or "none"


def fields(part: LayerSpan) -> dict[str, Any]:
    """Return the fields of a layer for JSON, without its payload: addresses as text, other bytes in hexadecimal."""
    return {name: _plain(name, value, DEPTH) for name, value in _shown(part).items()}


def describe(title: str, decoder: LayerDecoder, payload: bytes) -> str:
    """Format a packet: a title, and a line for each layer, the payload and the error."""
    lines = [f"PACKET: {safe(title)}"]
    for number, part in enumerate(decoder.parts, 1):
        lines.append(f"- Layer {number} ({part.head - part.start} bytes) = {_layer(part)}")
    if rest := _rest(decoder, payload):
        lines.append(f"- Payload ({len(rest)} bytes) = {_bytes(rest)}")
    if decoder.error is not None:
        lines.append(f"- Not decoded: {safe(str(decoder.error))}")
    return "\n".join(lines)


def dump(title: str, data: bytes, decoder: LayerDecoder, payload: bytes) -> str:
    """Format the frame in hexadecimal, and each layer with its line and its bytes."""
    rule = f"-- FULL PACKET DATA ({len(data)} bytes) ".ljust(78, "-")
    lines = [f"PACKET: {safe(title)}", rule, *hexdump(data)]
    for number, part in enumerate(decoder.parts, 1):
        lines += [f"--- Layer {number} ---", _layer(part), *hexdump(data[part.start : part.head], part.start)]
    if rest := _rest(decoder, payload):
        start = next((part.body for part in reversed(decoder.parts) if part.kind == HEADER), 0)
        lines += ["--- Payload ---", *hexdump(rest, start)]
    if decoder.error is not None:
        lines.append(f"--- Not decoded: {safe(str(decoder.error))}")
    return "\n".join(lines)


def hexdump(data: bytes, offset: int = 0) -> list[str]:
    """Return lines of 16 bytes: offset in the frame, hexadecimal, and ASCII with a dot for other bytes."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{offset + at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text}|")
    return lines


def _rest(decoder: LayerDecoder, payload: bytes) -> bytes:
    """Return the payload, unless a layer contains it."""
    return payload if decoder.rest else b""


def _fields(layer: Any) -> dict[str, Any]:
    """Return names and values as dpkt has them: of the header, of its bit fields, and of derived attributes."""
    if type(layer).__public_fields__ is None:
        layer._create_public_fields()
    values = {name: getattr(layer, name, None) for name in type(layer).__public_fields__}
    for name, value in vars(layer).items():
        if name[0] != "_" and name != "data" and not isinstance(value, dpkt.Packet) and value not in (b"", [], {}):
            values.setdefault(name, value)
    for name in ("vlan_tags", "mpls_labels", "all_extension_headers", "extension_hdrs"):
        values.pop(name, None)  # separate layers
    return values


def _shown(part: LayerSpan) -> dict[str, Any]:
    """Return the fields of a layer, and of the packet that it quotes."""
    values = _fields(part.layer)
    if part.kind == LEAF and isinstance(part.layer.data, dpkt.Packet):
        values["quoted"] = part.layer.data
    return values


def _plain(name: str, value: Any, depth: int) -> Any:
    """Convert a value for JSON."""
    if isinstance(value, (bytes, bytearray)):
        return _address(name, bytes(value)) or bytes(value).hex()
    if value is None or isinstance(value, (int, float, str)):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, dpkt.Packet):
        inside = {one: _plain(one, kept, depth - 1) for one, kept in _fields(value).items()}
        if isinstance(value.data, dpkt.Packet):
            inside["data"] = _plain("data", value.data, depth - 1)
        return {"layer": type(value).__name__, **inside}
    if isinstance(value, dict):
        return {str(one): _plain(str(one), kept, depth - 1) for one, kept in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, one, depth - 1) for one in value]
    return str(value)


def _address(name: str, value: bytes) -> str:
    if name in HARDWARE and len(value) == 6:
        return value.hex(":")
    if name in ADDRESSES and len(value) in (4, 16):
        return str(ipaddress.ip_address(value))
    return ""


def _layer(part: LayerSpan) -> str:
    """Format a layer as Ethernet {dst=… src=… type=0x0800}."""
    return f"{type(part.layer).__name__} {_pairs(_shown(part), isinstance(part.layer, dpkt.tcp.TCP), DEPTH)}"


def _pairs(values: dict[str, Any], tcp: bool, depth: int) -> str:
    pairs = []
    for name, value in list(values.items())[:ITEMS]:
        text = tcp_flags(value) if tcp and name == "flags" and isinstance(value, int) else _text(name, value, depth)
        pairs.append(f"{_cut(safe(str(name)))}={text}")
    return "{" + " ".join(pairs) + " …" * (len(values) > ITEMS) + "}"


def _text(name: str, value: Any, depth: int) -> str:
    """Format a value for people, short and safe."""
    if isinstance(value, (bytes, bytearray)):
        return _address(name, bytes(value)) or _bytes(bytes(value))
    if isinstance(value, int):
        return f"0x{value:04x}" if name in IN_HEX or (name in TYPES and value > 0xFF) else str(value)
    if isinstance(value, str):
        return f'"{_cut(safe(value))}"'
    if depth == 0:
        return "…"
    if isinstance(value, dpkt.Packet):
        inside = _fields(value)
        if isinstance(value.data, dpkt.Packet):
            inside["data"] = value.data
        return f"{type(value).__name__} {_pairs(inside, isinstance(value, dpkt.tcp.TCP), depth - 1)}"
    if isinstance(value, dict):
        return _pairs(value, False, depth - 1)
    if isinstance(value, (list, tuple)):
        items = [_text(name, one, depth - 1) for one in value[:ITEMS]]
        return "[" + ", ".join(items) + ", …" * (len(value) > ITEMS) + "]"
    return _cut(safe(str(value)))


def _bytes(value: bytes) -> str:
    return f"{value[:BYTES].hex()}… ({len(value)} bytes)" if len(value) > BYTES else value.hex() or "-"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]}…"
