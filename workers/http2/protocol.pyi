from workers.detect.detector import Protocol

class Http2Protocol(Protocol):
    def __init__(self) -> None: ...
