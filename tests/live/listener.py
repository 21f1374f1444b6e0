"""A subscriber in nothing but pyzmq, written from the description of the feed:  listener.py ENDPOINT

Says "ready" at the first heartbeat. Once the feed says that it is done, or standard input ends, it writes one JSON
object: the messages by arrival (topic, epoch, sequence, number of events) and the events.
"""

from __future__ import annotations

import json
import struct
import sys

import zmq


def main() -> None:
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(sys.argv[1])
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin, zmq.POLLIN)
    messages: list[tuple[str, int, int, int]] = []
    events: list[str] = []
    last: dict[str, int] = {}
    ready = done = False
    while not done:
        if sys.stdin.fileno() in dict(poller.poll()):
            break
        topic, header, body = socket.recv_multipart()
        epoch, sequence, count = struct.unpack(">QQQ", header)
        messages.append((topic.decode(), epoch, sequence, count))
        if topic.startswith(b"http."):
            events += body.decode().split("\n")
        elif topic == b"heartbeat.":
            last = json.loads(body)["last"]
            if not ready:
                print("ready", flush=True)
                ready = True
        elif json.loads(body)["state"] == "done":
            done = True
    json.dump({"messages": messages, "events": events, "last": last, "done": done}, sys.stdout)
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
