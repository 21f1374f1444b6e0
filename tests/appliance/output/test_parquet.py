"""The output as Parquet: every field in its column, and only whole files, whatever is killed or full."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventually import PATIENCE_S, eventually
from feed_process import ROOT, FeedProcess, feed_config
from hypothesis import given
from hypothesis import strategies as st
from traffic import write_sample

from appliance.config.errors import ConfigError
from appliance.config.load import resolve
from appliance.config.schema import Config, Output
from appliance.output.parquet_columns import COLUMNS, FRAMINGS, JSON, NANOSECONDS, PARTS, TIME
from appliance.stats.layout import capture_layout, feed_layout
from appliance.stats.page import Page
from appliance.wire.tcp_locator import VERDICTS
from workers.events import schema as events

pytest.importorskip("pyarrow", reason="needs pyarrow")

import pyarrow.parquet as pq

from appliance.output import parquet, parquet_file
from appliance.output.parquet import ParquetOutput
from appliance.output.parquet_table import Columns

pytestmark = pytest.mark.slow
CONSTANT = {"ecs.version", "event.kind", "event.category", "event.type"}
COLUMN_MAKER = Columns()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o700)
    return made


def config(folder: Path, *, file: bool = False, **output: object) -> Config:
    options = msgspec.convert({"path": str(folder / "events.parquet"), **output}, Output)
    return msgspec.structs.replace(feed_config(file=file), output=options)


def event(number: int, **http: Any) -> bytes:
    """As short as can be; event.id is its number."""
    second = datetime.fromtimestamp(1795341600 + number, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return json.dumps({"@timestamp": f"{second}.123456789Z", "event": {"id": str(number)}, "http": http}).encode()


def whole(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def ids(paths: list[Path]) -> list[str]:
    return [id for path in paths for id in pq.read_table(path).column("event_id").to_pylist()]


# -- columns -----------------------------------------------------------------------------------------------------------


def leaves(node: Any, name: str = "") -> set[str]:
    """The dotted names of the fields of an event, from its schema."""
    schema = events.schema()["$defs"]
    if "oneOf" in node:
        return set().union(*(leaves(each) for each in node["oneOf"]))
    while "$ref" in node or "anyOf" in node:
        node = node["anyOf"][0] if "anyOf" in node else schema[node["$ref"].rsplit("/", 1)[1]]
    if "properties" not in node:
        return {name}
    return set().union(*(leaves(sub, f"{name}.{key}".lstrip(".")) for key, sub in node["properties"].items()))


def test_every_field_of_an_event_has_a_column_unless_it_never_varies():
    assert {column.path for column in COLUMNS} == leaves(events.schema()) - CONSTANT


def test_every_column_is_explained_in_the_documentation_in_their_order():
    table = (ROOT / "ops" / "docs" / "operators" / "parquet.md").read_text().split("## Columns")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [column.name for column in COLUMNS]


def value(event: dict[str, Any], column: Any) -> Any:
    """Return the value that a column has to hold of a decoded event."""
    found: Any = event
    for name in column.path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None or column.kind not in (TIME, NANOSECONDS, FRAMINGS, PARTS):
        return found
    if column.kind == FRAMINGS:
        return [{"framing": None, "body_bytes": None, **framing} for framing in found]
    if column.kind == PARTS:
        return [{**dict.fromkeys(("name", "reason", "hash", "size", "mime_type")), **part} for part in found]
    moment = datetime.fromisoformat(f"{found[:26]}+00:00")
    return moment if column.kind == TIME else int(moment.timestamp()) * 10**9 + int(found[20:29])


def read(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for column in COLUMNS:
            if column.kind == JSON and row[column.name] is not None:
                row[column.name] = json.loads(row[column.name])
    return rows


def expected(lines: list[bytes]) -> list[dict[str, Any]]:
    decoded = [json.loads(line) for line in lines]
    return [{column.name: value(event, column) for column in COLUMNS} for event in decoded]


def test_the_sample_capture_gives_the_same_events_in_either_format(tmp_path):
    write_sample(tmp_path / "sample.pcap")
    found = []
    for name in ("events.jsonl", "events.parquet"):
        command = [
            sys.executable,
            "-m",
            "appliance",
            "run",
            "-q",
            "-r",
            str(tmp_path / "sample.pcap"),
            "--workers",
            "1",
        ]
        options = ["-o", str(tmp_path / name), "--feed", "off", "--metrics", "off", "--set", 'http.headers=["all"]']
        subprocess.run(
            [*command, *options], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=PATIENCE_S
        )
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    found = read(pq.read_table(tmp_path / "events.parquet"))
    assert len(lines) > 100
    assert sorted(found, key=lambda row: row["event_id"]) == sorted(expected(lines), key=lambda row: row["event_id"])
    assert not (tmp_path / "events.parquet.part").exists()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**63 - 1)
framings = st.lists(st.fixed_dictionaries({"framing": texts}, optional={"body_bytes": counts}), max_size=3)
halves = st.fixed_dictionaries(
    {}, optional={"headers": st.dictionaries(texts, st.lists(texts, max_size=2), max_size=2)}
)
lines = st.fixed_dictionaries(
    {
        "@timestamp": st.datetimes(datetime(1970, 1, 1), datetime(2261, 1, 1)).map(
            lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}789Z"
        ),
        "http": st.fixed_dictionaries({}, optional={"request": halves, "response": halves}),
    },
    optional={
        "ecs": st.just({"version": "8.11.0"}),
        "url": st.fixed_dictionaries({}, optional={"original": texts, "port": counts}),
        "appliance": st.fixed_dictionaries(
            {},
            optional={
                "anomalies": st.lists(texts),
                "informational": st.lists(counts),
                "midstream": st.booleans(),
                "request": st.fixed_dictionaries({}, optional={"other_framings": framings}),
            },
        ),
    },
).map(lambda event: json.dumps(event, ensure_ascii=False).encode())


@given(st.lists(lines, min_size=1, max_size=5))
def test_each_column_holds_its_field_whatever_the_events(lines):
    table, bad = COLUMN_MAKER.table(b"\n".join(lines))
    assert read(table) == expected(lines)
    assert bad == 0


def test_a_line_that_is_no_event_costs_only_itself():
    good = [event(1), event(2, request={"headers": {"a": ["b"]}})]
    bad = [b'{"@timestamp": 1, "headers":', b'{"@timestamp":"yesterday"}', b'{"http":{"request":{"headers":[}}}', b"x"]
    table, count = COLUMN_MAKER.table(b"\n".join([good[0], *bad, good[1]]))
    assert table.column("event_id").to_pylist() == ["1", "2"]
    assert count == len(bad)


# -- files -------------------------------------------------------------------------------------------------------------


def output(folder: Path, **options: object) -> ParquetOutput:
    page = Page.create(folder.parent / "feed.stats", feed_layout(1))
    made = ParquetOutput(config(folder, **options).output, page, 1 << 20, lossless=False)
    made.begin()
    return made


def test_row_groups_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(parquet_file, "ROWS", 100)
    monkeypatch.setattr(parquet_file, "PIECE", 1000)
    it = output(folder)
    for number in range(1000):
        it.write(event(number), 1)
    it.close()
    file = pq.ParquetFile(whole(folder)[0])
    assert ids(whole(folder)) == [str(number) for number in range(1000)]
    assert file.num_row_groups >= 10
    assert all(file.metadata.row_group(group).num_rows <= 100 for group in range(file.num_row_groups))


def test_a_run_without_events_leaves_a_file_without_rows(folder):
    output(folder).close()
    assert pq.read_table(folder / "events.parquet").num_rows == 0


def test_files_are_closed_by_age_and_the_oldest_removed(run_dir, folder):
    with FeedProcess(run_dir, config(folder, rotate_s=0.2, keep_files=3)) as feed:
        for number in range(20):
            feed.workers[0].send(1, event(number))
            eventually(lambda number=number: feed.page["written_events"] > number, "the file is closed")
        eventually(lambda: len(whole(folder)) <= 3, "the oldest are removed")
        assert feed.page["rotations"] == 20
        assert feed.page["open_events"] == 0
    assert ids(whole(folder)) == ["17", "18", "19"]


def test_files_are_closed_by_size(folder, monkeypatch):
    monkeypatch.setattr(parquet_file, "ROWS", 10)
    monkeypatch.setattr(parquet_file, "PIECE", 1)
    it = output(folder, rotate_bytes=10_000)
    for number in range(300):
        it.write(event(number, request={"method": os.urandom(50).hex()}), 1)
    it.close()
    assert len(whole(folder)) > 3
    assert ids(whole(folder)) == [str(number) for number in range(300)]


def test_after_a_kill_only_whole_files_are_there_and_what_was_in_the_other_is_counted(run_dir, folder):
    with FeedProcess(run_dir, config(folder, rotate_s=1.0)) as feed:
        sent = 0
        for _ in range(4):
            written = feed.page["written_events"]
            for _ in range(5):
                feed.workers[0].send(1, event(sent))
                sent += 1
            eventually(lambda written=written: feed.page["written_events"] > written, "a file is closed")
            feed.workers[0].send(1, event(sent))
            sent += 1
            eventually(lambda sent=sent: feed.published() == sent, "the rest was taken in")
            feed.kill()
            assert all(pq.read_table(path).num_rows for path in whole(folder))
            feed.start()
        for worker in feed.workers:
            worker.end()
        assert feed.wait() == 0
        page = feed.page
        assert page["open_events"] == 0
        assert page["written_events"] + page["dropped_output"] == sent
        assert len(ids(whole(folder))) == len(set(ids(whole(folder)))) == page["written_events"]
    assert not list(folder.glob("*.part"))


def test_on_a_disk_that_is_full_a_file_is_lost_and_counted_and_the_next_one_is_whole(folder):
    script = (
        "import resource, sys, time, signal; from pathlib import Path; import test_parquet as t\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "t.full(Path(sys.argv[1]))"
    )
    paths = os.pathsep.join(
        [str(ROOT / part) for part in ("", "tests", "tests/appliance", "tests/appliance/output", "ops/bench")]
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"written": 1, "dropped": 100, "open": 0, "errors": 1}
    assert ids(whole(folder)) == ["100"]


def full(folder: Path) -> None:
    """In a process of its own: the limit on the size of files, which stands for the full disk, is the process's."""
    parquet_file.ROWS, parquet_file.PIECE, parquet.RETRY_INTERVAL_S = 100, 1, 0.0
    it = output(folder, rotate_s=3600)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    for number in range(100):
        it.write(event(number, request={"method": os.urandom(50).hex()}), 1)
    eventually(lambda: (it.flush(), it.page["write_errors"])[1], "the write fails")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    it.write(event(100), 1)
    it.close()
    page = it.page
    names = {"written": "written_events", "dropped": "dropped_output", "open": "open_events", "errors": "write_errors"}
    print(json.dumps({name: page[key] for name, key in names.items()}))


def test_events_that_find_no_room_are_dropped_and_counted(folder):
    it = output(folder)
    it.limit = 0
    it.write(event(1), 1)
    it.limit = 1 << 20
    it.write(event(2), 1)
    it.close()
    assert ids(whole(folder)) == ["2"]
    assert it.page["dropped_output"] == 1


# -- options -----------------------------------------------------------------------------------------------------------

LIVE = {"source.interfaces": ["lo"], "output.path": "e.parquet"}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (LIVE, "can be read only when it is finished; set output.rotate_s"),
        ({**LIVE, "output.rotate_s": 60, "output.compress": "zstd"}, "compressed inside"),
        ({"source.file": "x.pcap", "output.path": "-", "output.format": "parquet"}, "needs a file"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(values, why):
    with pytest.raises(ConfigError, match=why):
        resolve(None, values)


def test_the_format_follows_the_name_unless_it_is_said():
    assert Output(path="a.parquet").parquet
    assert Output(path="a", format="parquet").parquet
    assert not Output(path="a.parquet", format="jsonl").parquet
    assert not Output(path="a.jsonl").parquet


def test_the_query_of_the_documentation_is_one(folder, monkeypatch):
    duckdb = pytest.importorskip("duckdb", reason="needs duckdb")
    it = output(folder, rotate_s=3600)
    for number in range(50):
        status = 500 if number % 5 == 0 else 200
        it.write(event(number, request={"method": "GET"}, response={"status_code": status}), 1)
    it.close()
    monkeypatch.chdir(folder)
    page = (ROOT / "ops" / "docs" / "operators" / "parquet.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", page, re.S)
    assert len(queries) >= 2
    for query in queries:
        assert duckdb.sql(query).fetchall()


# -- what others do to a file that is written ------------------------------------------------------------------------


@pytest.mark.parametrize("rotating", [{}, {"rotate_s": 3600}])
def test_a_file_that_is_moved_is_finished_where_it_is(run_dir, folder, rotating):
    part, moved = folder / "events.parquet.part", folder / "moved"
    with FeedProcess(run_dir, config(folder, **rotating)) as feed:
        feed.workers[0].send(1, event(0))
        eventually(part.exists, "the file is begun")
        part.rename(moved)
        feed.process.send_signal(signal.SIGHUP)
        eventually(lambda: feed.page["written_events"] == 1, "it is finished")
        assert pq.read_table(moved).num_rows == 1
        feed.workers[0].send(1, event(1))
        feed.workers[0].end()
        assert feed.wait() == 0
        assert feed.page["written_events"] == 2
        (rest,) = whole(folder) if rotating else [folder / "events.parquet"]
        assert pq.read_table(rest).num_rows == 1


def test_the_events_of_a_file_that_is_removed_are_counted_as_lost(run_dir, folder):
    part = folder / "events.parquet.part"
    with FeedProcess(run_dir, config(folder)) as feed:
        feed.workers[0].send(1, event(0))
        eventually(part.exists, "the file is begun")
        part.unlink()
        eventually(lambda: feed.page["dropped_output"] == 1, "it is noticed")
        feed.workers[0].send(1, event(1))
        feed.workers[0].end()
        assert feed.wait() == 0
        assert feed.page["open_events"] == 0
    assert pq.read_table(folder / "events.parquet").num_rows == 1


def test_a_fenced_feed_asks_for_another_when_the_folder_is_back(run_dir, folder):
    with FeedProcess(run_dir, config(folder, rotate_s=1)) as feed:
        if not feed.page["sandbox.landlock"]:
            pytest.skip("this kernel has no landlock")
        feed.workers[0].send(1, event(0))
        eventually(lambda: feed.page["open_events"] == 0 and feed.published() == 1, "the file is closed")
        shutil.rmtree(folder)
        folder.mkdir()
        feed.workers[0].send(1, event(1))
        assert feed.wait() == 3
        feed.kill()
        feed.start()
        feed.workers[0].send(1, event(2))
        feed.workers[0].end()
        assert feed.wait() == 0
        assert feed.page["dropped_output"] == 1
    (path,) = whole(folder)
    assert pq.read_table(path).num_rows == 1


def test_what_is_no_capture_replaces_no_file(run_dir, folder):
    Page.create(run_dir / "capture-0.stats", capture_layout(1, VERDICTS))  # never opened
    (folder / "events.parquet").write_bytes(b"kept")
    with FeedProcess(run_dir, config(folder, file=True)) as feed:
        feed.workers[0].end()
        assert feed.wait() == 0
    assert (folder / "events.parquet").read_bytes() == b"kept"
