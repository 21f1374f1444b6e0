"""A gRPC server at ADDRESS PORT that knows every method; it writes "PORT-OF-THE-CLIENT PATH" for each call to LOG."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

ADDRESS, PORT, LOG = sys.argv[1:]


class Everything(grpc.GenericRpcHandler):
    """Answers each unary call with what it brought."""

    def __init__(self) -> None:
        self.log = Path(LOG).open("w", encoding="ascii", buffering=1)  # noqa: SIM115 -- until the process ends
        self.lock = threading.Lock()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of one call."""

        def answer(asked: bytes, context: Any) -> bytes:
            with self.lock:
                self.log.write(f"{context.peer().rpartition(':')[2]} {details.method}\n")
            return asked

        return grpc.unary_unary_rpc_method_handler(answer)


server = grpc.server(ThreadPoolExecutor(8), handlers=[Everything()])
if not server.add_insecure_port(f"{ADDRESS}:{PORT}"):
    sys.exit(f"{ADDRESS}:{PORT} is not free")
server.start()
print("ready", flush=True)
server.wait_for_termination()
