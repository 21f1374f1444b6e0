"""The `appliance inject` command: writes the frames of a capture file to an interface, and says what was sent."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from types import FrameType

from appliance.handle import Handle
from appliance.packet import Packet
from appliance.pcap import open_live, open_offline
from appliance.pcaperror import FrameRefused, PcapError, QueueFull, TruncatedCapture

RING_BYTES = 1 << 20  # nothing is read from the interface
RETRY_S = 0.0005  # between two attempts at a queue that is full
PATIENCE_S = 10.0  # with such a queue: far longer than any interface needs to send what it holds


class Unusable(Exception):
    """The arguments cannot be used as they are; the text says why."""


class Stopped(BaseException):
    """SIGINT or SIGTERM came."""


class Injection:
    """One run: what was asked for, and what became of it.

    rate: frames a second; speed: the recorded spacing divided by so much; neither: as fast as the interface takes them.
    """

    def __init__(
        self, interface: str, path: str, *, rate: float | None, speed: float | None, limit: int | None, loops: int
    ) -> None:
        self.interface = interface
        self.path = path
        self.rate = rate
        self.speed = speed
        self.limit = limit
        self.loops = loops
        self.frames = 0
        self.bytes = 0
        self.cut = 0  # frames that were longer when they were captured
        self.retries = 0
        self.refused: Counter[str] = Counter()  # by reason
        self.started = time.monotonic()
        self._signal = 0
        self._sending = False  # a signal now waits until the frame is counted

    def run(self) -> int:
        """Sends; the exit code. Raises Unusable before the first frame."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        code = 0
        try:
            source = self._open()
            self.started = time.monotonic()
            for _ in range(self.loops):
                with source:
                    self._pass(source)
                if self._enough:
                    break
                if self.loops > 1:
                    source = open_offline(self.path)
        except PcapError as error:
            tell(str(error))
            code = 1
        except Stopped:
            code = 128 + self._signal
        self._sending = True  # a second signal cannot take the report away
        self._report()
        return code or int(bool(self.refused))

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
        if not self._sending:
            raise Stopped

    def _open(self) -> Handle:
        """The file, with the interface ready for it."""
        if self.path == "-" and self.loops > 1:
            raise Unusable("standard input can be read only once; --loop needs a file")
        try:
            source = open_offline(self.path)
            self._sink = open_live(self.interface, promiscuous=False, ring_bytes=RING_BYTES)
            self._sink.stop_accepting()
        except PcapError as error:
            raise Unusable(str(error)) from error
        if source.link_type != self._sink.link_type:
            raise Unusable(
                f"{self.path} has frames of link type {source.link_type_name}, but {self.interface} takes "
                f"{self._sink.link_type_name}"
            )
        return source

    @property
    def _enough(self) -> bool:
        return self.limit is not None and self._number >= self.limit

    @property
    def _number(self) -> int:
        return self.frames + self.refused.total()

    def _pass(self, source: Handle) -> None:
        """The file once."""
        began, first_ns = time.monotonic(), None
        try:
            for packet in source.packets():
                if self._enough:
                    return
                ts_ns = packet.metadata.ts_ns
                first_ns = ts_ns if first_ns is None else first_ns
                if self.rate is not None:
                    _wait_until(self.started + self._number / self.rate)
                elif self.speed is not None:
                    _wait_until(began + (ts_ns - first_ns) / 1e9 / self.speed)
                self._send(packet)
        except TruncatedCapture as warning:
            tell(f"{warning}; every whole frame before that was sent")

    def _send(self, packet: Packet) -> None:
        """One frame, however often its turn has to be waited for. Raises PcapError when the interface fails."""
        give_up = None
        while not self._try(packet):
            now = time.monotonic()
            give_up = now + PATIENCE_S if give_up is None else give_up
            if now >= give_up:
                raise PcapError(f"{self.interface}: the queue of the interface stays full")
            self.retries += 1
            time.sleep(RETRY_S)

    def _try(self, packet: Packet) -> bool:
        """Whether this frame is done with: sent, or refused for good."""
        self._sending = True
        done = True
        try:
            self._sink.inject(packet.data)
            self.frames += 1
            self.bytes += len(packet.data)
            self.cut += packet.metadata.truncated
        except FrameRefused as error:
            if error.reason not in self.refused:
                tell(f"{error}; going on with the next")
            self.refused[error.reason] += 1
        except QueueFull:
            done = False
        finally:
            self._sending = False
        if self._signal:
            raise Stopped
        return done

    def _report(self) -> None:
        """What was really sent."""
        seconds = time.monotonic() - self.started
        sent = f"{self.frames:,} frames, {self.bytes:,} bytes sent to {self.interface} in {seconds:.3f} s"
        tell(f"{sent}, {self.frames / seconds:,.0f} frames/s" if seconds else sent)
        for reason, count in self.refused.items():
            tell(f"{count:,} frames refused by the kernel: {reason}")
        if self.retries:
            tell(f"the queue of {self.interface} was full (ENOBUFS) {self.retries:,} times; each frame was tried again")
        if self.cut:
            tell(f"{self.cut:,} frames were sent without their ends, which the file does not have")


def _wait_until(moment: float) -> None:
    if (left := moment - time.monotonic()) > 0:
        time.sleep(left)


def tell(text: str) -> None:
    """One line for a person."""
    print(f"appliance: {text}", file=sys.stderr, flush=True)
