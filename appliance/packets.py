"""The `appliance packets` command: frames of an interface or a file, shown in one of its views or written to a file."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from appliance.glance import line
from appliance.packet import Packet
from appliance.pcap import open_live, open_offline
from appliance.pcaperror import PcapError, TruncatedCapture
from appliance.savefile import PcapWriter
from appliance.show import safe

if TYPE_CHECKING:
    from appliance.handle import Handle

FLUSH_S = 1.0  # what was written is with its reader after so long without a frame

VIEWS: dict[str, Callable[[Packet], str]] = {
    "line": line,
    "layers": lambda packet: f"{packet}\n",
    "dump": lambda packet: f"{packet.dump()}\n",
    "json": lambda packet: json.dumps(packet.as_dict()),
}


class Wanted(NamedTuple):
    """What the command line asks for; either an interface or a file. A view of "" prints nothing."""

    interface: str = ""
    file: str = ""
    filter: str = ""
    limit: int | None = None
    output: str = ""
    view: str = "line"
    snaplen: int = 262144
    promiscuous: bool = True


class Unusable(Exception):
    """The source, the filter or the output cannot be used; nothing was done."""


class Gone(Exception):
    """Whoever read our standard output has seen enough."""


def packets(wanted: Wanted) -> int:
    """Shows or writes the frames of a source; the exit code. Raises Unusable before anything was shown."""
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(_open(wanted))
            writer = stack.enter_context(_writer(wanted, handle.link_type)) if wanted.output else None
        except PcapError as error:
            raise Unusable(str(error)) from error
        if handle.warning:
            tell(handle.warning)
        return _Run(wanted, handle, writer).run()


class _Run:
    """One pass over a source."""

    def __init__(self, wanted: Wanted, handle: Handle, writer: PcapWriter | None) -> None:
        self.handle = handle
        self.writer = writer
        self.limit = wanted.limit
        self.view = VIEWS.get(wanted.view)
        self.prompt = handle.live or wanted.file == "-"  # somebody may be watching
        self.frames = 0
        self.stopped = 0  # the signal that ended it

    def run(self) -> int:
        code = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)
        try:
            self._all()
            code = 128 + self.stopped if self.stopped else 0
        except TruncatedCapture as warning:
            tell(str(warning))
        except PcapError as error:
            tell(str(error))
            code = 1
        except Gone:
            _quiet()
        code = self._finish() or code
        if code in (130, 143) or self.handle.live:
            self._count()
        return code

    def _stop(self, number: int, _: object) -> None:
        """Ends the pass between two frames, so that what was written, shown and counted is the same; again: at once."""
        self.stopped = number
        self.handle.stop()
        signal.signal(number, signal.SIG_DFL)

    def _all(self) -> None:
        for packet in self.handle.packets(limit=self.limit, timeout=FLUSH_S):
            if packet is None:
                self._flush()
                continue
            if self.writer is not None:
                self._write(self.writer, packet)
            self.frames += 1
            if self.view is not None:
                self._show(self.view(packet))

    def _show(self, text: str) -> None:
        try:
            sys.stdout.write(f"{text}\n")
            if self.prompt:
                sys.stdout.flush()
        except BrokenPipeError:
            raise Gone from None

    def _write(self, writer: PcapWriter, packet: Packet) -> None:
        try:
            writer.write(packet)
        except PcapError as error:
            _raise_gone(error)

    def _flush(self) -> None:
        """Hands on what is held back. Raises Gone, PcapError."""
        try:
            sys.stdout.flush()
            if self.writer is not None:
                self.writer.flush()
        except BrokenPipeError:
            raise Gone from None
        except PcapError as error:
            _raise_gone(error)

    def _finish(self) -> int:
        """Writes what is left; the exit code if that fails."""
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _quiet()
        try:
            if self.writer is not None:
                self.writer.close()
        except PcapError as error:
            if not _is_broken_pipe(error):
                tell(str(error))
                return 1
        return 0

    def _count(self) -> None:
        count = f"{self.frames:,} frames"
        try:
            if self.handle.live:
                count += f", {self.handle.stats().dropped:,} dropped by the kernel"
        except PcapError:  # the interface is gone, and what it counted with it
            pass
        tell(count)


def _open(wanted: Wanted) -> Handle:
    if wanted.interface:
        handle = open_live(wanted.interface, snaplen=wanted.snaplen, promiscuous=wanted.promiscuous)
    else:
        handle = open_offline(wanted.file)
    try:
        if wanted.filter:
            handle.set_filter(wanted.filter)
    except PcapError:
        handle.close()
        raise
    return handle


def _writer(wanted: Wanted, link_type: int) -> PcapWriter:
    if wanted.file and wanted.output != "-" and os.path.exists(wanted.output):
        source = os.fstat(0) if wanted.file == "-" else os.stat(wanted.file)
        if os.path.samestat(source, os.stat(wanted.output)):
            raise Unusable(f"-w {wanted.output} is the file that is read: writing would empty it")
    if wanted.output == "-" and sys.stdout.isatty():
        raise Unusable("-w - writes a capture file: give it a pipe or a file, not a terminal")
    return PcapWriter(wanted.output, link_type)


def _is_broken_pipe(error: PcapError) -> bool:
    return str(error).endswith(os.strerror(errno.EPIPE))


def _raise_gone(error: PcapError) -> NoReturn:
    raise Gone if _is_broken_pipe(error) else error


def _quiet() -> None:
    """Nothing may be flushed at exit to a reader that is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def tell(text: str) -> None:
    """One line for a person."""
    print(f"appliance: {safe(text)}", file=sys.stderr, flush=True)
