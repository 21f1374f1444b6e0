from workers.detect.detector import Protocol

class WebSocketProtocol(Protocol):
    def __init__(self) -> None: ...
