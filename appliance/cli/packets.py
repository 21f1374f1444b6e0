"""The `appliance packets` command: shows frames of an interface or a file in one of its views, or writes them to a
file.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from appliance.config.defaults import LONGEST_FRAME
from appliance.native.file_identity import clashes
from appliance.native.safe_files import Unusable
from appliance.packet.one_line import line
from appliance.packet.packet import Packet
from appliance.pcap.errors import PcapError, TruncatedCapture
from appliance.pcap.opening import open_live, open_offline
from appliance.pcap.writer import PcapWriter
from appliance.runtime.standard_streams import flush, quiet
from appliance.text.terminal import safe, stderr_line

if TYPE_CHECKING:
    from appliance.pcap.handle import Handle

FLUSH_S = 1.0  # flush the output after this long without a frame

VIEWS: dict[str, Callable[[Packet], str]] = {
    "line": line,
    "layers": lambda packet: f"{packet}\n",
    "dump": lambda packet: f"{packet.dump()}\n",
    "json": lambda packet: json.dumps(packet.as_dict()),
}


class PacketsArgs(NamedTuple):
    """The arguments of the command: an interface or a file. A view of "" prints nothing."""

    interface: str = ""
    file: str = ""
    filter: str = ""
    limit: int | None = None
    output: str = ""
    view: str = "line"
    snaplen: int = LONGEST_FRAME
    promiscuous: bool = True


class ReaderGone(Exception):
    """The reader of standard output closed it."""


def packets(args: PacketsArgs) -> int:
    """Show or write the frames of a source. Return the exit code. Raises Unusable before any output."""
    _refuse_overwrite(args)
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(_open(args))
            writer = stack.enter_context(_writer(args, handle.link_type)) if args.output else None
        except PcapError as error:
            raise Unusable(str(error)) from error
        if handle.warning:
            stderr_line(safe(handle.warning))
        return _Run(args, handle, writer).run()


class _Run:
    """One pass over a source."""

    def __init__(self, args: PacketsArgs, handle: Handle, writer: PcapWriter | None) -> None:
        self.handle = handle
        self.writer = writer
        self.limit = args.limit
        self.view = VIEWS.get(args.view)
        self.prompt = handle.live or args.file == "-"  # a person may be watching
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
            stderr_line(safe(str(warning)))
        except PcapError as error:
            stderr_line(safe(str(error)))
            code = 1
        except ReaderGone:
            quiet()
        code = self._finish() or code
        if code in (130, 143) or self.handle.live:
            self._count()
        return code

    def _stop(self, number: int, _: object) -> None:
        """Stop between two frames, so that written, shown and counted frames agree. A second signal kills us."""
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
            raise ReaderGone from None
        except OSError as error:
            raise _output_fault(error) from error

    def _write(self, writer: PcapWriter, packet: Packet) -> None:
        try:
            writer.write(packet)
        except PcapError as error:
            _raise_gone(error)

    def _flush(self) -> None:
        """Flush the buffered output. Raises Gone, PcapError."""
        try:
            sys.stdout.flush()
            if self.writer is not None:
                self.writer.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        except PcapError as error:
            _raise_gone(error)
        except OSError as error:
            raise _output_fault(error) from error

    def _finish(self) -> int:
        """Write the rest. Return the exit code if that fails."""
        code = 0
        if (fault := flush()) is not None and not isinstance(fault, BrokenPipeError):
            stderr_line(safe(str(_output_fault(fault))))
            code = 1
        try:
            if self.writer is not None:
                self.writer.close()
        except PcapError as error:
            if not _is_broken_pipe(error):
                stderr_line(safe(str(error)))
                code = 1
        return code

    def _count(self) -> None:
        count = f"{self.frames:,} frames"
        try:
            if self.handle.live:
                count += f", {self.handle.stats().dropped:,} dropped by the kernel"
        except PcapError:  # the interface disappeared with its counters
            pass
        stderr_line(safe(count))


def _open(args: PacketsArgs) -> Handle:
    if args.interface:
        handle = open_live(args.interface, snaplen=args.snaplen, promiscuous=args.promiscuous)
    else:
        handle = open_offline(args.file)
    try:
        if args.filter:
            handle.set_filter(args.filter)
    except PcapError:
        handle.close()
        raise
    return handle


def _writer(args: PacketsArgs, link_type: int) -> PcapWriter:
    if args.output == "-" and sys.stdout.isatty():
        raise Unusable("-w - writes a capture file: give it a pipe or a file, not a terminal")
    return PcapWriter(args.output, link_type)


def _refuse_overwrite(args: PacketsArgs) -> None:
    """Refuse to write to the file that is being read. Raises Unusable."""
    outputs = [(f"-w {args.output}", args.output), *([("standard output", "-")] if args.view else [])]
    for name, _ in clashes([("-r", args.file)], outputs):
        raise Unusable(f"{name} is the input file: writing would destroy it")


def _is_broken_pipe(error: PcapError) -> bool:
    return str(error).endswith(os.strerror(errno.EPIPE))


def _raise_gone(error: PcapError) -> NoReturn:
    raise ReaderGone if _is_broken_pipe(error) else error


def _output_fault(error: OSError) -> PcapError:
    quiet()
    return PcapError(f"standard output: {error.strerror}")
