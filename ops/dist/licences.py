"""Prints the licences of everything that the artefacts hold.

usage: licences.py [--copyright] WHEELS      with --copyright in the format of Debian's copyright files
"""

from __future__ import annotations

import sys
from pathlib import Path

from inventory import Package, library_of, read

ROOT = Path(__file__).resolve().parents[2]
OWN = "capture-appliance"


def indented(text: str) -> str:
    """Return text as a field of a control file has it: each line begins with a space, an empty one holds a dot."""
    return "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in text.strip().splitlines())


def shortened(text: str) -> str:
    """Return a licence text for a Debian package, which names the copies that every system has."""
    if "Apache License" in text and "TERMS AND CONDITIONS FOR USE" in text:
        return "Apache License, Version 2.0: its text is in /usr/share/common-licenses/Apache-2.0."
    return text


def label(package: Package) -> str:
    """Return a licence as one word, as the copyright format wants it."""
    return "".join(c if c.isalnum() or c in ".+-" else "-" for c in package.licence) or "NOASSERTION"


def copyright_file(packages: list[Package]) -> str:
    """Return the copyright file of the Debian package."""
    own = (ROOT / "LICENSE").read_text()
    holder = next(
        (line.removeprefix("Copyright").strip(" ()c,") for line in own.splitlines() if "opyright" in line), ""
    )
    parts = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: capture-appliance\n"
        "Comment:\n The wheels below /usr/lib/capture-appliance/wheels are packages of their own, with the licences "
        "below.",
        f"Files: *\nCopyright: {holder}\nLicense: BSD-3-Clause\n{indented(own)}",
    ]
    for package in packages:
        if package.name == OWN:
            texts = [text for path, text in package.texts.items() if path.endswith("LICENSE.libpcap")]
            if texts:
                parts.append(
                    "Files: usr/lib/capture-appliance/wheels/capture_appliance-*/libpcap\n"
                    f"Copyright: the authors of libpcap\nLicense: BSD-3-Clause-libpcap\n{indented(texts[0])}"
                )
            continue
        wheels = "\n ".join(f"usr/lib/capture-appliance/wheels/{name}" for name in sorted(package.wheels))
        text = (
            "\n\n".join(shortened(package.texts[path]) for path in sorted(package.texts))
            or f"{package.licence}; {package.homepage}"
        )
        parts.append(
            f"Files: {wheels}\nCopyright: the authors of {package.name}\nLicense: {label(package)}-{package.name}\n"
            f"{indented(text)}"
        )
    return "\n\n".join(parts) + "\n"


def plain(packages: list[Package]) -> str:
    """Return all licences one below the other, with what each belongs to."""
    parts = []
    for package in packages:
        head = f"{package.name} {package.version}: {package.licence}"
        libraries = sorted(
            {library_of(file)[::2] for file in package.libraries} | {part[::2] for part in package.parts.values()}
        )
        inside = "".join(f"\n  with {name}: {licence}" for name, licence in libraries)
        texts = "\n\n".join(package.texts[path].strip() for path in sorted(package.texts))
        parts.append(f"{'=' * 78}\n{head}{inside}\n{package.homepage}\n{'=' * 78}\n\n{texts}")
    return "\n\n".join(parts) + "\n"


def main(words: list[str]) -> int:
    """Print them; return the exit code."""
    packages = read(Path(words[-1]))
    sys.stdout.write(copyright_file(packages) if words[0] == "--copyright" else plain(packages))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
