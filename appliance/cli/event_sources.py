"""Events for a command, a line each: out of a file, or of a run over a capture file."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Thread
from typing import IO

from appliance.native.safe_files import Unusable

NO_RUN = 2  # exit code of a run that could not start; it has printed the reason


def lines_of_file(path: str, option: str) -> Iterator[bytes]:
    """Yield the lines of a file of events, as `-o` of a run writes it and its rotation compresses it.

    path: "-" is standard input. option: the one that names the file. Raises Unusable, also between two lines.
    """
    if path == "-":
        yield from sys.stdin.buffer
        return
    import zstandard

    try:
        with open(path, "rb") as file:
            if path.endswith(".gz"):
                yield from gzip.GzipFile(fileobj=file)
            elif path.endswith(".zst"):
                reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
                yield from io.BufferedReader(reader)
            else:
                yield from file
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise Unusable(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from error


class EventsOfCapture:
    """The events of a run over a capture file, a line each. options: of the run, by key; words: more of its arguments.

    code: the exit code of the run, once the last line was read. pieces: the bytes of the capture, instead of a file.
    """

    def __init__(
        self,
        capture: str,
        options: Mapping[str, object],
        words: Sequence[str] = (),
        pieces: Iterable[bytes] | None = None,
    ) -> None:
        self.code = 0
        self._capture = capture
        self._pieces = pieces
        self._argv = [sys.executable, "-P", "-m", "appliance", "run", "-q", "-r", capture, "-o", "-"]
        for key, value in options.items():
            self._argv += ["--set", f"{key}={json.dumps(value)}"]
        self._argv += words

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines; the run ends with the iteration. Raises Unusable if it did not start."""
        given = None if self._pieces is None else subprocess.PIPE
        with subprocess.Popen(self._argv, stdin=given, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            feeder = Thread(target=self._feed, args=(run.stdin,)) if run.stdin else None
            if feeder:
                feeder.start()
            try:
                yield from run.stdout
            finally:
                run.stdout.close()  # a run whose reader is gone ends by itself
                if feeder:
                    feeder.join()
        self.code = run.returncode
        if self.code == NO_RUN:
            raise Unusable(f"-r {self._capture}: no run over it; the reason stands above")

    def _feed(self, out: IO[bytes]) -> None:
        """Write the pieces of the capture into the run."""
        with suppress(BrokenPipeError):  # the run has ended
            for piece in self._pieces or ():
                out.write(piece)
        with suppress(BrokenPipeError):
            out.close()
