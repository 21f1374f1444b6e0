"""The capture process: one source, its frames spread over the workers.

`python -m appliance.capture RUN_DIR INDEX` opens interface INDEX of the configuration (or its file) and sends every TCP
frame to the worker that its flow belongs to. A live capture never blocks: it leaves out whole new connections while
the machine is not enough (appliance.shedding), and what a worker does not take all the same is dropped and counted.
Reading a file never drops: it waits. Every count is in the stats page before the thing it counts can be lost, so that a
killed process leaves an account that its successor can close.
Ends with 0 when all is sent, 1 when the source failed on the way, 2 when it could not be opened as asked.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
import time
from pathlib import Path

from appliance import fanout, log, pcap, sandbox
from appliance.books import close_capture
from appliance.bus import BusError
from appliance.links import Links
from appliance.log import tell
from appliance.lookout import Lookout
from appliance.options import Config
from appliance.shard import Sharder
from appliance.shedding import RING_S, Shedder, refusal
from appliance.station import Station, configuration, leave
from appliance.stats import DONE, DRAINING, READY, Page

TURN_FRAMES = 8192  # frames per turn of the loop: some ms of work between two looks at signals and ages
RING_DRAIN_S = 1.0  # how long the frames already in the kernel's ring are waited for at a stop
STATS_S = 1.0  # libpcap's counters are 32 bits wide and wrap after 4.8 minutes at 14.88 million frames a second
LINGER_S = 1.0  # how long a failing live capture, which will be back, lets its queues leave
KEY_BYTES = 16
PIPE_BYTES = 1 << 20
ETHERNET = 1  # DLT_EN10MB
MIRRORS = ("lo", "any")  # where libpcap reads every loopback frame twice and throws the outgoing copy away


def shared_key(run_dir: Path) -> bytes:
    """The secret hash key that all captures of a run share: whoever comes first makes it."""
    path = run_dir / "key"
    mine = run_dir / f"key.{os.getpid()}"
    mine.write_bytes(os.urandom(KEY_BYTES))
    try:
        os.link(mine, path)  # atomic: the file is never seen half written, and the first one stays
    except FileExistsError:
        pass
    mine.unlink()
    return path.read_bytes()


def vlan_aware(text: str) -> str:
    """The filter, and the same inside one and two VLAN tags.

    In this order: `vlan` moves the offsets of everything behind it (pcap-filter(7)). A negation, such as `not port 22`,
    lets tagged frames of any kind through, as it does by itself."""
    return f"({text}) or (vlan and (({text}) or (vlan and ({text}))))"


def widen(descriptor: int) -> None:
    """Makes a pipe as large as anybody may ask for (pipe(7)): reading it is half as fast again."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # it is no pipe, or its user has too many large ones already


class Capture:
    """One source on its way to the workers. `run` does everything, once."""

    def __init__(
        self, config: Config, run_dir: Path, index: int, page: Page, station: Station, last_turn_ns: int = 0
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.index = index
        self.page = page
        self.station = station
        self.live = not config.lossless
        self.interface = config.interface_of(index)
        if self.live and self._twice:  # a killed predecessor knew this only as of its last look at the kernel
            unseen = page["kernel_received"] - page["kernel_dropped"] - page["frames"] - page["looped_frames"]
            page.add("looped_frames", max(0, min(unseen, page["frames"] - page["looped_frames"])))
        close_capture(page, config.worker_count)
        if self.live:  # frames of a predecessor that died before it asked the kernel
            page["kernel_received"] = max(page["kernel_received"], page["frames"])
        self.base = page.snapshot()
        self.key = shared_key(run_dir)
        # Its sharder is replaced when the source says what its frames are.
        self.links = Links(config, run_dir, index, page, station, self._sharder(ETHERNET), self.base)
        self.handle: pcap.Handle | None = None
        self.filter = ""  # as it was set
        self.input = -1  # descriptor of the file being read
        self.stats_at = 0.0
        self.shedder = Shedder(config, run_dir, index, page) if self.live and config.shedding.enabled else None
        self.lookout = Lookout(page, self.interface, last_turn_ns)
        self.received_before = 0  # kernel_received − kernel_dropped of this process at the last reading

    def _sharder(self, link_type: int) -> Sharder:
        config = self.config
        return Sharder(
            self.key,
            config.worker_count,
            config.shard.batch_bytes,
            time.time_ns(),
            self.index,
            link_type=link_type,
            max_tunnels=config.capture.max_tunnels,
            max_fragmented_datagrams=config.capture.max_fragmented_datagrams,
            max_fragment_bytes=config.capture.max_fragment_bytes,
            fragment_timeout_ns=round(config.capture.fragment_timeout_s * 1e9),
            vlans=config.capture.vlan_in_flow,
            max_shed_flows=config.shedding.max_flows,
            shed_timeout_ns=round(config.shedding.flow_timeout_s * 1e9),
            halves=config.capture_count > 1,
            checksums=config.tcp.checksums != "off",
        )

    # -- the source --------------------------------------------------------------------------------------------------

    def open(self) -> pcap.Handle:
        """Opens and filters the source. Raises PcapError."""
        settings, source = self.config.capture, self.config.source
        if self.live:
            handle = pcap.open_live(
                self.interface,
                snaplen=settings.snaplen,
                promiscuous=settings.promiscuous,
                timeout=settings.timeout_ms / 1000,
                ring_bytes=settings.ring_bytes,
            )
            if settings.fanout > 1:
                fanout.join(handle, self.interface, self.key)
        else:
            self.input = self._open_file(source.file)
            if stat.S_IFMT(os.stat(self.input).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                handle = pcap.open_offline(source.file)
            else:
                widen(self.input)
                self.connect()  # opening a stream waits for its first bytes, and passes on meanwhile
                handle = pcap.open_stream(self.input, self._idle, self.config.shard.batch_age_ms, source.file)
        if handle.warning:
            tell(handle.warning)
        if source.filter:
            self.filter = self._filter(handle, source.filter)
        self.page["link_type"] = handle.link_type
        self.links.sharder = self._sharder(handle.link_type)
        return handle

    @staticmethod
    def _open_file(path: str) -> int:
        """A descriptor of the file; 0 for standard input. Raises PcapError."""
        try:
            return 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise pcap.NotACapture(f"{path}: {error.strerror}") from error

    def _filter(self, handle: pcap.Handle, text: str) -> str:
        """Sets it, and says what was set."""
        if self.config.capture.vlan_aware and handle.link_type == ETHERNET:
            try:
                handle.set_filter(vlan_aware(text))
                return vlan_aware(text)
            except pcap.PcapError:
                pass  # not every expression may stand behind `vlan`; if it is wrong by itself, the next line says so
        handle.set_filter(text)
        return text

    def connect(self) -> None:
        """The links to the workers, once the source is open: their thread must not have what that needs.

        Raises BusError. Does nothing the second time."""
        if not self.links.connected:
            sandbox.opened(self.config, self.page)
            self.links.connect()

    def _follow_news(self, handle: pcap.Handle) -> None:
        """Takes a new configuration over: of all that can change, only the filter is a matter of the capture."""
        news = self.station.news(self.run_dir)
        if news is None:
            return
        before, self.config = self.config, news
        old, new = ((one.source.filter, one.capture.vlan_aware) for one in (before, news))
        if old == new:
            return
        began_ns, seamless = time.monotonic_ns(), handle.seamless
        try:
            self.filter = self._filter(handle, news.source.filter) if news.source.filter else self._no_filter(handle)
            if self.shedder is not None and self.shedder.refused:
                self._refuse(handle, self.shedder.refused)
        except pcap.BadFilter as fault:
            self.station.cannot_follow(f"{handle.source}: {fault}; the filter set before stays")
        if self.live and not (seamless and handle.seamless):
            self.lookout.blind(began_ns)

    @staticmethod
    def _no_filter(handle: pcap.Handle) -> str:
        handle.set_filter("")
        return ""

    def run(self) -> int:
        """The whole life of the process; its exit code. Raises BusError."""
        code = 0
        if not self.live and self.page["starts"] > 1 and self.base["frames"]:
            tell("reading was interrupted and cannot be resumed: the events of the rest of the file are missing")
            self.page["error"] = 1
            self.connect()
            return self._finish(1)
        try:
            self.handle = self.lookout.open(self.open, pcap.Absent, self.station, tell) if self.live else self.open()
        except pcap.PcapError as error:
            self.connect()
            self.station.turn()  # a signal that interrupted libpcap is heard in here
            if self.station.stopping:
                return self._finish(0)
            tell(str(error))
            self.page["error"] = 1
            return self._finish(2)
        self.connect()
        try:
            if self.live:
                self._follow(self.handle)
            else:
                self.station.state(READY)
                self._read(self.handle)
        except pcap.TruncatedCapture as warning:
            tell(f"{warning}; every whole frame before that was read")
        except pcap.PcapError as error:
            self.station.turn()  # a signal that interrupted libpcap is heard in here
            if not self.station.stopping:
                tell(str(error))
                self.page["error"] = code = 1
        return self._finish(code)

    def _follow(self, handle: pcap.Handle) -> None:
        """Live: until SIGTERM, then the frames that the kernel had taken by then."""
        waiting = select.poll()
        waiting.register(handle.fileno(), select.POLLIN)
        age_ns = self.config.shard.batch_age_ms * 1_000_000
        self._kernel_stats(handle)
        self.station.state(READY)
        while not self.station.stopping:
            self.station.turn()
            self._follow_news(handle)
            frames = handle.shard(self.links.sharder, TURN_FRAMES)
            self.links.sharder.seal(age_ns)
            self.links.pass_on()
            now = time.monotonic()
            if now >= self.stats_at:
                self._kernel_stats(handle)
            if now >= self.lookout.next_look:
                self.lookout.look(now, handle.fileno())
            if self.shedder is not None and now >= self.shedder.next_look:
                if frames >= TURN_FRAMES or now >= self.shedder.next_ring:  # fewer: all that was there was read
                    self.shedder.see_ring(handle.stats(), self.links.sharder, mirror=self._mirror)
                    self.shedder.next_ring = now + RING_S
                refused = self.shedder.refused
                self.shedder.look(now, self.links.fill(), self.links.sharder)
                if self.shedder.refused != refused:
                    self._refuse(handle, self.shedder.refused)
            if frames == 0:
                waiting.poll(self.config.shard.batch_age_ms)
        self.station.state(DRAINING)
        self.links.drain()
        handle.stop_accepting()
        self._drain_ring(handle, waiting)

    def _refuse(self, handle: pcap.Handle, steps: int) -> None:
        """Has the kernel refuse the frames of this share of all flows, if its filter can be changed without a loss."""
        assert self.shedder is not None
        try:
            if not handle.seamless:
                raise pcap.BadFilter("the filter of this interface cannot be changed")
            handle.set_filter(refusal(self.links.sharder.salt, steps, self.filter) if steps else self.filter)
        except pcap.BadFilter as reason:
            self.shedder.spare_kernel()
            tell(f"{handle.source}: the kernel's buffer overflows, and nothing can be refused there: {reason}")
        else:
            if self.page["kernel_shed_ns"] == 0:
                tell(f"{handle.source}: the kernel's buffer overflows; it refuses a share of all connections, unseen")

    def _drain_ring(self, handle: pcap.Handle, waiting: select.poll) -> None:
        settings = self.config.capture
        end = time.monotonic() + max(RING_DRAIN_S, 3 * settings.timeout_ms / 1000)
        quiet_since = time.monotonic()
        mirror = self._mirror
        while time.monotonic() < end:
            self.station.turn()
            if handle.shard(self.links.sharder, TURN_FRAMES):
                quiet_since = time.monotonic()
                self.links.pass_on()
                continue
            received, dropped, _ = handle.stats()
            if not mirror and received - dropped <= self.links.sharder.counts()["frames"]:
                break
            if mirror and time.monotonic() - quiet_since > 3 * settings.timeout_ms / 1000:
                break  # on a mirror the frames to come cannot be told from those thrown away: no block is open any more
            waiting.poll(10)
        self._kernel_stats(handle, final=True)

    @property
    def _mirror(self) -> bool:
        return self.interface in MIRRORS

    @property
    def _twice(self) -> bool:
        """Whether every single frame comes twice."""
        return self.interface == MIRRORS[0]

    def _kernel_stats(self, handle: pcap.Handle, *, final: bool = False) -> None:
        received, dropped, if_dropped = handle.stats()
        if not self.config.is_first(self.index):
            if_dropped = 0  # the card drops for all of them
        frames = self.links.sharder.counts()["frames"]
        self.links.count()
        base = self.base
        self.page["kernel_received"] = base["kernel_received"] + received
        self.page["kernel_dropped"] = base["kernel_dropped"] + dropped
        self.page["kernel_if_dropped"] = base["kernel_if_dropped"] + if_dropped
        if self._mirror:
            # What the kernel took and we never saw is thrown away or still in the ring. The difference to the last
            # reading's count is surely thrown away: its frames have left the ring since.
            known = received - dropped if final else self.received_before
            looped = base["looped_frames"] + max(0, known - frames)
            self.page["looped_frames"] = looped if final else max(looped, self.page["looped_frames"])
        self.received_before = received - dropped
        self.stats_at = time.monotonic() + STATS_S

    def _read(self, handle: pcap.Handle) -> None:
        """A file: to its end, or to SIGTERM."""
        about = os.stat(self.input)
        regular = stat.S_ISREG(about.st_mode)
        if regular:
            self.page["input_bytes_total"] = about.st_size
        while not self.station.stopping:
            self.station.turn()
            self._follow_news(handle)
            if handle.shard(self.links.sharder, TURN_FRAMES) < 0:
                break
            self.links.pass_on()
            self.page["input_bytes_read"] = handle.tell()
        if self.station.stopping:
            self.links.drain()
        self.page["input_bytes_read"] = about.st_size if regular and self.links.deadline is None else handle.tell()

    def _idle(self) -> bool:
        """A stream has nothing, or has kept libpcap busy for a while: passes on what came. Whether to go on."""
        self.station.turn()
        self.links.sharder.seal(self.config.shard.batch_age_ms * 1_000_000)
        self.links.pass_on()
        return not self.station.stopping

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self, code: int) -> int:
        """Sends what is left, and says END on every link until every worker has heard it.

        A live source that failed says no END: the supervisor starts its capture again."""
        self.station.state(DRAINING)
        if self.links.deadline is None and self.live:
            self.links.drain()
        if self.shedder is not None:
            self.shedder.rest()
        self.links.sharder.settle()
        self.links.sharder.seal()
        self.links.pass_on()
        self.links.give_up()
        self.links.count()
        if self.handle is not None:
            self.handle.close()
        if self.live and not self.station.stopping:
            self.links.bus.close(linger_s=LINGER_S)
            return code
        if not self.links.say_end():
            tell(f"{self.config.interface_names[self.index]}: not every worker took the last batches")
            self.page["error"] = 1
            code = code or 1
        self.links.bus.close()
        self.station.state(DONE)
        return code


def main(argv: list[str]) -> int:
    """The process; see the module."""
    run_dir, index = Path(argv[1]), int(argv[2])
    page = Page.open(run_dir / f"capture-{index}.stats")
    config = configuration(run_dir, page)
    log.start(config, f"capture {index}", page, of=config.capture_count)
    last_turn_ns = page["progress_ns"]
    station = Station(page, watch_stdin=config.source.file != "-", live=not config.lossless)
    sandbox.enter("capture", config, run_dir, page, first=index == 0)
    try:
        return Capture(config, run_dir, index, page, station, last_turn_ns).run()
    except BusError as error:
        tell(str(error))
        page["error"] = 1
        return 2


if __name__ == "__main__":
    leave(main(sys.argv))
