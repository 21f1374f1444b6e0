"""Measure the rate of decryption: TLS with the secrets of a key log into HTTP events, in one worker's data path.

`python ops/bench/decryption.py` prints a line for each kind of session: Gbit/s of TCP payload of one core, the best of
some rounds, beside the same frames without secrets. Answers of 1 MiB in full records, in segments of 1460 bytes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from builders import MILLISECOND, Conversation, batches_of, config, request, response  # noqa: E402
from tls_bytes import CLIENT, SERVER  # noqa: E402
from tls_writer import Session12, Session13  # noqa: E402

from appliance.keylog.parser import KeyLogParser  # noqa: E402
from appliance.keylog.secrets import packed  # noqa: E402
from workers.pipeline import Pipeline  # noqa: E402

ROUNDS, REQUESTS, BODY, SEGMENT = 5, 40, bytes(1 << 20), 1460
SESSIONS = {
    "TLS 1.3 AES-128-GCM": Session13,
    "TLS 1.3 ChaCha20-Poly1305": lambda: Session13(chacha=True),
    "TLS 1.2 AES-128-GCM": Session12,
}


def batches(session: Session12 | Session13) -> list[bytes]:
    """Return the batches of one connection with all exchanges."""
    for number in range(REQUESTS):
        session.says(CLIENT, request(b"/%d" % number))
        session.says(SERVER, response(b"200 OK", b"Content-Length: %d" % len(BODY), body=BODY))
    made = Conversation().handshake()
    for side, data in session.turns:
        (made.client_sends if side == CLIENT else made.server_sends)(data, SEGMENT)
        made.idle(MILLISECOND)
    return batches_of(made.close().frames, batch_bytes=1 << 20)[0][0]


def measure(messages: Sequence[bytes], secrets: bytes) -> tuple[float, int]:
    """Return (Gbit/s of payload, transactions) of the best round."""
    found = []
    for _ in range(ROUNDS):
        pipeline = Pipeline(config(tls={"keylog": "keys.log"} if secrets else {}))
        if secrets:
            pipeline.add_keys(secrets)
        start = time.process_time()
        for message in messages:
            pipeline.feed(message)
        pipeline.finish()
        seconds = time.process_time() - start
        counts = pipeline.counts()
        found.append((counts["payload_bytes"] * 8e-9 / seconds, counts["made.http.2xx."]))
    return max(found)


def main() -> None:
    for name, make in SESSIONS.items():
        session = make()
        messages = batches(session)
        parser = KeyLogParser()
        secrets = b"".join(map(packed, parser.feed(session.keylog) + parser.finish()))
        rate, transactions = measure(messages, secrets)
        closed, _ = measure(messages, b"")
        print(f"{name:26} {rate:6.2f} Gbit/s, {transactions} transactions; without secrets {closed:6.1f} Gbit/s")


if __name__ == "__main__":
    main()
