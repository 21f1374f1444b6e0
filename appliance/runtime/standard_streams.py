"""The standard streams of all commands: closed descriptors, failed writes, signals at the end.

The exit code is 1 if standard output did not take everything written to it; no such fault is a traceback.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from appliance.text.terminal import stderr_line

SURROGATES = {chr(0xDC00 + byte) for byte in range(128, 256)}  # such bytes, as Python has them
# A closed descriptor would become that of the next opened file. Reads from its stand-in, and writes to standard output,
# fail as if it were closed. Standard error has no reader then, which is no fault.
_NAMES = {"/dev/stdin": 0, "/dev/stdout": 1}
_DESCRIPTOR = r"/dev/stdin|/dev/stdout|/(?:dev|proc/self)/fd/([0-9]{1,6})"
STAND_INS = ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))


class Commands(click.Group):
    """The group of all commands: it ends each of them the same way."""

    def main(self, *words: Any, **how: Any) -> Any:
        """Run a command to its end: of given words, then SystemExit is raised; or of this process, which then exits."""
        stand_in()
        code: int | None = 0
        fault: OSError | None = None
        try:
            super().main(*words, **how)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except OSError as error:
            fault = error
        finally:
            settle()
        fault = flush() or fault
        if fault is not None:
            code = code or 1
            if fault.errno != errno.EPIPE:
                place = fault.filename or "standard output"
                stderr_line(f"{place}: {fault.strerror or fault}")
        if not words and "args" not in how:  # it was the command line of this process, which is over
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code or 0)  # finalising the interpreter would take a fifth of a short command
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; one that does not handle Ctrl-C exits with 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)
        except UnicodeEncodeError as fault:  # a word of the command line that is more than a path
            if not any(c in SURROGATES for c in fault.object):
                raise
            stderr_line(f"'{fault.object}' holds bytes that are not UTF-8")
            sys.exit(2)


def stand_in() -> None:
    """Open stand-ins for closed descriptors, and make text output tolerant.

    Standard output escapes characters that it cannot encode; standard error ignores any fault.
    """
    for number, flags in STAND_INS:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    with suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if sys.stderr is None or (sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper)):
        sys.stderr = _Deaf(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True)


def standard(path: str, number: int) -> str:
    """Return "-" for a path that names a descriptor of this process, which becomes that number; else the path.

    The processes of a run have descriptors of their own, in which /dev/stdout or a shell's <(…) names another file.
    """
    found = re.fullmatch(_DESCRIPTOR, path)
    if not found:
        return path
    named = _NAMES.get(path, -1) if found[1] is None else int(found[1])
    if named != number:
        try:
            os.dup2(named, number)
        except OSError:
            return path
    return "-"


class _Deaf(io.TextIOWrapper):
    """Standard error: a full disk or a reader that left is no reason to end."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def settle() -> None:
    """Restore the default action of signals, because the work is done: a signal then ends the process silently."""
    with suppress(ValueError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


def flush() -> OSError | None:
    """Flush standard output and return its fault, if any. Python does not retry at exit then."""
    try:
        sys.stdout.flush()
    except OSError as fault:
        quiet()
        return fault
    except ValueError:  # closed
        pass
    return None


def quiet() -> None:
    """Redirect a failed standard output to /dev/null, so that Python writes nothing to it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
