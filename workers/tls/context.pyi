from appliance.config.schema import Tls
from workers.tls.certificate import Certificates
from workers.tls.key_store import KeyStore

class TlsContext:
    max_hello_bytes: int
    max_certificate_bytes: int
    max_total_bytes: int
    max_values: int
    max_name_bytes: int
    ja3: bool
    buffered: int
    certificates: Certificates | None
    keys: KeyStore | None
    def __init__(self, *, certificates: Certificates | None = ..., **limits: int) -> None: ...
    def configure(self, options: Tls) -> None: ...
    def counts(self) -> dict[str, int]: ...
