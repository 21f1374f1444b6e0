"""Live capture: what real clients and a real server did is what comes out, exactly once."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import appliance
from conversation import Conversation
from eventually import PATIENCE_S, eventually, read_line
from exchange import exchange
from hosts import Unavailable
from impair import interleave
from ip_fragments import all_fragmented, fragmented
from pcapfile import PcapWriter
from scene import PORT, Scene, require
from transactions import (
    Transaction,
    assert_contiguous,
    assert_in_order,
    assert_same,
    assert_whole,
    of_client,
    of_curl,
    of_event,
)

pytestmark = pytest.mark.root

V4, V6 = "192.0.2.1", "2001:db8::1"
NO_FEED = ("--feed", "off", "--metrics", "off")


# -- curl ------------------------------------------------------------------------------------------------------------


def curl_requests(base: str, name: str, upload: Path) -> Iterator[tuple[str, str]]:
    """(method on the wire, lines of a curl configuration) for a round of requests."""
    for number in range(6):
        tag = f"?n={name}-{number}"
        yield "GET", f"url = {base}/length/{number * 7000}{tag}-a"
        yield "GET", f"url = {base}/chunked/{number * 9000}{tag}-b"
        yield "POST", f'url = {base}/echo{tag}-c\ndata-binary = "{"x" * 200 * number}y"'
        yield "POST", f'url = {base}/echo{tag}-d\ndata-binary = "@{upload}"\nheader = "Transfer-Encoding: chunked"'
        yield "PUT", f'url = {base}/echo{tag}-e\nupload-file = "{upload}"\nheader = "Expect: 100-continue"'
        yield "HEAD", f"url = {base}/length/4321{tag}-f\nhead"
        yield "GET", f"url = {base}/missing{tag}-g"
        yield "GET", f"url = {base}/empty{tag}-h"
        yield "GET", f"url = {base}/unchanged{tag}-i"
        yield "GET", f"url = {base}/moved{tag}-j\nlocation"
        yield "DELETE", f"url = {base}/empty{tag}-k\nrequest = DELETE"
        yield "GET", f"url = {base}/until-close/{number * 800}{tag}-l"


def curl(scene: Scene, address: str, name: str, *words: str) -> list[Transaction]:
    """A round of requests by curl."""
    upload = scene.directory / "upload"
    upload.write_bytes(b"u" * 70_001)
    base = f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"
    methods, blocks = {}, []
    for method, lines in curl_requests(base, name, upload):
        methods[lines.split("\n")[0].partition(f":{PORT}")[2]] = method
        blocks.append(f'{lines}\noutput = /dev/null\nwrite-out = "%{{json}}\\n"\nsilent\ngloboff\n')
    config = scene.directory / f"{name}.curl"
    config.write_text("next\n".join(blocks))
    return of_curl(scene.client.run("curl", *words, "--config", config), methods, parallel="--parallel" in words)


# -- everything at once ----------------------------------------------------------------------------------------------


@pytest.mark.peer
def test_real_clients_and_a_subscriber_agree_with_the_events(scene: Scene) -> None:
    require("curl")
    box = scene.capture("--workers", "2")
    listener = scene.listen()
    browsers = [
        scene.load("--name", name, "--connections", 6, "--requests", 45, address=address)
        for name, address in (("four", V4), ("six", V6))
    ]
    done = curl(scene, V4, "curl4") + curl(scene, V6, "curl6")
    done += curl(scene, V4, "many4", "--parallel") + curl(scene, V6, "many6", "--parallel")
    for browser in browsers:
        done += of_client(browser.communicate(timeout=PATIENCE_S)[0])
        assert browser.returncode == 0
    assert box.stop(signal.SIGTERM) == 143

    events = box.events()
    assert len(done) > 800
    assert_same(map(of_event, events), done)
    assert_whole(events)
    assert_in_order(events)
    ledger = box.ledger()
    assert ledger["L1"]["kernel_dropped"] == 0
    assert ledger["L6"]["messages.complete"] >= 2 * len(done)
    for event in events:
        six = event["network"]["type"] == "ipv6"
        assert (event["destination"]["ip"], event["destination"]["port"]) == (V6 if six else V4, PORT)
        assert event["observer"]["ingress"]["interface"]["name"] == "s0"
    assert any(event["appliance"].get("informational") == [100] for event in events)

    heard = json.loads(listener.communicate(timeout=PATIENCE_S)[0])
    assert heard["done"]
    assert sorted(heard["events"]) == sorted(box.output.read_text().splitlines())
    assert_contiguous(heard["messages"])
    http = [message for message in heard["messages"] if message[0].startswith("http.")]
    assert_contiguous(http, start=1)
    assert sum(count for _, _, _, count in http) == len(events)
    assert {message[1] for message in heard["messages"]} == {http[0][1]}


def test_a_stop_brings_out_what_was_on_the_wire_a_moment_before(scene: Scene) -> None:
    box = scene.capture(*NO_FEED)
    done = of_client(scene.load("--connections", 2, "--requests", 20).communicate(timeout=PATIENCE_S)[0])
    assert box.stop(signal.SIGTERM) == 143  # at once: the last frames are still in the kernel's ring
    assert_same(map(of_event, box.events()), done)
    box.ledger()
    assert "ledger closed: nothing is unaccounted for" in box.errors()


def test_an_idle_capture_ends_with_a_closed_ledger(scene: Scene) -> None:
    box = scene.capture(*NO_FEED)
    assert box.stop(signal.SIGTERM) == 143
    box.ledger()
    assert box.events() == []


def test_a_filter_takes_only_what_it_names(scene: Scene) -> None:
    other = PORT + 1
    web = scene.server.python("web_server.py", other, stdout=subprocess.PIPE)
    assert read_line(web.stdout) == b"ready\n"
    box = scene.capture(*NO_FEED, "-f", f"tcp port {other}")
    unseen = scene.load("--connections", 2, "--requests", 30, "--name", "unseen")
    seen = scene.client.python(
        *("web_client.py", V4, other, "--connections", 2, "--requests", 30, "--name", "seen"),
        stdout=subprocess.PIPE,
        text=True,
    )
    done = of_client(seen.communicate(timeout=PATIENCE_S)[0])
    assert len(of_client(unseen.communicate(timeout=PATIENCE_S)[0])) == 60
    assert box.stop(signal.SIGTERM) == 143
    assert_same(map(of_event, box.events()), done)
    ledger = box.ledger()
    assert ledger["L2"]["frames"] == ledger["L2"]["offered"]


def test_a_filter_that_does_not_compile_is_said_with_libpcaps_words(scene: Scene) -> None:
    result = appliance("run", "-i", "s0", *NO_FEED, "-f", "tcp prot 80", host=scene.server)
    assert result.code == 2
    assert "'tcp prot 80'" in result.err
    assert "syntax error" in result.err


# -- VLANs -----------------------------------------------------------------------------------------------------------


def tagged(vlans: tuple[int, ...], port: int, name: str) -> Conversation:
    """A connection inside these tags, small enough for a link of 1500 bytes."""
    made = Conversation("192.0.2.200", "192.0.2.201", port, vlans=vlans, mss=1200).handshake()
    for number in range(4):
        made.exchange(exchange("POST", f"/{name}/{number}", upload=b"u" * 900, body=b"b" * 3000 * number))
    return made.close()


@pytest.mark.parametrize("words", [(), ("-f", "tcp port 80")], ids=["unfiltered", "filtered"])
def test_frames_with_vlan_tags_say_their_vlan(scene: Scene, words: tuple[str, ...]) -> None:
    made = [tagged((), 40001, "plain"), tagged((42,), 40002, "one"), tagged((200, 31), 40003, "two")]
    file = scene.directory / "tagged.pcap"
    with PcapWriter(file) as out:
        for conversation in made:
            out.write_all(conversation.frames)
    box = scene.capture(*NO_FEED, *words)
    assert scene.client.python("replay.py", "c0", file).wait(PATIENCE_S) == 0
    assert box.stop(signal.SIGTERM) == 143
    events = box.events()
    assert_whole(events)
    found = sorted(
        (event["url"]["path"], event["network"].get("vlan"), event["network"].get("inner")) for event in events
    )
    assert found == sorted(
        (f"/{name}/{number}", outer, inner)
        for name, outer, inner in (
            ("plain", None, None),
            ("one", {"id": "42"}, None),
            ("two", {"id": "200"}, {"vlan": {"id": "31"}}),
        )
        for number in range(4)
    )
    box.ledger()


def test_a_vlan_of_the_kernel_is_seen_on_its_trunk(scene: Scene) -> None:
    try:
        address = scene.network.tag(42)
    except Unavailable as reason:
        pytest.skip(f"this kernel has no VLANs: {reason}")
    box = scene.capture(*NO_FEED)
    done = of_client(
        scene.load("--connections", 2, "--requests", 30, address=address).communicate(timeout=PATIENCE_S)[0]
    )
    assert box.stop(signal.SIGTERM) == 143
    events = box.events()
    assert_same(map(of_event, events), done)
    assert {event["network"]["vlan"]["id"] for event in events} == {"42"}
    box.ledger()


# -- several interfaces, and loopback ----------------------------------------------------------------------------------


def test_two_interfaces_are_captured_side_by_side(two_cables: Scene) -> None:
    scene = two_cables
    box = scene.capture("-i", "s1", "--workers", 2, *NO_FEED)
    loads = [
        scene.load("--name", name, "--connections", 4, "--requests", 40, address=address)
        for name, address in (("s0", V4), ("s1", "192.0.2.17"))
    ]
    done = [one for load in loads for one in of_client(load.communicate(timeout=PATIENCE_S)[0])]
    assert box.stop(signal.SIGTERM) == 143
    events = box.events()
    assert_same(map(of_event, events), done)
    assert_whole(events)
    for event in events:
        interface = event["observer"]["ingress"]["interface"]["name"]
        assert event["destination"]["ip"] == {"s0": V4, "s1": "192.0.2.17"}[interface]
        assert f"n={interface}-" in event["url"]["query"]
    assert min(box.count(f"capture-{c}", "frames") for c in range(2)) > 100
    box.ledger()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_loopback_gives_each_transaction_once(scene: Scene, address: str) -> None:
    box = scene.capture(*NO_FEED, interface="lo")
    client = scene.server.python(
        *("web_client.py", address, PORT, "--connections", 3, "--requests", 40), stdout=subprocess.PIPE, text=True
    )
    done = of_client(client.communicate(timeout=PATIENCE_S)[0])
    assert box.stop(signal.SIGTERM) == 143
    events = box.events()
    assert_same(map(of_event, events), done)
    assert_whole(events)
    ledger = box.ledger()
    assert ledger["L1"]["looped_frames"] == ledger["L1"]["frames"]


# -- fragments -------------------------------------------------------------------------------------------------------

PORT_80_AND_FRAGMENTS = "tcp port 80 or ip[6:2] & 0x3fff != 0 or ip6 proto 44"  # as README.md says


@pytest.mark.parametrize("words", [(), ("-f", PORT_80_AND_FRAGMENTS)], ids=["unfiltered", "filtered"])
def test_fragments_on_the_wire_give_the_events_of_whole_frames(scene: Scene, words: tuple[str, ...]) -> None:
    talks = [
        Conversation(client, server, port, mss=1200).handshake()
        for client, server, port in (
            ("192.0.2.200", "192.0.2.201", 40001),
            ("2001:db8::200", "2001:db8::201", 40002),
        )
    ]
    for number, said in itertools.product(range(4), talks):
        said.exchange(exchange("POST", f"/{number}", upload=b"u" * 2000, body=b"b" * 3000 * number))
    fragments = all_fragmented(interleave(said.close() for said in talks), [504, 8, 304])
    alone = next(parts for frame in talks[0].frames if len(parts := fragmented(frame, 504, 60000)) > 1)[:1]
    file = scene.directory / "fragments.pcap"
    with PcapWriter(file) as out:
        out.write_all(fragments)
        out.write_all(alone)
    box = scene.capture(*NO_FEED, "--workers", 2, *words)
    assert scene.client.python("replay.py", "c0", file).wait(PATIENCE_S) == 0
    assert box.stop(signal.SIGTERM) == 143
    events = box.events()
    assert_whole(events)
    assert sorted((event["source"]["ip"], event["url"]["path"]) for event in events) == sorted(
        (client, f"/{number}") for client in ("192.0.2.200", "2001:db8::200") for number in range(4)
    )
    terms = box.ledger()["L2"]
    assert terms["fragments.merged"] == terms["rejected.fragment"] - 1 > 50
    assert (terms["fragments.timeout"], terms["fragments.held"]) == (1, 0)
    assert 20 < terms["reassembled"] < terms["offered"]


def test_fragments_held_by_a_capture_that_is_killed_are_accounted_for(scene: Scene) -> None:
    parts = fragmented(tagged((), 40001, "plain").frames[3], 504)
    file = scene.directory / "fragments.pcap"
    with PcapWriter(file) as out:
        out.write_all(parts[:-1])
    box = scene.capture(*NO_FEED)
    assert scene.client.python("replay.py", "c0", file).wait(PATIENCE_S) == 0
    eventually(lambda: box.count("capture-0", "fragments.held") == len(parts) - 1, "the fragments are held")
    box.kill("capture-0")
    assert box.stop(signal.SIGTERM) == 143
    terms = box.ledger()["L2"]
    assert (terms["fragments.crash"], terms["fragments.held"]) == (len(parts) - 1, 0)
