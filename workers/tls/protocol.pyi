from workers.detect.detector import Protocol

class TlsProtocol(Protocol):
    def __init__(self) -> None: ...
