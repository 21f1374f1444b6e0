from workers.detect.detector import Protocol

class Http1Protocol(Protocol):
    def __init__(self) -> None: ...
