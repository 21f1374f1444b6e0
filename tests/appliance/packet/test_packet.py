"""Packet: what scapy put into a frame is what its layers say, through dpkt's own objects."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket

import dpkt
import pytest
from packet_frames import ANSWER, FRAMES, PADDING, REQUEST, RESPONSE, START_NS, names, of, packet

from appliance.packet.packet import Flow, Flows, Metadata, Packet


def test_nothing_is_decoded_before_it_is_asked_for():
    made = packet("ipv4")
    assert made._decoder is None
    assert made.layers is made.layers


def test_layers_are_dpkts_objects_outermost_first_and_linked():
    made = packet("request")
    ethernet, ip, tcp, request = made.layers
    assert [type(layer) for layer in made.layers] == [
        dpkt.ethernet.Ethernet,
        dpkt.ip.IP,
        dpkt.tcp.TCP,
        dpkt.http.Request,
    ]
    assert ethernet.data is ip
    assert ethernet.ip is ip
    assert ip.tcp is ip.data is tcp
    assert tcp.data is request


def test_fields_are_what_was_sent():
    made = packet("tcp options")
    assert made.link.src.hex(":") == "02:00:00:00:00:01"
    assert made.link.dst.hex(":") == "02:00:00:00:00:02"
    assert (made.network.src, made.network.dst) == (
        socket.inet_aton("192.0.2.1"),
        socket.inet_aton("198.51.100.2"),
    )
    assert (made.transport.sport, made.transport.dport, made.transport.flags) == (40000, 80, dpkt.tcp.TH_SYN)
    assert dpkt.tcp.parse_opts(made.transport.opts)[0] == (dpkt.tcp.TCP_OPT_MSS, b"\x05\xb4")
    assert made.transport.data == b"x"


def test_a_layer_is_found_by_class_and_by_name_in_any_case():
    made = packet("vlan ipv6")
    tcp = made.layers[3]
    assert made.layer(dpkt.tcp.TCP) is made.layer("tcp") is made.layer("TCP") is tcp
    assert made.layer("vlan") is made.layer("VLANtag8021Q") is made.layers[1]
    assert made.layer("ipv6") is made.layer("ip6") is made.network
    assert made.layer("http") is made.application
    assert made.layer(dpkt.udp.UDP) is None
    assert made.layer("udp") is None
    assert made.layer("no such protocol") is None


def test_the_first_layer_of_a_kind_is_the_outer_one():
    made = packet("ip in ip")
    assert names(made) == ["Ethernet", "IP", "IP6", "IP", "TCP", "Request"]
    assert made.network is made.layers[1]


@pytest.mark.parametrize(
    ("name", "link", "network", "transport", "application"),
    [
        ("request", "Ethernet", "IP", "TCP", "Request"),
        ("cooked 2 ipv6", "SLL2", "IP6", "TCP", "Request"),
        ("null", "Loopback", "IP", "TCP", "Request"),
        ("raw", None, "IP", "TCP", "Request"),
        ("answer", "Ethernet", "IP6", "UDP", "DNS"),
        ("datagram", "Ethernet", "IP", "UDP", None),
        ("unreachable", "Ethernet", "IP", None, None),
        ("arp", "Ethernet", None, None, None),
    ],
)
def test_kinds_of_layers(name, link, network, transport, application):
    made = packet(name)
    found = (made.link, made.network, made.transport, made.application)
    assert [None if layer is None else type(layer).__name__ for layer in found] == [
        link,
        network,
        transport,
        application,
    ]


def test_a_request_is_its_head_and_what_follows_it():
    request = packet("request").application
    assert (request.method, request.uri, request.version) == ("POST", "/a?b", "1.1")
    assert request.headers["host"] == "a.example"
    assert request.headers["x"] == ["1", "2"]
    assert request.body == b"partial"  # of 9 bytes: the others are in another frame


def test_the_body_of_a_response_keeps_its_framing():
    response = packet("response").application
    assert (response.status, response.reason, response.body) == ("200", "OK", b"3\r\nabc\r\n")


def test_a_method_that_dpkt_does_not_know_is_a_request_too():
    made = of(packet("request").data.replace(b"POST ", b"PATCH ").replace(b"HTTP/1.1\r\nHost:", b"HTTP/1.1\r\nHst:"))
    assert made.application.method == "PATCH"


def test_a_head_that_goes_on_in_another_frame_is_payload_without_error():
    cut = REQUEST.partition(b"\r\n\r\n")[0]
    made = of(packet("request").data[:-77] + cut + bytes(77 - len(cut)))
    assert made.application is None
    assert made.error is None
    assert made.payload.startswith(cut)


def test_payload_is_what_the_innermost_header_carries():
    assert packet("request").payload == REQUEST
    assert packet("response").payload == RESPONSE
    assert packet("datagram").payload == b"hello"
    assert packet("answer").payload == bytes(ANSWER)
    assert packet("unknown type").payload == b"experiment"
    assert packet("padding").payload == b""


def test_dns_keeps_a_record_of_an_unknown_type():
    dns = packet("answer").application
    assert isinstance(dns, dpkt.dns.DNS)
    assert [record.type for record in dns.an] == [1, 65]
    assert ipaddress.ip_address(dns.an[0].ip) == ipaddress.ip_address("192.0.2.7")
    assert dns.an[1].rdata == b"x"


def test_an_icmp_error_quotes_a_packet_that_is_no_layer_of_this_one():
    made = packet("unreachable")
    quoted = made.layers[-1].data
    assert (type(made.layers[-1]).__name__, quoted.src) == ("Unreach", socket.inet_aton("192.0.2.9"))
    assert made.layer("tcp") is None
    assert made.error is None


def test_tags_and_labels_are_layers_and_lists():
    made = packet("three tags")
    assert [tag.id for tag in made.layers[1:4]] == [3, 2, 1]
    assert made.link.vlan_tags == made.layers[1:4]
    labels = packet("vlan and mpls").link.mpls_labels
    assert [label.val for label in labels] == [17]


def test_extension_headers_are_layers_and_a_list():
    made = packet("ipv6 chain")
    assert made.network.all_extension_headers == made.layers[2:4]


def test_flows_are_addresses_and_ports_and_turn_around():
    made = packet("ipv6")
    flows = made.flow
    assert flows == Flows(Flow("2001:db8::1", "2001:db8::2"), Flow(40000, 80))
    assert flows.reverse() == Flows(Flow("2001:db8::2", "2001:db8::1"), Flow(80, 40000))
    assert flows.reverse().reverse() == flows
    assert len({flows, flows.reverse(), flows.reverse().reverse()}) == 2
    assert str(flows.transport) == "40000->80"


def test_flows_in_a_tunnel_are_those_around_the_transport_layer():
    assert packet("gre").flow.network == Flow("2001:db8::1", "2001:db8::2")


def test_a_packet_without_ports_has_a_network_flow_and_one_without_addresses_has_none():
    assert packet("echo").flow == Flows(Flow("192.0.2.1", "198.51.100.2"), None)
    assert packet("echo").flow.reverse().transport is None
    assert packet("arp").flow is None


def test_metadata_tells_time_in_three_ways():
    metadata = Metadata(START_NS, 60, 1514, "eth0")
    assert metadata.truncated
    assert metadata.time == pytest.approx(1_795_341_600.1234567)
    assert metadata.datetime == datetime.datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=datetime.UTC)
    assert not Metadata(0, 60, 60).truncated
    with pytest.raises(AttributeError):
        metadata.ts_ns = 0


@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_can_be_written_as_json(name):
    made = packet(name)
    out = json.loads(json.dumps(made.as_dict()))
    assert [layer["layer"] for layer in out["layers"]] == names(made)
    assert (out["ts_ns"], out["caplen"], out["wirelen"]) == (START_NS, len(made.data), len(made.data))
    assert out["link_type"] == FRAMES[name][0]


def test_json_has_addresses_as_text_and_bytes_in_hexadecimal():
    out = packet("datagram").as_dict()
    assert out["layers"][0]["src"] == "02:00:00:00:00:01"
    assert out["layers"][1]["src"] == "192.0.2.1"
    assert out["payload"] == b"hello".hex()
    assert (out["time"], out["interface"]) == ("2026-11-22T10:00:00.123456789Z", "eth0")
    assert "payload" not in packet("request").as_dict()
    assert packet("unknown type").as_dict()["error"]["offset"] == 0


def test_a_packet_needs_nothing_but_its_bytes():
    data = packet("request").data
    alone = Packet(data)
    assert [type(layer) for layer in alone.layers] == [type(layer) for layer in packet("request").layers]
    assert (alone.metadata, alone.link_type, alone.error) == (Metadata(0, len(data), len(data)), 1, None)


def test_padding_belongs_to_no_layer():
    made = packet("arp")
    assert made.layer("arp").data == b""
    assert made.data.endswith(PADDING)


def test_repr_names_the_layers():
    assert repr(packet("vlan")) == "<Packet 76 bytes Ethernet/IP/TCP/Request>"
    assert repr(Packet(b"", Metadata(0, 0, 0), 999)) == "<Packet 0 bytes not decoded>"
