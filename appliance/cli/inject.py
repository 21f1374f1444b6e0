"""The `appliance inject` command: writes the frames of a capture file to an interface and reports what was sent."""

from __future__ import annotations

import signal
import time
from collections import Counter
from types import FrameType

from appliance.native.safe_files import Unusable
from appliance.packet.packet import Packet
from appliance.pcap.errors import FrameRefused, PcapError, QueueFull, TruncatedCapture
from appliance.pcap.handle import Handle
from appliance.pcap.opening import open_live, open_offline
from appliance.text.terminal import stderr_line

RING_BYTES = 1 << 20  # the command reads nothing from the interface
RETRY_INTERVAL_S = 0.0005  # between two attempts while the queue is full
QUEUE_TIMEOUT_S = 10.0  # maximum wait for a full queue: far longer than any interface needs to drain it


class InjectionStopped(BaseException):
    """SIGINT or SIGTERM arrived."""


class Injection:
    """One run: its arguments and its counts.

    rate: frames a second; speed: factor on the recorded spacing; neither: as fast as the interface accepts frames.
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
        self.cut = 0  # frames that the capture had cut short
        self.retries = 0
        self.refused: Counter[str] = Counter()  # by reason
        self.started = time.monotonic()
        self._signal = 0
        self._sending = False  # True: a signal waits until the current frame is counted

    def run(self) -> int:
        """Send the file. Return the exit code. Raises Unusable before the first frame."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        code = 0
        try:
            source = self._open()
            self.started = time.monotonic()
            for _ in range(self.loops):
                with source:
                    self._send_file(source)
                if self._enough:
                    break
                if self.loops > 1:
                    source = open_offline(self.path)
        except PcapError as error:
            stderr_line(str(error))
            code = 1
        except InjectionStopped:
            code = 128 + self._signal
        self._sending = True  # a second signal cannot suppress the report
        self._report()
        return code or int(bool(self.refused))

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
        if not self._sending:
            raise InjectionStopped

    def _open(self) -> Handle:
        """Open the file, and the interface to send on."""
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

    def _send_file(self, source: Handle) -> None:
        """Send the frames of the file once."""
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
            stderr_line(f"{warning}; every whole frame before it was sent")

    def _send(self, packet: Packet) -> None:
        """Send one frame, and wait for room in the queue. Raises PcapError if the interface fails."""
        give_up = None
        while not self._try_to_send(packet):
            now = time.monotonic()
            give_up = now + QUEUE_TIMEOUT_S if give_up is None else give_up
            if now >= give_up:
                raise PcapError(f"{self.interface}: the queue of the interface stays full")
            self.retries += 1
            time.sleep(RETRY_INTERVAL_S)

    def _try_to_send(self, packet: Packet) -> bool:
        """Return whether this frame is finished: sent, or refused permanently."""
        self._sending = True
        done = True
        try:
            self._sink.inject(packet.data)
            self.frames += 1
            self.bytes += len(packet.data)
            self.cut += packet.metadata.truncated
        except FrameRefused as error:
            if error.reason not in self.refused:
                stderr_line(f"{error}; continuing with the next frame")
            self.refused[error.reason] += 1
        except QueueFull:
            done = False
        finally:
            self._sending = False
        if self._signal:
            raise InjectionStopped
        return done

    def _report(self) -> None:
        """Report what was sent, refused and cut."""
        seconds = time.monotonic() - self.started
        sent = f"{self.frames:,} frames, {self.bytes:,} bytes sent to {self.interface} in {seconds:.3f} s"
        stderr_line(f"{sent}, {self.frames / seconds:,.0f} frames/s" if seconds else sent)
        for reason, count in self.refused.items():
            stderr_line(f"{count:,} frames refused by the kernel: {reason}")
        if self.retries:
            stderr_line(
                f"the queue of {self.interface} was full (ENOBUFS) {self.retries:,} times; each frame was retried"
            )
        if self.cut:
            stderr_line(f"{self.cut:,} frames were sent truncated, as they are in the file")


def _wait_until(moment: float) -> None:
    if (left := moment - time.monotonic()) > 0:
        time.sleep(left)
