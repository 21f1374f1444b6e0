"""Writes the man pages and shell completions of the appliance, from the same definitions as --help.

usage: pages.py SHARE MAN BASH ZSH [VERSIONS.SH]
                                    folders below SHARE: man/man1, bash-completion/completions, zsh/site-functions;
                                    with the script that is installed as appliance-versions its page is made too

Run by an interpreter that has the appliance. Manual: man-pages(7), groff_man(7); click's shell completion.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from importlib.metadata import entry_points, version
from pathlib import Path

import click
from click.shell_completion import get_completion_class

NAME = "appliance"
# What stands in every page, and no definition of a command says.
FILES = (
    (
        "/etc/capture-appliance/appliance.toml",
        "The configuration of the units; `appliance config` prints one with every key.",
    ),
    ("/etc/capture-appliance/INTERFACE.env", "OPTIONS= for one interface."),
    ("/var/lib/capture-appliance", "Where the units write what has no other place."),
)
EXIT = (
    ("0", "Done."),
    ("1", "It failed while it ran."),
    ("2", "Unusable arguments or configuration."),
    ("130, 143", "Stopped by SIGINT or SIGTERM."),
)


def roff(text: str) -> str:
    """Return text with everything escaped that roff would take for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    text = text.replace("…", "...").replace("^", "\\(ha").replace("~", "\\(ti")
    return re.sub(r"(?m)^\.", r"\\&.", text)


def page_name(path: list[str]) -> str:
    return "-".join(path)


def option_line(option: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    """Return an option's names with its value, and its help: what --help prints for it."""
    if isinstance(option, click.Option):
        return option.get_help_record(context)
    return None


def page(command: click.Command, path: list[str], parent: click.Context | None, children: list[list[str]]) -> str:
    """Return the man page of one command."""
    settings = {**command.context_settings, "max_content_width": 400, "terminal_width": 400}
    context = click.Context(command, info_name=path[-1], parent=parent, **settings)
    when = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0")) or None))
    name = page_name(path)
    short = command.get_short_help_str(limit=200).rstrip(".")
    lines = [
        f'.TH "{name.upper()}" "1" "{when}" "capture-appliance {version("capture-appliance")}" "The capture appliance"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(short)}",
        ".SH SYNOPSIS",
        f".B {roff(' '.join(path))}",
        roff(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
    ]
    for number, paragraph in enumerate(re.split(r"\n\s*\n", (command.help or "").strip())):
        if number:
            lines.append(".PP")
        lines.append(roff(" ".join(paragraph.split())))
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            lines += [".TP", f".B {roff(child)}", roff(found.get_short_help_str(limit=400))]
    records = [record for option in command.get_params(context) if (record := option_line(option, context))]
    if records:
        lines.append(".SH OPTIONS")
        for names, text in records:
            lines += [".TP", f".B {roff(names)}", roff(text)]
    lines.append(".SH EXIT STATUS")
    for code, text in EXIT:
        lines += [".TP", f".B {code}", roff(text)]
    lines.append(".SH FILES")
    for file, text in FILES:
        lines += [".TP", f".I {roff(file)}", roff(text)]
    others = children if len(path) == 1 else [path[:1]]
    lines.append(".SH SEE ALSO")
    lines += [",\n".join(f".BR {roff(page_name(other))} (1)" for other in others).replace(",\n", " ,\n")]
    return "\n".join(lines) + "\n"


def pages(group: click.Group) -> dict[str, str]:
    """Return every page by its file name: one for the whole, one for each command."""
    whole = click.Context(group, info_name=NAME, **group.context_settings)
    names = [[NAME, name] for name in group.list_commands(whole)]
    written = {f"{NAME}.1": page(group, [NAME], None, [*names])}
    for path in names:
        command = group.get_command(whole, path[1])
        assert command is not None
        written[f"{page_name(path)}.1"] = page(command, path, whole, [])
    return written


def script_page(text: str) -> str:
    """Return the man page of a shell script, of the comment that it begins with: a line, its usage, paragraphs."""
    head = [line[2:] for line in re.match(r"#!.*\n((?:#.*\n)+)", text)[1].replace("#\n", "# \n").splitlines()]  # type: ignore[index]
    blocks = [block.splitlines() for block in "\n".join(head).split("\n\n")]
    usage = [re.sub(r"^usage:", "", line).split(None, 1)[1] for line in blocks[1] if line.strip()]
    when = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0")) or None))
    lines = [
        f'.TH "APPLIANCE\\-VERSIONS" "8" "{when}" "capture-appliance {version("capture-appliance")}" '
        '"The capture appliance"',
        ".SH NAME",
        "appliance\\-versions \\- list the installed versions of the appliance, add one, go back",
        ".SH DESCRIPTION",
        roff(" ".join(blocks[0])),
        ".SH COMMANDS",
    ]
    for line in usage:
        words, _, meaning = re.sub(r" {2,}", "\0", line).partition("\0")
        lines += [".TP", f".B {roff(words)}", roff(meaning[:1].upper() + meaning[1:] + ".")]
    lines.append(".SH NOTES")
    for block in blocks[2:]:
        lines += [".PP", roff(" ".join(block))]
    lines += [".SH SEE ALSO", ".BR appliance (1)"]
    return "\n".join(lines) + "\n"


def completion(group: click.Group, shell: str) -> str:
    """Return the completion script for a shell, as click writes it: it asks the command itself."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(group, {}, NAME, f"_{NAME.upper()}_COMPLETE")
    # click's source() looks for bash and its version; the text itself needs neither.
    return script.source_template % script.source_vars()


def main(words: list[str]) -> int:
    """Write everything; return the exit code."""
    share, man, bash, zsh = Path(words[0]), *words[1:4]
    (entry,) = (point for point in entry_points(group="console_scripts") if point.name == NAME)
    module, _, attribute = entry.value.partition(":")
    group = getattr(importlib.import_module(module), attribute)
    files = {f"{man}/{name}": text for name, text in pages(group).items()}
    files[f"{bash}/{NAME}"] = completion(group, "bash")
    files[f"{zsh}/_{NAME}"] = completion(group, "zsh")
    if len(words) > 4:
        files[f"{man.replace('man1', 'man8')}/appliance-versions.8"] = script_page(Path(words[4]).read_text())
    for name, text in files.items():
        path = share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".new")
        part.write_text(text)
        part.chmod(0o644)
        part.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
