"""Unary gRPC calls to ADDRESS PORT on CHANNELS connections, one after the other on each, until standard input ends."""

from __future__ import annotations

import random
import sys
import threading
import time

import grpc

ADDRESS, PORT, CHANNELS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
METHODS = ("/shop.Cart/Add", "/shop.Cart/Remove", "/shop.Search/Find", "/bank.Ledger/Post", "/bank.Ledger/Balance")
PAUSE_S = 0.002
ended = threading.Event()


def call(number: int) -> None:
    """Make calls on a connection of its own."""
    dice = random.Random(number)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{ADDRESS}:{PORT}", options) as channel:
        made = {method: channel.unary_unary(method) for method in METHODS}
        while not ended.is_set():
            made[dice.choice(METHODS)](dice.randbytes(dice.choice((0, 10, 1000))), timeout=60)
            time.sleep(PAUSE_S)


threads = [threading.Thread(target=call, args=(number,)) for number in range(CHANNELS)]  # the process ends with them
for thread in threads:
    thread.start()
sys.stdin.read()
ended.set()
