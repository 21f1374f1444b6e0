"""The documentation is true where a program can tell: links, paths, commands, blocks, and the output in the README."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from eventually import PATIENCE_S

from appliance.cli.main import main as command_line

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "ops" / "docs").rglob("*.md"))]
OTHERS = [ROOT / "CHANGELOG.md", *sorted((ROOT / "ops").glob("[!d]*/*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def slug(title: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def outside_of_blocks(text: str) -> str:
    return BLOCK.sub("", text)


def anchors(page: Path) -> set[str]:
    return {slug(title) for title in re.findall(r"^#+ (.*)$", outside_of_blocks(page.read_text()), re.M)}


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page without a file, or with an anchor that no heading has."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", outside_of_blocks(page.read_text())):
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        if "://" not in link and (not file.exists() or (anchor and anchor not in anchors(file))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("link", ["nowhere.md", "README.md#no-such-heading", "#no-such-heading"])
def test_a_broken_link_is_found(tmp_path: Path, link: str) -> None:
    (tmp_path / "README.md").write_text("# A heading\n")
    (tmp_path / "page.md").write_text(f"# Page\n\n[good](README.md#a-heading), [bad]({link})\n")
    assert broken_links(tmp_path / "page.md") == [link]


# -- paths ----------------------------------------------------------------------------------------------------------

OURS = re.compile(r"(?<![\w./<-])((?:appliance|workers|tests|ops)(?:/[\w.*{},-]+)+/?)")
EXPLAINED = {"ops/fuzz/target_NAME.py"}  # a pattern that the text explains


def missing_paths(text: str) -> list[str]:
    """Return the paths of this repository that a text names in code or a link, and that do not exist."""
    named = set()
    for code in re.findall(r"`([^`\n]+)`", outside_of_blocks(text)) + re.findall(r"^    .*$", text, re.M):
        named |= set(OURS.findall(code))
    return sorted(path for path in named - EXPLAINED if not any(map(list, map(ROOT.glob, spread(path.rstrip("/."))))))


def spread(path: str) -> list[str]:
    """Return the paths that one with {a,b} stands for."""
    found = re.search(r"\{([^}]*)\}", path)
    return [path.replace(found[0], each) for each in found[1].split(",")] if found else [path]


@every_page
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert missing_paths(page.read_text()) == []


def test_a_path_that_does_not_exist_is_found() -> None:
    assert missing_paths("see `appliance/no_such.py` and `ops/docs`\n\n    python ops/gone.py\n") == [
        "appliance/no_such.py",
        "ops/gone.py",
    ]


# -- commands -------------------------------------------------------------------------------------------------------


@cache
def options(command: str) -> set[str]:
    """Return every spelling of every option of `appliance COMMAND`."""
    found = command_line.commands[command]
    names = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return names | {"-h", "--help"}


def wrong_commands(text: str) -> list[str]:
    """Return the words of `appliance …` and `make …` in a text that neither program knows."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    wrong = []
    quoted = re.findall(r"`([^`\n]+)`", outside_of_blocks(text)) + re.findall(
        r"^    .*$", text.replace("\\\n", " "), re.M
    )
    for line in quoted:
        for words in re.findall(r"(?:^|[|;] *|sudo |bin/|time )\s*appliance ([a-z]+)([^|;#`]*)", line):
            command, rest = words
            if command not in command_line.commands:
                wrong.append(f"appliance {command}")
                continue
            rest = re.sub(r"'[^']*'|\"[^\"]*\"", "", rest)
            used = re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", rest)
            wrong += [f"appliance {command} {name}" for name in used if name not in options(command)]
        for target in re.findall(r"^\s*(?:\w+=\S+ )*make ([a-z][a-z-]*)", line):
            wrong += [f"make {target}"] if target not in targets else []
    return wrong


@every_page
def test_every_command_and_option_exists(page: Path) -> None:
    shown = re.sub(r"^    appliance: .*$|^    appliance top .*$", "", page.read_text(), flags=re.M)  # output
    assert wrong_commands(shown) == []


def test_a_wrong_command_is_found() -> None:
    text = "`appliance fly` and `make hay`\n\n    sudo appliance run -i eth0 --no-such | appliance events --gone\n"
    assert wrong_commands(text) == ["appliance fly", "make hay", "appliance run --no-such", "appliance events --gone"]


@every_page
def test_every_block_of_code_parses(page: Path) -> None:
    for language, block in BLOCK.findall(page.read_text()):
        if language == "python":
            compile(block, str(page), "exec")
        elif language == "toml":
            tomllib.loads(block)
        elif language == "json":
            json.loads(block)
        else:
            assert language in ("go", "mermaid", "sql", ""), (
                language
            )  # SQL runs in tests/appliance/output/test_parquet.py


@every_page
def test_every_block_of_toml_is_a_configuration(page: Path, tmp_path: Path) -> None:
    for language, block in BLOCK.findall(page.read_text()):
        if language == "toml":
            (tmp_path / "appliance.toml").write_text(block)
            checked = subprocess.run(
                [sys.executable, "-m", "appliance", "check", tmp_path / "appliance.toml"],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert checked.returncode == 0, checked.stderr


# -- the README -----------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 130


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with build/sample.pcap, as `make run` makes it."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "build").mkdir()
    make = [sys.executable, ROOT / "ops/bench/traffic.py", "sample", "build/sample.pcap"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, timeout=PATIENCE_S)
    return folder


def run(command: str, folder: Path) -> str:
    """Run a line of the documentation, with the command `appliance` of this environment, and return its output."""
    environment = {**os.environ, "TZ": "UTC", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=folder, env=environment, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_shows_transactions_of_the_sample(sample: Path) -> None:
    """Every row that it prints is one that `make run` prints."""
    made = [line.split() for line in run("appliance run -r build/sample.pcap", sample).splitlines()]
    # DATE TIME CLIENT > SERVER STATUS BYTES B DURATION ms METHOD URL
    rows = {tuple(words[place] for place in (1, 2, 4, 5, 6, 8, 10, 11)) for words in made}
    shown = re.findall(r"^    (14:13:2\S+(?: +\S+){7})$", README.read_text(), re.M)
    assert len(shown) == 5
    assert [row for row in shown if tuple(row.split()) not in rows] == []
    assert f"first 20 of {len(made)} transactions" in " ".join(README.read_text().split())


COMMANDS = re.findall(r"^    (appliance run -r build/.*)$", README.read_text(), re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_works_on_the_sample(sample: Path, command: str) -> None:
    if "| jq" in command and shutil.which("jq") is None:
        pytest.skip("no jq on this machine")
    printed = run(command, sample)
    events = printed.splitlines() or (sample / "events.jsonl").read_text().splitlines()
    assert len(events) == 311


def test_the_library_program_works_on_the_sample(sample: Path) -> None:
    page = (ROOT / "ops/docs/developers/library.md").read_text()
    (program,) = (block for _, block in BLOCK.findall(page) if "build/sample.pcap" in block)
    (sample / "program.py").write_text(program)
    printed = run("python program.py", sample)
    assert "192.0.2.10->198.51.100.10 49154->80 1242 bytes, 0 missing" in printed.splitlines()


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "ops" / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", index.read_text())}
    assert set(PAGES) - {index} - linked == set()


# -- words ----------------------------------------------------------------------------------------------------------

BANNED = {
    "a person instead of a state": r"\b(?:[Nn]obody|[Ss]omebody)\b",
    "a relative clause as subject": r"(?:^|[.;:] )(?:What|Whoever|Who) (?!(?:is|are|to)\b)\w+",
    "a passive without an agent": r"\b(?:is|are) (?:said|told|asked for|let in|let go|handed on|believed)\b",
    "an everyday word for a term": r"\b(?:mends?|not enough for all|goes on as|thrown? out)\b",
}
LONGEST = 40  # words of a sentence; most have fewer than 20


def sentences(text: str) -> list[str]:
    """Return the sentences outside of code, tables and headings; code counts as one word."""
    lines = [line for line in outside_of_blocks(text).splitlines() if not line.startswith(("|", "    ", "#", "!["))]
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(lines))
    plain = [
        re.sub(r"^(?:[-*]|\d+\.) ", "", re.sub(r"\]\([^)]*\)|`[^`]*`", "x", " ".join(p.split()))) for p in paragraphs
    ]
    return [sentence for p in plain for sentence in re.split(r"(?<=[.!?:]) (?=[A-Zx*\[(0-9])", p) if sentence]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_prose_is_plain(page: Path) -> None:
    for sentence in sentences(page.read_text()):
        assert len(sentence.split()) <= LONGEST, sentence
        for fault, pattern in BANNED.items():
            assert re.search(pattern, sentence) is None, f"{fault}: {sentence}"


@every_page
def test_prose_is_wrapped_at_120_columns(page: Path) -> None:
    lines = outside_of_blocks(page.read_text()).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "    "))] == []


# -- packages -------------------------------------------------------------------------------------------------------


def test_every_package_has_its_row_in_the_architecture() -> None:
    page = (ROOT / "ops/docs/developers/architecture.md").read_text()
    table = page.split("\n## Packages\n")[1].split("\n## ")[0]
    rows = {name for cell in re.findall(r"^\| (`[^|]*) \|", table, re.M) for name in re.findall(r"`([^`]+)`", cell)}
    packages = {f"{path.parent.parent.name}/{path.parent.name}" for path in ROOT.glob("[aw]*/*/__init__.py*")}
    packages -= {name for name in packages if not name.startswith(("appliance/", "workers/"))}
    assert rows - {"workers/pipeline.pyx"} == packages
