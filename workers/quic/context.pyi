from appliance.config.schema import Quic
from workers.tls.context import TlsContext

class QuicContext:
    tls: TlsContext
    max_initials_per_second: int
    max_connections: int
    timeout_ns: int
    max_crypto_bytes: int
    max_crypto_pieces: int
    max_early_datagrams: int
    clock_ns: int
    def __init__(self, tls: TlsContext | None = None, **limits: float) -> None: ...
    def configure(self, options: Quic) -> None: ...
    def counts(self) -> dict[str, int]: ...
