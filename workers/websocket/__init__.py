"""WebSocket (RFC 6455, RFC 7692): frames, the counts of a connection, and its events."""
