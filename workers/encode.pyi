ALWAYS_REDACTED: tuple[str, ...]
REDACTED: bytes

def text_json(text: bytes) -> bytes: ...
