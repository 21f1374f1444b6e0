from typing import Any, Self, final

from typing_extensions import Buffer

from workers.quic.context import QuicContext
from workers.tls.handshake import Handshake

@final
class QuicConnection:
    handshake: Handshake
    key: Any
    client: int
    known: bool
    version: int
    first_ns: int
    def __new__(cls, context: QuicContext, key: object = ...) -> Self: ...
    def feed(self, side: int, data: Buffer, ts_ns: int = ...) -> bool: ...
    def finish(self) -> bool: ...
    def facts(self) -> dict[str, dict[str, Any]]: ...
