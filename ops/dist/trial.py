"""Tries an unpacked appliance before it is used: imports everything, checks the configuration, reads a capture.

usage: BIN/python -P trial.py [CONFIGURATION.toml]

Run by the interpreter of the environment to be tried. The capture is made here: one connection with one transaction.
Exit code 0: all is well; 1: what is not is on standard error.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

REQUEST = b"GET /trial HTTP/1.1\r\nHost: trial.example\r\n\r\n"
RESPONSE = b"HTTP/1.1 204 No Content\r\nServer: trial\r\n\r\n"
FIN, SYN, PSH, ACK = 1, 2, 8, 16
OPTIONAL = {"confluent_kafka", "nats", "nkeys", "pyarrow"}  # what only an extra brings


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(to_server: bool, sequence: int, acknowledgement: int, flags: int, data: bytes = b"") -> bytes:
    """Return an Ethernet frame of the one connection, checksums included."""
    client, server = (b"\x0a\x00\x00\x01", 40000), (b"\x0a\x00\x00\x02", 80)
    (source, from_port), (target, to_port) = (client, server) if to_server else (server, client)
    head = struct.pack(">HHIIBBHHH", from_port, to_port, sequence, acknowledgement, 5 << 4, flags, 65535, 0, 0)
    pseudo = source + target + struct.pack(">BBH", 0, 6, len(head) + len(data))
    head = head[:16] + struct.pack(">H", checksum(pseudo + head + data)) + head[18:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + source + target
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00" + ip + head + data


def capture() -> bytes:
    """Return a pcap file with a connection that asks once, is answered and ends."""
    asked, answered = 1001 + len(REQUEST), 5001 + len(RESPONSE)
    frames = [
        frame(True, 1000, 0, SYN),
        frame(False, 5000, 1001, SYN | ACK),
        frame(True, 1001, 5001, ACK),
        frame(True, 1001, 5001, PSH | ACK, REQUEST),
        frame(False, 5001, asked, PSH | ACK, RESPONSE),
        frame(True, asked, answered, FIN | ACK),
        frame(False, answered, asked + 1, FIN | ACK),
        frame(True, asked + 1, answered + 1, ACK),
    ]
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for number, data in enumerate(frames):
        parts += [struct.pack("<IIII", 1_700_000_000, number * 1000, len(data), len(data)), data]
    return b"".join(parts)


def import_all() -> list[str]:
    """Import every module of the two packages; return what failed, a line each. What an extra brings may be absent."""
    failed = []
    for top in ("appliance", "workers"):
        package = importlib.import_module(top)
        for module in pkgutil.walk_packages(package.__path__, f"{top}."):
            if module.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(module.name)
            except Exception as error:
                if not lacks_an_extra(error):
                    failed.append(f"{module.name}: {type(error).__name__}: {error}")
    return failed


def lacks_an_extra(error: BaseException | None) -> bool:
    """Return whether an import failed for lack of an extra's library; the module may say so in its own words."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return (error.name or "").partition(".")[0] in OPTIONAL
        error = error.__cause__ or error.__context__
    return False


def appliance(*words: str | Path, where: str) -> subprocess.CompletedProcess[str]:
    """Run the appliance of this interpreter and return how it ended."""
    command = [sys.executable, "-P", "-m", "appliance", *map(str, words)]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=60, check=False)


def read_a_capture(where: str) -> list[str]:
    """Run it on the capture; return what was wrong, a line each."""
    Path(where, "trial.pcap").write_bytes(capture())
    done = appliance("run", "-r", "trial.pcap", "-o", "events.jsonl", "--workers", "1", "-q", where=where)
    if done.returncode:
        return [f"a run on a capture ended with {done.returncode}: {done.stderr.strip()[-500:]}"]
    events = [json.loads(line) for line in Path(where, "events.jsonl").read_text().splitlines()]
    statuses = [event.get("http", {}).get("response", {}).get("status_code") for event in events]
    return [] if statuses == [204] else [f"a capture with one transaction gave {statuses}, not its one event"]


def main(words: list[str]) -> int:
    """Try everything; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="appliance-trial-") as where:
        wrong = import_all()
        if not wrong and words:
            done = appliance("check", Path(words[0]).absolute(), where=where)
            if done.returncode:
                wrong = [f"{words[0]} does not suit this version: {done.stderr.strip()}"]
        wrong = wrong or read_a_capture(where)
    for line in wrong:
        print(f"trial: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
