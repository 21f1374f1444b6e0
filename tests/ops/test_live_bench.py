"""The benchmark on a wire, as far as it can be tried in seconds: its sender, its search, and how it judges."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import compile_floor, prepare
from capture_file_readers import by_us
from eventually import PATIENCE_S, read_lines
from hypothesis import given
from hypothesis import strategies as st
from latency import ended_ns, quantiles
from live import compile_sender
from measure import Failed
from probe import Load, OwnSender, Probe, Sent, Tcpreplay, Verdict, loops_for, probe
from reading import Reading
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from sensors import Appliance, Floor, judge, judge_eve
from sustain import confirmed, highest
from traffic import Conversation, Frame, PcapWriter, arp_request, exchange, icmp_echo, udp
from veth import SENSING, Cable, Unavailable

from appliance.stats.layout import capture_layout, feed_layout, supervisor_layout, worker_layout
from appliance.stats.ledger import identities
from appliance.wire.tcp_locator import VERDICTS

pytestmark = pytest.mark.slow

# -- the sender --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_sender(tmp_path_factory.mktemp("sender"))


@pytest.fixture
def cable() -> Iterator[Cable]:
    try:
        with Cable(longest=1600) as made:
            yield made
    except Unavailable as reason:
        pytest.skip(str(reason))


def talk(**options: object) -> list[Frame]:
    made = Conversation(**options).handshake()  # type: ignore[arg-type]
    return made.exchange(exchange(target="/odd", body=b"x" * 4001)).close().frames


def every_kind() -> list[bytes]:
    """TCP over both IPs, tagged and not, UDP, ICMP, and no IP at all."""
    frames = talk() + talk(client="2001:db8::1", server="2001:db8::2") + talk(vlans=(200, 31), client_port=7)
    others = [
        udp("192.0.2.1", "198.51.100.53", (5000, 53), b"odd"),
        udp("2001:db8::1", "2001:db8::53", (5000, 53), b"even"),
        icmp_echo("192.0.2.1", "192.0.2.2", 9),
        arp_request("192.0.2.1", "192.0.2.2"),
    ]
    return [frame for _, frame in frames] + others


def written(path: Path, frames: list[bytes]) -> Path:
    with PcapWriter(path) as out:
        out.write_all((number, frame) for number, frame in enumerate(frames))
    return path


def loops_of(sender: Path, file: Path, count: int) -> list[list[bytes]]:
    """The frames that the sender would send, loop by loop."""
    out = subprocess.run(
        [sender, file, "-", "0", str(count)], capture_output=True, check=True, timeout=PATIENCE_S
    ).stdout
    frames = []
    while out:
        (length,) = struct.unpack_from("=I", out)
        frames.append(out[4 : 4 + length])
        out = out[4 + length :]
    size = len(frames) // count
    return [frames[at : at + size] for at in range(0, len(frames), size)]


def flow(frame: bytes) -> frozenset[object] | None:
    """Both ends of an IP packet, in no order."""
    packet = Ether(frame)
    layer = next((packet[kind] for kind in (IP, IPv6) if kind in packet), None)
    if layer is None:
        return None
    ports = (getattr(layer.payload, "sport", 0), getattr(layer.payload, "dport", 0))
    return frozenset(zip((layer.src, layer.dst), ports, strict=True))


def test_the_first_loop_is_the_file(sender: Path, tmp_path: Path) -> None:
    frames = every_kind()
    assert loops_of(sender, written(tmp_path / "f.pcap", frames), 3)[0] == frames


def test_every_loop_has_connections_of_its_own_and_right_checksums(sender: Path, tmp_path: Path) -> None:
    frames = every_kind()
    loops = loops_of(sender, written(tmp_path / "f.pcap", frames), 20)
    flows = [{found for frame in loop if (found := flow(frame))} for loop in loops]
    assert {len(one) for one in flows} == {len(flows[0])}
    assert len(frozenset().union(*flows)) == 20 * len(flows[0])
    for loop in loops[1:]:
        for before, frame in zip(frames, loop, strict=True):
            assert len(frame) == len(before)
            assert frame[:12] == before[:12]
            rebuilt = Ether(frame)
            for layer in rebuilt.iterpayloads():
                for name in {"chksum", "cksum"} & layer.fields.keys():
                    del layer.fields[name]
            assert bytes(rebuilt) == frame


def test_a_damaged_file_is_refused(sender: Path, tmp_path: Path) -> None:
    whole = written(tmp_path / "f.pcap", every_kind()).read_bytes()
    for content in (b"", whole[:100], whole[:-1], b"x" * len(whole)):
        file = tmp_path / "bad.pcap"
        file.write_bytes(content)
        done = subprocess.run([sender, file], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert (done.returncode, done.stderr[:8]) == (1, "sender: "), done


@pytest.mark.root
@pytest.mark.parametrize("threads", [1, 3])
def test_the_sender_keeps_to_its_rate_and_leaves_nothing_out(
    sender: Path, tmp_path: Path, cable: Cable, threads: int
) -> None:
    file = written(tmp_path / "f.pcap", every_kind())
    own = OwnSender(sender, threads)
    said = subprocess.run(
        cable.at_sender(own.argv(file, 500.0, 7)), capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    sent = own.parse(said.stdout)
    assert sent.frames == 7 * len(every_kind())
    assert sent.bytes == 7 * sum(map(len, every_kind()))
    assert sent.seconds >= (sent.frames - 1) / 500.0 * 0.999
    words = cable.at_sensor(["ip", "-s", "-j", "link", "show", SENSING])
    about = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=PATIENCE_S).stdout)
    assert about[0]["stats64"]["rx"]["packets"] == sent.frames


@pytest.mark.root
def test_with_threads_each_connection_stays_in_order(sender: Path, tmp_path: Path, cable: Cable) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("the program tcpdump is not installed")
    talks = [talk(client=f"192.0.2.{number}") for number in range(1, 30)]
    frames = [frame for one in zip(*talks, strict=True) for _, frame in one]
    file, seen = written(tmp_path / "f.pcap", frames), tmp_path / "seen.pcap"
    words = ["tcpdump", "-i", SENSING, "-w", str(seen), "-c", str(len(frames)), "-B", "16384", "-U"]
    with subprocess.Popen(cable.at_sensor(words), stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stderr is not None
        assert any("listening" in line for line in read_lines(reader.stderr))
        subprocess.run(
            cable.at_sender(OwnSender(sender, 3).argv(file, 0, 1)), capture_output=True, check=True, timeout=PATIENCE_S
        )
        assert reader.wait(PATIENCE_S) == 0
    came = [frame for frame, _, _ in by_us(seen)[0]]
    assert sorted(came) == sorted(frames)
    by_flow: dict[frozenset[object] | None, tuple[list[bytes], list[bytes]]] = {}
    for place, one in enumerate((frames, came)):
        for frame in one:
            by_flow.setdefault(flow(frame), ([], []))[place].append(frame)
    assert len(by_flow) == len(talks)
    assert all(sent == received for sent, received in by_flow.values())


# -- the search --------------------------------------------------------------------------------------------------------

rates = st.floats(1e3, 1e7)


@given(limit=st.floats(1e2, 1e7), begin=st.floats(1e4, 1e5), precision=st.floats(0.01, 0.5))
def test_the_search_ends_just_below_the_limit(limit: float, begin: float, precision: float) -> None:
    tried: dict[float, bool] = {}

    def holds(rate: float) -> bool:
        assert rate not in tried
        return tried.setdefault(rate, rate <= limit)

    found = highest(holds, begin, 1e6, precision)
    if not found:
        assert limit < begin / 500
        return
    assert tried[found]
    assert found <= limit
    assert found == 1e6 or found * (1 + precision) * 1.0001 >= limit
    assert max(tried) <= 1e6
    assert len(tried) <= 40


@given(st.data())
def test_what_the_search_finds_has_held_whatever_the_probes_say(data: st.DataObject) -> None:
    held = {0.0}

    def holds(rate: float) -> bool:
        answer = data.draw(st.booleans())
        if answer:
            held.add(rate)
        return answer

    assert highest(holds, 5e4, 3.2e6) in held


def test_nothing_holds_at_all() -> None:
    assert highest(lambda rate: False, 1e4, 1e6) == 0.0
    assert confirmed(lambda rate: False, 1e4) == 0.0


@given(rate=rates, limit=rates)
def test_the_long_probe_goes_down_until_it_holds(rate: float, limit: float) -> None:
    found = confirmed(lambda rate: rate <= limit, rate)
    assert found <= min(rate, limit)
    assert found == rate or found == 0.0 or found > limit * 0.95 * 0.999


@given(rate=rates, seconds=st.floats(0.1, 100), frames=st.integers(1, 10**7))
def test_a_probe_is_whole_loops_and_long_enough(rate: float, seconds: float, frames: int) -> None:
    loops = loops_for(rate, seconds, frames)
    assert loops * frames / rate >= seconds * 0.999
    assert loops == 1 or (loops - 1) * frames / rate < seconds


# -- how it judges -----------------------------------------------------------------------------------------------------


def test_what_a_sender_says_is_read() -> None:
    assert OwnSender(Path("x")).parse("warming up\n12 1200 0.250000 3 0.010000\n") == Sent(12, 1200, 0.25, 3)
    said = (
        "Actual: 20 packets (3000 bytes) sent in 0.40 seconds\nRated: 1.0 Bps\n"
        "\tFailed packets:            0\n\tRetried packets (ENOBUFS): 2\n"
    )
    assert Tcpreplay("x").parse(said) == Sent(20, 3000, 0.4, 2)
    for bad in ("", "Actual: nothing", said.replace("packets:            0", "packets:            4")):
        with pytest.raises(Failed):
            Tcpreplay("x").parse(bad)
    with pytest.raises(Failed):
        OwnSender(Path("x")).parse("Terminated")


class Pages:
    """A run of one capture and one worker in which nothing happened yet."""

    def __init__(self) -> None:
        self.captures = [dict.fromkeys(capture_layout(1, VERDICTS), 0)]
        self.workers = [dict.fromkeys(worker_layout(1), 0)]
        self.feed = dict.fromkeys(feed_layout(1), 0)
        self.recorder: dict[str, int] = {}
        self.files: dict[str, int] = {}
        self.keeper: dict[str, int] = {}
        self.supervisor = dict.fromkeys(supervisor_layout(1, 1), 0)

    def judged(self) -> Verdict:
        return judge({"identities": identities(self)}, events=7)


def test_a_ledger_without_losses_has_none() -> None:
    pages = Pages()
    pages.captures[0].update({"kernel_received": 10, "frames": 10, "rejected.not_ip": 10})
    verdict = pages.judged()
    assert (verdict.received, verdict.events) == (10, 7)
    assert not any(verdict.losses.values()), verdict


@pytest.mark.parametrize(
    ("page", "slot", "reason"),
    [
        ("capture", "kernel_dropped", "dropped by the kernel"),
        ("capture", "kernel_abandoned", "dropped by the kernel"),
        ("capture", "frames", "L2 open by"),
        ("capture", "dropped_backlog.0", "L3 dropped_backlog"),
        ("worker", "lost.0", "L3 lost"),
        ("worker", "messages.truncated", "messages truncated"),
        ("worker", "dropped_backlog.http.2xx.", "L7 dropped_backlog"),
    ],
)
def test_every_loss_in_a_ledger_is_one(page: str, slot: str, reason: str) -> None:
    pages = Pages()
    pages.captures[0]["kernel_received"] = 1  # without any, the kernel takes no part
    (pages.captures if page == "capture" else pages.workers)[0][slot] = 3
    assert pages.judged().losses[reason] == 3


def test_an_eve_log_is_judged_by_its_last_statistics() -> None:
    def stats(drops: int) -> bytes:
        about = {"capture": {"kernel_packets": 90, "kernel_drops": drops}, "tcp": {"reassembly_gap": 1}}
        return json.dumps({"event_type": "stats", "stats": about}, separators=(",", ":")).encode()

    lines = [b'{"event_type":"http"}', stats(1), b'{"event_type":"http"}', stats(4)]
    verdict = judge_eve(lines)
    assert (verdict.received, verdict.events) == (90, 2)
    assert {name: number for name, number in verdict.losses.items() if number} == {
        "dropped by the kernel": 4,
        "tcp.reassembly_gap": 1,
    }
    with pytest.raises(Failed):
        judge_eve([b'{"event_type":"http"}'])


def test_a_log_is_read_while_it_grows_and_its_memory_given_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reading = Reading(log, lambda blocks: b"".join(blocks))
    lines = [b"%d %s\n" % (number, b"x" * 1000) for number in range(20_000)] + [b"no end of line"]
    with open(log, "ab", buffering=0) as out:
        for line in lines:
            out.write(line)
    assert reading.result() == b"".join(lines)
    about = log.stat()
    assert about.st_size == len(b"".join(lines))
    assert about.st_blocks * 512 < about.st_size / 2


def test_what_goes_wrong_while_reading_is_said_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Reading(tmp_path / "never", list).result()


def a_probe(**changes: object) -> Probe:
    """A probe that holds, but for the changes."""
    known = {"sent": Sent(1000, 500_000, 1.0, 0), "verdict": Verdict(1000, 50, {"dropped by the kernel": 0})}
    settled = {"rate": 1000.0, "transactions": 50, "drain_s": 0.1, **known, **changes}
    return Probe(sensor="appliance", loops=1, cpu_s={}, load=0.0, **settled)  # type: ignore[arg-type]


def test_a_rate_holds_when_all_came_out_in_time() -> None:
    assert a_probe().holds
    assert a_probe().mbit_s == 4.0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"verdict": Verdict(1000, 50, {"dropped by the kernel": 1})}, "dropped by the kernel 1"),
        ({"verdict": Verdict(999, 50, {})}, "1,000 frames sent, 999 arrived"),
        ({"verdict": Verdict(1000, 49, {})}, "49 events of 50 transactions"),
        ({"drain_s": 0.5}, "0.5 s behind at the end"),
        ({"rate": 1100.0}, "the sender came to 1,000 frames/s only"),
    ],
)
def test_a_rate_does_not_hold_for_any_fault(changes: dict[str, object], fault: str) -> None:
    assert a_probe(**changes).faults == [fault]


# -- latency -----------------------------------------------------------------------------------------------------------


def test_the_end_of_an_event_is_read_to_the_nanosecond() -> None:
    event = b'{"event":{"start":"2026-09-21T14:13:20.1Z","end":"2026-09-21T14:13:20.043616363Z","duration":1}}'
    assert ended_ns(event) == 1_790_000_000_043_616_363
    with pytest.raises(ValueError, match=r"no event\.end"):
        ended_ns(b"{}")


@given(st.lists(st.integers(-(10**6), 10**10), min_size=1))
def test_quantiles_are_delays_in_order(delays: list[int]) -> None:
    found = quantiles(delays)
    assert found.pop("events") == len(delays)
    assert list(found.values()) == sorted(found.values())
    assert {round(ms * 1e6) for ms in found.values()} <= set(delays)
    assert found["max"] == max(delays) / 1e6


# -- all together ------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_slow_probe_of_the_appliance_loses_nothing(sender: Path, tmp_path: Path, cable: Cable) -> None:
    file, figures = prepare("api", 0.002, tmp_path)
    frames, size, transactions = (int(figures[key]) for key in ("frames", "frame_bytes", "transactions"))
    measured = Appliance(subscribed=True)
    result = probe(measured, OwnSender(sender), cable, Load(file, frames, size, transactions), 4000.0, 1.0)
    assert (result.loops, result.sent.frames) == (2, 2 * frames)
    assert result.verdict.received == 2 * frames
    assert result.verdict.events == 2 * transactions
    assert not any(result.verdict.losses.values()), result
    assert result.latency["events"] == 2 * transactions
    assert set(result.cpu_s) == {"capture-0", "worker-0", "feed", "supervisor", "subscriber", "sender"}


@pytest.mark.root
def test_the_floor_counts_what_was_sent(sender: Path, tmp_path: Path, cable: Cable) -> None:
    file, figures = prepare("api", 0.002, tmp_path)
    frames, size, transactions = (int(figures[key]) for key in ("frames", "frame_bytes", "transactions"))
    measured = Floor(compile_floor(tmp_path))
    result = probe(measured, OwnSender(sender), cable, Load(file, frames, size, transactions), 4000.0, 1.0)
    assert result.holds, result.faults
    assert result.verdict == Verdict(2 * frames, None, {"dropped by the kernel": 0})
