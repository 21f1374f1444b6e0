"""Serialisation of layers: unchanged headers keep their original bytes, and dpkt packs changed ones.

dpkt alone does not reproduce a frame: it drops padding, rewrites the types of VLAN tags, compresses DNS names in its
own way and writes lengths and checksums by rules of its own. So each header is compared with a second, untouched
decoding of the same frame, and only a header with another content is packed.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import dpkt

from appliance.packet.layer_decoder import HEADER, INNER, Header, LayerDecoder, LayerSpan

IP, IP6, TCP, UDP = dpkt.ip.IP, dpkt.ip6.IP6, dpkt.tcp.TCP, dpkt.udp.UDP
ICMP, ICMP6 = dpkt.icmp.ICMP, dpkt.icmp6.ICMP6
Ethernet, PPPoE = dpkt.ethernet.Ethernet, dpkt.pppoe.PPPoE
LIMIT = 0xFFFF  # maximum of 16-bit lengths
DEPTH = 64  # maximum nesting of a user's layers
CARRIED = ("data", "vlan_tags", "mpls_labels", "all_extension_headers", "extension_hdrs")  # separate layers

# This module builds the .data of these headers; dpkt packs everything else to its end.
HEADERS = (
    *(Ethernet, dpkt.llc.LLC, dpkt.sll.SLL, dpkt.sll2.SLL2, dpkt.loopback.Loopback, PPPoE, dpkt.ppp.PPP),
    *(dpkt.arp.ARP, IP, IP6, dpkt.gre.GRE, dpkt.ah.AH, TCP, UDP, ICMP, ICMP6, ICMP.Echo, ICMP6.Echo, Header),
)


class Ends(NamedTuple):
    """The values of the network layer that a transport checksum needs (RFC 9293 section 3.1, RFC 8200 section 8.1)."""

    addresses: bytes  # source and final destination
    fragment: bool  # of a packet whose other fragments are elsewhere: no checksum is possible


def serialize(
    data: bytes, decoder: LayerDecoder, fresh: LayerDecoder, fix_lengths: bool, compute_checksums: bool
) -> bytes:
    """Return the frame along .data from the first layer. `fresh` is a second decoding of `data`. Raises ValueError."""
    known = {id(mine.layer): (mine, twin) for mine, twin in zip(decoder.parts, fresh.parts, strict=True)}
    return _Builder(data, known, fix_lengths, compute_checksums).build(decoder.parts[0].layer, None, DEPTH)


class _Builder:
    def __init__(
        self, data: bytes, known: dict[int, tuple[LayerSpan, LayerSpan]], lengths: bool, checksums: bool
    ) -> None:
        self.data = data
        self.known = known
        self.lengths = lengths
        self.checksums = checksums

    def build(self, layer: Any, ends: Ends | None, depth: int) -> bytes:
        """Return a layer with everything in it, and its padding."""
        if not isinstance(layer, dpkt.Packet):
            try:
                return bytes(memoryview(layer))
            except TypeError:
                raise ValueError(f"the payload is a {type(layer).__name__}, not bytes or a layer of dpkt") from None
        if depth == 0:
            raise ValueError(f"more than {DEPTH} layers in each other")
        part, _ = self.known.get(id(layer), (None, None))
        if not isinstance(layer, HEADERS) or (part is not None and part.kind not in (HEADER, INNER)):
            return self._leaf(layer)
        head = bytearray(self._header(layer))
        inner = b"".join(map(self._header, _inner(layer)))
        if part is not None and part.gap:
            inner += self.data[part.body - part.gap : part.body]
        if self.lengths and isinstance(layer, (IP, TCP)):
            _fit_options(layer, head)
        body = self.build(layer.data, self._ends(layer, ends), depth - 1)
        size = len(head) + len(inner) + len(body)
        tail = b""
        if part is not None and (size == part.stop - part.start or not self.lengths):
            tail = self.data[part.stop : part.end]
        if self.lengths:
            _fix_lengths(layer, head, size - len(head), ends)
        if self.checksums:
            _fix_checksum(layer, head, body, ends)
        return bytes(head) + inner + body + tail

    def _header(self, layer: Any) -> bytes:
        """Return the bytes of one header: the original ones, unless its content changed."""
        part, twin = self.known.get(id(layer), (None, None))
        if part is not None and twin is not None and _state(layer, CARRIED) == _state(twin.layer, CARRIED):
            return self.data[part.start : part.head]
        try:
            return _pack(layer)
        except (dpkt.PackError, struct.error, TypeError, AttributeError, ValueError, KeyError) as error:
            raise _impossible(layer, error) from None

    def _leaf(self, layer: Any) -> bytes:
        part, twin = self.known.get(id(layer), (None, None))
        if part is not None and twin is not None and _state(layer) == _state(twin.layer):
            return self.data[part.start : part.end]
        try:
            return _pack_http(layer) if isinstance(layer, dpkt.http.Message) else bytes(layer)
        except Exception as error:  # dpkt raises exceptions of any type
            raise _impossible(layer, error) from None

    def _ends(self, layer: Any, around: Ends | None) -> Ends | None:
        """Return the ends for the payload of this layer."""
        try:
            if isinstance(layer, IP):
                return Ends(bytes(layer.src) + bytes(layer.dst), bool(layer.mf or layer.offset))
            if isinstance(layer, IP6):
                target, fragment = bytes(layer.dst), False
                for extension in getattr(layer, "all_extension_headers", ()):
                    if isinstance(extension, dpkt.ip6.IP6RoutingHeader) and extension.segs_left:
                        target = (extension.addresses or [target])[-1]
                    elif isinstance(extension, dpkt.ip6.IP6FragmentHeader):
                        fragment = bool(extension.frag_off or extension.m_flag)
                return Ends(bytes(layer.src) + target, fragment)
        except TypeError as error:
            raise _impossible(layer, error) from None
        return around


def _impossible(layer: Any, error: Exception) -> ValueError:
    return ValueError(f"{type(layer).__name__}: a field has a value that cannot be written ({error})")


def _inner(layer: Any) -> list[Any]:
    """Return the layers between a header and its payload, in order."""
    if isinstance(layer, IP6):
        return list(getattr(layer, "all_extension_headers", ()))
    return [*getattr(layer, "vlan_tags", ()), *getattr(layer, "mpls_labels", ())]


def _pack(layer: Any) -> bytes:
    """Return the bytes of a header alone."""
    if isinstance(layer, (IP, TCP)):
        return bytes(layer.pack_hdr() + bytes(layer.opts))
    if isinstance(layer, Ethernet):
        return bytes(dpkt.Packet.pack_hdr(layer))  # its own method rewrites the types of tags
    if isinstance(layer, dpkt.ah.AH):
        return bytes(layer.pack_hdr() + bytes(layer.auth))
    if isinstance(layer, dpkt.gre.GRE):
        names, formats = layer.opt_fields_fmts()
        return bytes(layer.pack_hdr() + struct.pack("!" + "".join(formats), *(getattr(layer, name) for name in names)))
    if isinstance(layer, dpkt.ip6.IP6AHHeader):
        return bytes(layer.pack_hdr() + layer.auth_data)
    if isinstance(layer, dpkt.ip6.IP6ExtensionHeader):
        return bytes(layer)
    return bytes(layer.pack_hdr()) + getattr(layer, "extra", b"")


def _pack_http(layer: Any) -> bytes:
    """Pack as dpkt does, but write a repeated header repeatedly, not as a Python list."""
    if isinstance(layer, dpkt.http.Request):
        lines = [f"{layer.method} {layer.uri} HTTP/{layer.version}"]
    else:
        lines = [f"HTTP/{layer.version} {layer.status} {layer.reason}"]
    for name, value in layer.headers.items():
        lines += [f"{name}: {one}" for one in (value if isinstance(value, list) else [value])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(layer.body or b"")


def _state(value: Any, without: tuple[str, ...] = ()) -> Any:
    """Return the content of a layer for comparison, without the names under which dpkt links the next layer."""
    if isinstance(value, dpkt.Packet):
        names = [name for name in (*getattr(value, "__hdr_fields__", ()), "data") if name not in without]
        more = {name: one for name, one in vars(value).items() if not isinstance(one, dpkt.Packet)}
        more = {name: _state(one) for name, one in more.items() if name not in ("_pack_hdr", "data", *without)}
        return type(value), [_state(getattr(value, name, None)) for name in names], more
    if isinstance(value, (list, tuple)):
        return [_state(one) for one in value]
    if isinstance(value, dict):
        return [(name, _state(one)) for name, one in value.items()]
    return value


# -- lengths and checksums ---------------------------------------------------------------------------------------------


def _fit_options(layer: Any, head: bytearray) -> None:
    """Pad the options with zeros to whole words, and set the header length."""
    head += bytes(-len(head) % 4)
    words = len(head) // 4
    if words > 15:
        raise ValueError(f"{type(layer).__name__}: {len(head) - 20} bytes of options, 40 are possible")
    if isinstance(layer, IP):
        head[0] = head[0] & 0xF0 | words
    else:
        head[12] = head[12] & 0x0F | words << 4


def _fix_lengths(layer: Any, head: bytearray, size: int, ends: Ends | None) -> None:
    """Set the length field of a header with a payload of `size` bytes, tags and extension headers included."""
    if isinstance(layer, IP):
        _put_length(layer, head, 2, len(head) + size)
    elif isinstance(layer, (IP6, PPPoE)):
        _put_length(layer, head, 4, size)
    elif isinstance(layer, UDP) and not (ends is not None and ends.fragment):
        _put_length(layer, head, 4, len(head) + size)
    elif isinstance(layer, Ethernet) and isinstance(layer.data, dpkt.llc.LLC) and not _inner(layer):
        _put_length(layer, head, 12, size)


def _put_length(layer: Any, head: bytearray, at: int, length: int) -> None:
    if length > LIMIT:
        if head[at : at + 2] == b"\0\0":  # the value of IPv4, IPv6 and UDP for packets that exceed the field
            return
        raise ValueError(f"{type(layer).__name__}: {length} bytes do not fit its length field")
    head[at : at + 2] = length.to_bytes(2, "big")


def _fix_checksum(layer: Any, head: bytearray, body: bytes, ends: Ends | None) -> None:
    if isinstance(layer, IP):
        _sum_up(head, 10, b"")
        return
    if ends is not None and ends.fragment:
        return
    if isinstance(layer, ICMP):
        _sum_up(head, 2, body)
    elif ends is not None and isinstance(layer, (TCP, UDP, ICMP6)):
        at, protocol = (16, 6) if isinstance(layer, TCP) else (6, 17) if isinstance(layer, UDP) else (2, 58)
        if protocol == 58 and len(ends.addresses) != 32:
            return
        pseudo = ends.addresses + struct.pack(">II", len(head) + len(body), protocol)
        _sum_up(head, at, body, pseudo)
        if protocol == 17 and head[at : at + 2] == b"\0\0":  # zero means that there is no checksum (RFC 768)
            head[at : at + 2] = b"\xff\xff"


def _sum_up(head: bytearray, at: int, body: bytes, pseudo: bytes = b"") -> None:
    """Write the Internet checksum (RFC 1071) over `pseudo`, `head` and `body` to its place in `head`."""
    head[at : at + 2] = b"\0\0"
    total = _words(pseudo) + _words(bytes(head)) + _words(body)
    folded = total % 0xFFFF or (0xFFFF if total else 0)
    head[at : at + 2] = (0xFFFF - folded).to_bytes(2, "big")


def _words(data: bytes) -> int:
    """Return a number congruent modulo 65535 to the sum of the 16-bit words, since 2**16 is 1 there."""
    return int.from_bytes(data + b"\0" * (len(data) % 2), "big")
