"""Layers back to bytes: what is unchanged keeps the bytes it came from, what was changed is packed by dpkt.

dpkt alone does not give a frame back: it drops padding, rewrites the types of VLAN tags, compresses names in DNS its
own way and writes lengths and checksums when it thinks best. So every header by itself is held against a
second, untouched decoding of the same frame; only a header that says something else than there is packed.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import dpkt

from appliance.walk import HEADER, INNER, Part, Walk

IP, IP6, TCP, UDP = dpkt.ip.IP, dpkt.ip6.IP6, dpkt.tcp.TCP, dpkt.udp.UDP
ICMP, ICMP6 = dpkt.icmp.ICMP, dpkt.icmp6.ICMP6
Ethernet, PPPoE = dpkt.ethernet.Ethernet, dpkt.pppoe.PPPoE
LIMIT = 0xFFFF  # of 16-bit lengths
DEPTH = 64  # of what a user may have nested
CARRIED = ("data", "vlan_tags", "mpls_labels", "all_extension_headers", "extension_hdrs")  # layers of their own

# Headers whose .data is built here; everything else is dpkt's to its end.
HEADERS = (
    *(Ethernet, dpkt.llc.LLC, dpkt.sll.SLL, dpkt.sll2.SLL2, dpkt.loopback.Loopback, PPPoE, dpkt.ppp.PPP),
    *(dpkt.arp.ARP, IP, IP6, dpkt.gre.GRE, dpkt.ah.AH, TCP, UDP, ICMP, ICMP6, ICMP.Echo, ICMP6.Echo),
)


class Ends(NamedTuple):
    """What a transport checksum needs of the network layer around it (RFC 9293 section 3.1, RFC 8200 section 8.1)."""

    addresses: bytes  # source and final destination
    fragment: bool  # of a packet whose other fragments are elsewhere: nobody can sum that


def serialize(data: bytes, walk: Walk, fresh: Walk, fix_lengths: bool, compute_checksums: bool) -> bytes:
    """The frame along .data from the first layer. `fresh` is a second decoding of `data`. Raises ValueError."""
    known = {id(mine.layer): (mine, twin) for mine, twin in zip(walk.parts, fresh.parts, strict=True)}
    return _Builder(data, known, fix_lengths, compute_checksums).build(walk.parts[0].layer, None, DEPTH)


class _Builder:
    def __init__(self, data: bytes, known: dict[int, tuple[Part, Part]], lengths: bool, checksums: bool) -> None:
        self.data = data
        self.known = known
        self.lengths = lengths
        self.checksums = checksums

    def build(self, layer: Any, ends: Ends | None, depth: int) -> bytes:
        """A layer with everything in it, and its padding."""
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
        """The bytes of one header: those it came from, unless it says something else now."""
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
        except Exception as error:  # dpkt raises whatever its author did not think of
            raise _impossible(layer, error) from None

    def _ends(self, layer: Any, around: Ends | None) -> Ends | None:
        """The ends for what this layer carries."""
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
    """What stands between a header and what it carries, in order."""
    if isinstance(layer, IP6):
        return list(getattr(layer, "all_extension_headers", ()))
    return [*getattr(layer, "vlan_tags", ()), *getattr(layer, "mpls_labels", ())]


def _pack(layer: Any) -> bytes:
    """A header alone."""
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
    return bytes(layer.pack_hdr())


def _pack_http(layer: Any) -> bytes:
    """As dpkt does, but a header that came twice is written twice, not as a Python list."""
    if isinstance(layer, dpkt.http.Request):
        lines = [f"{layer.method} {layer.uri} HTTP/{layer.version}"]
    else:
        lines = [f"HTTP/{layer.version} {layer.status} {layer.reason}"]
    for name, value in layer.headers.items():
        lines += [f"{name}: {one}" for one in (value if isinstance(value, list) else [value])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(layer.body or b"")


def _state(value: Any, without: tuple[str, ...] = ()) -> Any:
    """All that a layer says, to be compared; the names under which dpkt links the next layer left out."""
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
    """Whole words of options, zeros behind them, and the header length for them."""
    head += bytes(-len(head) % 4)
    words = len(head) // 4
    if words > 15:
        raise ValueError(f"{type(layer).__name__}: {len(head) - 20} bytes of options, 40 are possible")
    if isinstance(layer, IP):
        head[0] = head[0] & 0xF0 | words
    else:
        head[12] = head[12] & 0x0F | words << 4


def _fix_lengths(layer: Any, head: bytearray, size: int, ends: Ends | None) -> None:
    """The length field of a header that carries `size` bytes, tags and extension headers among them."""
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
        if head[at : at + 2] == b"\0\0":  # what IPv4, IPv6 and UDP say of packets that are longer than they can say
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
        if protocol == 17 and head[at : at + 2] == b"\0\0":  # zero says that there is none (RFC 768)
            head[at : at + 2] = b"\xff\xff"


def _sum_up(head: bytearray, at: int, body: bytes, pseudo: bytes = b"") -> None:
    """Writes the Internet checksum (RFC 1071) over `pseudo`, `head` and `body` at its place in `head`."""
    head[at : at + 2] = b"\0\0"
    total = _words(pseudo) + _words(bytes(head)) + _words(body)
    folded = total % 0xFFFF or (0xFFFF if total else 0)
    head[at : at + 2] = (0xFFFF - folded).to_bytes(2, "big")


def _words(data: bytes) -> int:
    """Congruent modulo 65535 to the sum of the 16-bit words, since 2**16 is 1 there."""
    return int.from_bytes(data + b"\0" * (len(data) % 2), "big")
