"""Every path in a run directory.

    lock  config.json  key  version  stopped           of the supervisor, which owns the directory
    supervisor.stats  capture-0.stats  worker-0.stats  feed.stats  recorder.stats  keeper.stats  files.stats
    metrics.endpoint  feed.endpoint  replay.endpoint   the last two are links into the feed's folder
    capture-0/  frames-EPOCH                           shared memory of frames, written by the capture
    worker-0/   in  events-EPOCH  files-EPOCH  returned-frames-CAPTURE-EPOCH  worker-0-TIME.pcap
                kept-connections
    recorder/   in  returned-frames-CAPTURE-EPOCH
    keeper/     in  returned-copies-0-EPOCH
    files/      in  returned-files-WORKER-EPOCH
    feed/       in  returned-events-WORKER-EPOCH  copies-EPOCH  epochs  feed.endpoint  replay.endpoint
    quarantine/ worker-0-TIME.pcap

Each process writes in its own folder alone, and in its stats page. Nothing here touches a file but `endpoint_in`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from appliance.native.safe_files import read_strange

LOCK = "lock"
CONFIG = "config.json"
VERSION = "version"  # of the appliance that made the run
STOPPED = "stopped"  # when the run before took its last frame: it stays for the next run
KEY = "key"  # of the hash of flows, which all captures share
QUARANTINE = "quarantine"  # batches that workers died of: it stays when there is something in it
FEED = "feed"
RECORDER = "recorder"
KEEPER = "keeper"
FILES = "files"
ANNOUNCED = ("feed", "replay")  # endpoints that the feed writes in its folder
LONGEST_SOCKET = "worker-1000/in"
LONGEST_ENDPOINT = 1024  # bytes

# Names of files that an earlier run of this version or another may have left, and no others.
STALE = (
    r"(shard|frames|events)-\d+|(frames|events)-\d+-[0-9a-f]+|events|epochs|key\.\d+|(key|version|config\.json)(\.part)?"
    r"|((capture|worker)-\d+|feed|recorder|keeper|files|supervisor)\.stats(\.part)?"
    r"|(feed|replay|metrics)\.endpoint(\.part)?"
)
FOLDERS = r"(capture|worker)-\d+|feed|recorder|keeper|files"  # of processes
INSIDE = (  # and what is in them
    r"in|(frames|events|copies|files)-[0-9a-f]+|returned-(frames|events|copies|files)-\d+-[0-9a-f]+|epochs(\.part)?"
    r"|(feed|replay)\.endpoint(\.part)?|worker-\d+-[0-9a-f]+\.pcap(\.part)?|kept-connections"
)

_SENDERS = {"frames": "capture", "events": "worker", "copies": "feed", "files": "worker"}  # by kind of message


class Paths:
    """The paths in one run directory.

    kind, of a process: capture, worker, recorder, keeper, files, feed or supervisor.
    """

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root

    # -- the directory itself ----------------------------------------------------------------------------------------

    @property
    def config(self) -> Path:
        """Return the configuration that is in force."""
        return self.root / CONFIG

    @property
    def version(self) -> Path:
        """Return the file with the version of the appliance that made the run."""
        return self.root / VERSION

    @property
    def stopped(self) -> Path:
        """Return the moment at which the captures of the run before stopped."""
        return self.root / STOPPED

    @property
    def hash_key(self) -> Path:
        """Return the secret key of the hash of flows."""
        return self.root / KEY

    def own_hash_key(self, pid: int) -> Path:
        """Return the key that one process makes where no supervisor made one."""
        return self.root / f"{KEY}.{pid}"

    def quarantined(self, name: str) -> Path:
        """Return where the supervisor keeps a file of quarantined frames."""
        return self.root / QUARANTINE / name

    # -- stats pages -------------------------------------------------------------------------------------------------

    def page(self, kind: str, index: int = 0) -> Path:
        """Return the stats page of a process."""
        return self.root / f"{process_name(kind, index)}.stats"

    def capture_page(self, index: int) -> Path:
        """Return the stats page of a capture."""
        return self.page("capture", index)

    def worker_page(self, index: int) -> Path:
        """Return the stats page of a worker."""
        return self.page("worker", index)

    @property
    def feed_page(self) -> Path:
        """Return the stats page of the feed."""
        return self.page(FEED)

    @property
    def recorder_page(self) -> Path:
        """Return the stats page of the recorder."""
        return self.page(RECORDER)

    @property
    def keeper_page(self) -> Path:
        """Return the stats page of the keeper."""
        return self.page(KEEPER)

    @property
    def files_page(self) -> Path:
        """Return the stats page of the files process."""
        return self.page(FILES)

    @property
    def supervisor_page(self) -> Path:
        """Return the stats page of the supervisor."""
        return self.page("supervisor")

    def pages(self) -> Iterator[Path]:
        """Yield the stats pages that are there."""
        return self.root.glob("*.stats")

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def endpoint(self, name: str) -> Path:
        """Return where the address of "feed", "replay" or "metrics" is for readers from outside."""
        return self.root / f"{name}.endpoint"

    def own_endpoint(self, name: str) -> Path:
        """Return where the feed writes the address of "feed" or "replay"."""
        return self.folder(FEED) / f"{name}.endpoint"

    # -- folders of processes ----------------------------------------------------------------------------------------

    def folder(self, kind: str, index: int = 0) -> Path:
        """Return the folder in which a process makes its files."""
        return self.root / process_name(kind, index)

    @property
    def epochs(self) -> Path:
        """Return where the feed notes how its earlier lives ended."""
        return self.folder(FEED) / "epochs"

    def quarantine_file(self, worker: int, time_ns: int) -> Path:
        """Return where a worker writes the frames of a batch that it leaves out."""
        folder = self.folder("worker", worker)
        return folder / f"{folder.name}-{time_ns:x}.pcap"

    def kept_connections(self, worker: int) -> Path:
        """Return where a worker keeps connections for its successor."""
        return self.folder("worker", worker) / "kept-connections"

    def inbox(self, kind: str, index: int = 0) -> Path:
        """Return the socket of a receiver.

        A worker and the recorder get frames, the feed events, the keeper copies of events, "files" bodies.
        """
        return self.folder(kind, index) / "in"

    def arena(self, messages: str, sender: int, epoch: int) -> Path:
        """Return the shared memory of a sender in one of its lives. messages: frames, events, copies or files."""
        return self.folder(_SENDERS[messages], sender) / f"{messages}-{epoch:x}"

    def arenas(self, messages: str, sender: int) -> Iterator[Path]:
        """Yield the shared memory of a sender that is there, of any of its lives."""
        return self.folder(_SENDERS[messages], sender).glob(f"{messages}-*")


def process_name(kind: str, index: int = 0) -> str:
    """Return the name of a process: of its folder, of its page, and in messages."""
    return f"{kind}-{index}" if kind in ("capture", "worker") else kind


def folder_beside(page: Path) -> Path:
    """Return the folder of the process that has this stats page."""
    return page.with_suffix("")


def epoch_of(arena: Path) -> int:
    """Return the life of its sender that an arena is from. Raises ValueError."""
    return int(arena.name.rpartition("-")[2], 16)


def returns(inbox: Path, messages: str, sender: int, epoch: int) -> Path:
    """Return the file in which the receiver with this socket gives the slots of an arena back."""
    return inbox.with_name(f"returned-{messages}-{sender}-{epoch:x}")


def all_returns(inbox: Path, messages: str, sender: int) -> Iterator[Path]:
    """Yield the files in which this receiver gave slots back, of all lives of a sender."""
    return inbox.parent.glob(f"returned-{messages}-{sender}-*")


def announcement(name: str) -> tuple[str, str]:
    """Return the link to the address that the feed writes: where it leads, and its name in the run directory."""
    paths = Paths(Path())
    return str(paths.own_endpoint(name)), paths.endpoint(name).name


def is_quarantine_file(worker: str, name: str) -> bool:
    """Return whether a worker gives this name to a whole file of quarantined frames."""
    return re.fullmatch(rf"{re.escape(worker)}-[0-9a-f]{{1,16}}\.pcap", name) is not None


def part_of(path: Path) -> Path:
    """Return where a file is written before it gets its name."""
    return path.with_name(f"{path.name}.part")


def endpoint_in(run_dir: Path, name: str) -> str:
    """Return where the socket "feed", "replay" or "metrics" of a run is. Raises OSError when it is nowhere."""
    paths = Paths(run_dir)
    try:
        said = read_strange(paths.own_endpoint(name), LONGEST_ENDPOINT)
    except OSError:
        said = read_strange(paths.endpoint(name), LONGEST_ENDPOINT)
    return "".join(character for character in said.decode("ascii", "replace") if character.isprintable())
