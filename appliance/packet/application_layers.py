"""Layers above TCP and UDP, in dpkt's objects: HTTP with its whole head in the frame, and DNS."""

from __future__ import annotations

import io
import re
from functools import partial

import dpkt

from appliance.packet.layer_decoder import LEAF, LayerDecoder, LayerSpan, NextLayer, leaf

# limit of DNS messages: dpkt follows the pointers of a name again for each record, in quadratic time
DNS_BYTES = 2048
HTTP = re.compile(rb"HTTP/\d\.\d \d{3}[ \r\n]|[A-Z][A-Z_-]{1,23} [^ \r\n]+ HTTP/\d\.\d\r?\n")
HEAD_END = re.compile(rb"\r?\n\r?\n")


def http_layer(decoder: LayerDecoder, part: LayerSpan) -> NextLayer | None:
    """Return HTTP if the payload begins with a head, and holds its end."""
    if not HTTP.match(decoder.data, part.body, part.stop):
        return None
    if not HEAD_END.search(decoder.data, part.body, part.stop):  # the head continues in the next segment
        return None
    return NextLayer("HTTP", http, part.body, part.stop)


def http(decoder: LayerDecoder, start: int, end: int) -> None:
    """Decode an HTTP head with dpkt. The body is the rest of this frame, with its framing."""
    message = decoder.data[start:end]
    found = HEAD_END.search(message)
    assert found is not None
    line, _, headers = message[: found.end()].partition(b"\n")
    if line.startswith(b"HTTP/"):
        layer = dpkt.http.Response(line + b"\n")
    else:
        method, _, rest = line.partition(b" ")
        layer = dpkt.http.Request(b"GET " + rest + b"\n")  # dpkt knows few methods; PATCH is not among them
        layer.method = method.decode("ascii")
    layer.headers = dpkt.http.parse_headers(io.BytesIO(headers))
    layer.body = message[found.end() :]
    decoder.add(layer, start, end, end, LEAF)


def dns_layer(part: LayerSpan) -> NextLayer:
    """Return DNS, for a datagram of its port."""
    return NextLayer("DNS", partial(leaf, DNS, limit=DNS_BYTES), part.body, part.stop)


class DNS(dpkt.dns.DNS):  # type: ignore[misc]
    """dpkt's class, but it keeps records of unknown types: their bytes are in `rdata`."""

    class RR(dpkt.dns.DNS.RR):  # type: ignore[misc]
        def unpack_rdata(self, buf: bytes, off: int) -> None:
            try:
                super().unpack_rdata(buf, off)
            except Exception:  # the length field gives the position of the next record despite any error in this one
                pass
