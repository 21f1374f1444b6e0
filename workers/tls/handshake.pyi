from typing import Any, Literal, Self, final

from typing_extensions import Buffer

from workers.tls.context import TlsContext

_Verdict = Literal["going on", "known", "over", "other"]

@final
class Handshake:
    client: int
    seen: bool
    def __new__(cls, context: TlsContext, quic: bool = ...) -> Self: ...
    def feed(self, side: int, data: Buffer, ts_ns: int = ...) -> _Verdict: ...
    def lose(self, side: int, count: int, ts_ns: int = ...) -> _Verdict: ...
    def finish(self) -> bool: ...
    def facts(self) -> dict[str, dict[str, Any]]: ...
