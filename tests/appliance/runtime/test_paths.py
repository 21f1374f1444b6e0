"""The paths in a run directory: one name each, and a start knows how to remove every one of them."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.runtime import paths as names
from appliance.runtime.paths import Paths, announcement, folder_beside, is_quarantine_file, part_of, returns

ROOT = Path(__file__).resolve().parents[3]
HERE = Paths(Path("run"))
INBOXES = (HERE.inbox("worker", 2), HERE.inbox("feed"))
AT_THE_TOP = (
    *(HERE.config, HERE.hash_key, HERE.own_hash_key(4711), HERE.feed_page, HERE.supervisor_page),
    *(HERE.capture_page(0), HERE.worker_page(12), *(HERE.endpoint(name) for name in ("feed", "replay", "metrics"))),
)
IN_FOLDERS = (
    *(HERE.epochs, HERE.quarantine_file(3, 1 << 60), HERE.own_endpoint("feed"), HERE.own_endpoint("replay"), *INBOXES),
    *(HERE.arena("frames", 1, 255), HERE.arena("events", 2, 1 << 60)),
    *(returns(INBOXES[0], "frames", 1, 255), returns(INBOXES[1], "events", 2, 1 << 60)),
)


def test_a_start_removes_every_file_that_a_run_makes_at_the_top():
    for path in AT_THE_TOP:
        assert path.parent == HERE.root
        assert re.fullmatch(names.STALE, path.name), path


def test_a_start_removes_every_file_that_a_process_makes_in_its_folder():
    for path in IN_FOLDERS:
        assert path.parent.parent == HERE.root
        assert re.fullmatch(names.FOLDERS, path.parent.name), path
        assert re.fullmatch(names.INSIDE, path.name), path


def test_a_file_that_is_being_written_is_removed_too():
    for path in (HERE.config, HERE.feed_page, HERE.endpoint("metrics")):
        assert re.fullmatch(names.STALE, part_of(path).name), path
    for path in (HERE.epochs, HERE.own_endpoint("feed"), HERE.quarantine_file(0, 1)):
        assert re.fullmatch(names.INSIDE, part_of(path).name), path


def test_a_process_has_a_folder_with_the_name_of_its_page():
    assert folder_beside(HERE.worker_page(2)) == HERE.folder("worker", 2)
    assert folder_beside(HERE.feed_page) == HERE.folder("feed")


def test_an_arena_tells_its_epoch():
    assert names.epoch_of(HERE.arena("frames", 3, 0xBEEF)) == 0xBEEF


def test_the_address_of_the_feed_is_a_link_into_its_folder():
    target, link = announcement("feed")
    assert HERE.root / target == HERE.own_endpoint("feed")
    assert HERE.root / link == HERE.endpoint("feed")


def test_the_longest_socket_is_one_of_a_run():
    assert HERE.inbox("worker", 1000) == HERE.root / names.LONGEST_SOCKET


def test_only_whole_files_of_that_worker_are_taken_from_its_folder():
    name = HERE.quarantine_file(1, 255).name
    assert is_quarantine_file("worker-1", name)
    assert not is_quarantine_file("worker-2", name)
    assert not is_quarantine_file("worker-1", f"{name}.part")


def test_no_other_file_names_what_lies_in_a_run_directory():
    """A name is written where the path is made, or it is found in one place only by luck."""
    pattern = re.compile(
        r"\"[^\"]*(\.stats|\.endpoint|quarantine|/in|config\.json|returned-)\"|/ \"(key|epochs|in|lock)\""
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for top in ("appliance", "workers")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.name != "paths.py"
        for line in path.read_text().splitlines()
        if pattern.search(line)
    ]
    assert found == []
