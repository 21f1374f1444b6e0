"""A run of root for another user: whoever has that user's rights gets no more by what it puts in the way."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Result, appliance
from traffic import write_sample

pytestmark = pytest.mark.root

CONTENT = b"root's own\n"


class Ground:
    """A folder of the user, and a file that is root's alone."""

    def __init__(self, base: Path) -> None:
        self.user = pwd.getpwnam("nobody")
        self.precious = base / "precious"
        self.precious.write_bytes(CONTENT)
        self.empty = base / "empty"
        self.empty.touch()
        for path in (self.precious, self.empty):
            path.chmod(0o600)
        self.home = base / "home"
        self.home.mkdir(mode=0o700)
        self.sample = base / "sample.pcap"
        write_sample(self.sample)
        self.give(self.home)

    def give(self, *paths: Path) -> None:
        for path in paths:
            os.chown(path, self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)

    def run(self, *words: str | Path) -> Result:
        quiet = ("--feed", "off", "--metrics", "off", "--set", "run.user=nobody", "--workers", "1")
        return appliance("run", "-r", self.sample, *quiet, *words)

    def unharmed(self) -> bool:
        """Return whether root's files are unchanged."""
        mine = all(
            (os.stat(p).st_uid, stat.S_IMODE(os.stat(p).st_mode)) == (0, 0o600) for p in (self.precious, self.empty)
        )
        return mine and self.precious.read_bytes() == CONTENT and self.empty.read_bytes() == b""


@pytest.fixture
def ground() -> Iterator[Ground]:
    """Yield a ground that every user may read, as /tmp is."""
    with tempfile.TemporaryDirectory(prefix="ground-") as base:
        Path(base).chmod(0o755)
        yield Ground(Path(base))


@pytest.mark.parametrize("option", ["-o", "--ledger"])
@pytest.mark.parametrize("target", ["precious", "empty", "new"])
def test_a_link_at_a_result_leads_nowhere_that_the_user_may_not_write(ground: Ground, option: str, target: str) -> None:
    aim = ground.precious.with_name(target)
    (ground.home / "result").symlink_to(aim)
    ground.give(ground.home / "result")
    done = ground.run(option, ground.home / "result")
    assert ground.unharmed()
    assert done.code == 2
    assert "Permission denied" in done.err or "may not write" in done.err, done.err
    assert target != "new" or not aim.exists()


@pytest.mark.parametrize("option", ["-o", "--ledger"])
def test_a_linked_folder_leads_nowhere_either(ground: Ground, option: str) -> None:
    (ground.home / "folder").symlink_to(ground.precious.parent)
    ground.give(ground.home / "folder")
    done = ground.run(option, ground.home / "folder" / "empty")
    assert ground.unharmed()
    assert done.code == 2


@pytest.mark.parametrize("option", ["-o", "--ledger"])
def test_a_hard_link_is_nobodys_to_give_away(ground: Ground, option: str) -> None:
    os.link(ground.empty, ground.home / "result")
    done = ground.run(option, ground.home / "result")
    assert ground.unharmed()
    assert done.code == 2


@pytest.mark.parametrize(
    "name", ["lock", "config.json", "config.json.part", "key", "feed.stats", "supervisor.stats.part"]
)
@pytest.mark.parametrize("hard", [False, True], ids=["symbolic", "hard"])
def test_links_in_the_run_directory_are_not_followed(ground: Ground, name: str, hard: bool) -> None:
    run_dir = ground.home / "run"
    run_dir.mkdir(mode=0o700)
    if hard:
        os.link(ground.precious, run_dir / name)
    else:
        (run_dir / name).symlink_to(ground.precious)
        ground.give(run_dir / name)
    ground.give(run_dir)
    done = ground.run("-o", ground.home / "events.jsonl", "--run-dir", run_dir)
    assert ground.unharmed()
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["worker-0", "feed", "capture-0", "quarantine"])
def test_a_linked_folder_in_the_run_directory_is_not_entered(ground: Ground, name: str) -> None:
    run_dir = ground.home / "run"
    run_dir.mkdir(mode=0o700)
    (run_dir / name).symlink_to(ground.precious.parent)
    ground.give(run_dir, run_dir / name)
    done = ground.run("-o", ground.home / "events.jsonl", "--run-dir", run_dir)
    assert ground.unharmed()
    assert sorted(path.name for path in ground.precious.parent.iterdir()) == [
        "empty",
        "home",
        "precious",
        "sample.pcap",
    ]
    assert done.code == 0, done.err


@pytest.mark.parametrize("option", ["record.path", "files.path"])
def test_a_linked_folder_leads_to_no_new_folder_of_the_user(ground: Ground, option: str) -> None:
    roots = ground.precious.with_name("roots")
    roots.mkdir(mode=0o755)
    (ground.home / "folder").symlink_to(roots)
    ground.give(ground.home / "folder")
    done = ground.run("-o", ground.home / "events.jsonl", "--set", f"{option}={ground.home / 'folder' / 'new'}")
    assert done.code == 2
    assert f"{option} {ground.home / 'folder' / 'new'}: " in done.err
    assert list(roots.iterdir()) == []


@pytest.mark.parametrize("option", ["record.path", "files.path"])
@pytest.mark.parametrize("place", ["log/deep/new", "home/new"])
def test_a_new_folder_is_the_users(ground: Ground, option: str, place: str) -> None:
    path = ground.precious.parent / place
    for _ in range(2):
        done = ground.run("-o", ground.home / "events.jsonl", "--set", f"{option}={path}")
        assert done.code == 0, done.err
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (ground.user.pw_uid, 0o750)
    assert place.startswith("home") or path.parent.stat().st_uid == 0


def test_results_are_the_users_and_not_everybodys(ground: Ground) -> None:
    done = ground.run("-o", ground.home / "events.jsonl", "--ledger", ground.home / "ledger.json")
    assert done.code == 0, done.err
    for name in ("events.jsonl", "ledger.json"):
        about = (ground.home / name).stat()
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (ground.user.pw_uid, 0o640)


def test_in_a_folder_of_root_root_makes_the_file_and_gives_it_away(ground: Ground) -> None:
    folder = ground.precious.parent / "log"
    folder.mkdir(mode=0o755)
    words = ("-o", folder / "events.jsonl", "--ledger", folder / "ledger.json")
    for _ in range(2):
        done = ground.run(*words)
        assert done.code == 0, done.err
    for name in ("events.jsonl", "ledger.json"):
        assert (folder / name).stat().st_uid == ground.user.pw_uid
        assert (folder / name).stat().st_size > 0
