"""The capture process: one source, its frames spread over the workers.

`python -m appliance.capture.process RUN_DIR INDEX` opens interface INDEX of the configuration (or its file) and sends
every TCP frame to the worker that its flow belongs to. A live capture never blocks: it leaves out whole new
connections while the machine is not enough (load_shedding), and what a worker does not take all the same is dropped
and counted. Reading a file never drops: it waits. Every count is in the stats page before the thing it counts can be
lost, so that a killed process leaves an account that its successor can close. Ends with 0 when all is sent, 1 when
the source failed on the way, 2 when it could not be opened as asked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from appliance.capture.capture import Capture
from appliance.config.schema import Config
from appliance.ipc.sockets import BusError
from appliance.runtime import log, sandbox
from appliance.runtime.child import ChildRuntime, configuration, exit_now
from appliance.runtime.paths import Paths
from appliance.runtime.run_directory import KEY_BYTES
from appliance.stats.page import Page


def shared_key(run_dir: Path) -> bytes:
    """Return the secret hash key that all captures of a run share.

    The supervisor makes it, or else the first capture does.
    """
    paths = Paths(run_dir)
    path = paths.hash_key
    if path.exists():
        return path.read_bytes()
    mine = paths.own_hash_key(os.getpid())
    mine.write_bytes(os.urandom(KEY_BYTES))
    try:
        os.link(mine, path)  # atomic: the file is never seen half written, and the first one stays
    except FileExistsError:
        pass
    mine.unlink()
    return path.read_bytes()


def prepare(config: Config) -> None:
    """Load the modules that a capture of this configuration needs: a sandboxed capture opens no files."""
    if config.lossless:
        import appliance.capture.file  # noqa: F401
    else:
        from appliance.capture import live

        live.prepare(config)


def _capture(
    config: Config, run_dir: Path, index: int, page: Page, runtime: ChildRuntime, key: bytes, last_turn_ns: int
) -> Capture:
    """Return the capture that the configuration asks for; the modules of the other kind stay unloaded."""
    if config.lossless:
        from appliance.capture.file import FileCapture

        return FileCapture(config, run_dir, index, page, runtime, key)
    from appliance.capture.live import LiveCapture

    return LiveCapture(config, run_dir, index, page, runtime, key, last_turn_ns)


def main(argv: list[str]) -> int:
    """Run the process; the module describes it."""
    run_dir, index = Path(argv[1]), int(argv[2])
    page = Page.open(Paths(run_dir).capture_page(index))
    config = configuration(run_dir, page)
    log.start(config, f"capture {index}", page, of=config.capture_count)
    last_turn_ns = page["progress_ns"]
    runtime = ChildRuntime(page, watch_stdin=config.source.file != "-", live=not config.lossless)
    key = shared_key(run_dir)
    prepare(config)
    sandbox.enter("capture", config, run_dir, page, first=index == 0)
    try:
        return _capture(config, run_dir, index, page, runtime, key, last_turn_ns).run()
    except BusError as error:
        log.warning(str(error))
        page["error"] = 1
        return 2


if __name__ == "__main__":
    exit_now(main(sys.argv))
