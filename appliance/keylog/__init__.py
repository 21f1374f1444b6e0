"""Key logs: the secrets of TLS sessions, from a file or a capture to the workers."""
