"""A subscriber as a process of its own:  consumer.py ENDPOINT PROGRESS PAUSE_S CRASH_AFTER

Says "ready" when it follows the feed, reads without replay until the feed says that it is done, pausing after each
message, and writes what it saw as JSON: numbers of messages by topic, gaps, duplicates. CRASH_AFTER messages (0: never)
it kills itself. PROGRESS is a file that always says how many have come or are known to be lost.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from appliance.subscriber.subscriber import Gap, Subscriber


def main(endpoint: str, progress: str, pause_s: float, crash_after: int) -> None:
    file = os.open(progress, os.O_WRONLY | os.O_CREAT)
    lost: list[tuple[int, int]] = []
    numbers: list[int] = []

    def tell() -> None:
        os.pwrite(file, b"%d" % (len(numbers) + sum(last - first + 1 for first, last in lost)), 0)

    def on_gap(gap: Gap) -> None:
        if gap.topic == "http.2xx.":
            lost.append((gap.first, gap.last))
            tell()

    with Subscriber(endpoint, ["http.2xx.", "status."], replay="off", queue=20, on_gap=on_gap) as feed:
        while not feed.heartbeats:
            feed.receive(0.05)
        print("ready", flush=True)
        while (message := feed.receive(30.0)) is not None:
            if message.topic == "status." and b'"done"' in message.events[0]:
                break
            if message.topic == "http.2xx.":
                numbers.append(message.sequence)
                tell()
            if crash_after and len(numbers) >= crash_after:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(pause_s)
    print(json.dumps({"numbers": numbers, "gaps": lost}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
