"""A worker's sandbox, and in it all that can be asked about bodies: says as JSON what of that wanted a file.

usage: fenced_bodies.py RUN_DIR   RUN_DIR has config.json and the page. Modules are loaded as workers.process does.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import workers.process  # noqa: F401
from appliance.config import schema as options
from appliance.runtime import sandbox
from appliance.runtime.resolved_config import load_resolved
from appliance.stats.page import Page
from workers.body.reader import Bodies
from workers.body.redact import Parameters

STARTS = 40  # random ones of each signature
CODINGS = ["gzip", "x-gzip", "deflate", "br", "zstd"]
EVERYTHING = {"hashes": ["sha256", "md5"], "mime_type": True, "excerpt_bytes": 1000, "excerpt_types": ["*"]}


def contents(signatures: list[bytes], rng: random.Random) -> list[bytes]:
    """Every signature, whole, cut and changed; and bytes of no kind."""
    made = [b"", b"words", "wörter".encode(), "漢字".encode("utf-16"), b"\xff\xfe\xff", *signatures]
    for signature in signatures:
        for _ in range(STARTS):
            start = bytearray(signature[: rng.choice((3, 8, 15, 16, 17, 40, 600, 4096))])
            for _ in range(rng.randrange(3)):
                if start:
                    start[rng.randrange(min(64, len(start)))] = rng.randrange(256)
            made.append(bytes(start))
    return made + [rng.randbytes(rng.randrange(300)) for _ in range(2000)]


def look(content: bytes, coding: str = "", kind: str = "") -> int:
    """Return the outcome of one body, with everything asked for."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Type: {kind}\r\n\r\n".encode()
    reader = Bodies(options.Bodies(**EVERYTHING), ["password"]).begin(head, 200)  # type: ignore[arg-type]
    reader.take(memoryview(content))
    return reader.end(True).outcome


def main(run_dir: Path, work: list[Callable[[], object]]) -> None:
    """Enters the sandbox and does the work."""
    page = Page.open(run_dir / "worker.stats")
    wanted: list[str] = []
    sandbox.enter("worker", load_resolved(run_dir), run_dir, page)
    loaded = set(sys.modules)
    sys.addaudithook(lambda event, words: wanted.append(f"open {words[0]}") if event == "open" else None)
    raised = []
    for act in work:
        try:
            act()
        except Exception as fault:
            raised.append(repr(fault))
    found = {"landlock": page["sandbox.landlock"], "opened": sorted(set(wanted)), "raised": sorted(set(raised))}
    print(json.dumps({**found, "loaded": sorted(set(sys.modules) - loaded), "done": len(work)}))


if __name__ == "__main__":
    from content_encoders import ENCODERS
    from mime_signatures import SIGNATURES

    rng = random.Random(19)
    made = contents(SIGNATURES, rng)
    encoded = [(coding, ENCODERS[coding](b"some text " * 900)) for coding in CODINGS]
    broken = [
        (coding, bytes(data[: rng.randrange(len(data))]) + b"junk") for coding, data in encoded for _ in range(20)
    ]
    raw = [(coding, content) for content in made[::50] for coding in CODINGS]
    jobs: list[Callable[[], object]] = [lambda content=content: look(content) for content in made]  # type: ignore[misc]
    jobs += [lambda one=one: look(one[1], one[0]) for one in encoded + broken + raw]  # type: ignore[misc]
    jobs.append(lambda: look(b"password=secret&a=b%FFc", kind="application/x-www-form-urlencoded"))
    jobs.append(lambda: look(b"x", "compress, idna, hex"))
    jobs.append(lambda: Parameters(["pässword"]).hide(b"/?p%C3%A4ssword=1&%zz=\xff"))
    main(Path(sys.argv[1]), jobs)
