ALWAYS_REDACTED: tuple[str, ...]
