"""The handshake inside QUIC's Initial packets, whose keys follow from the client's connection id (RFC 9001, 5.2)."""
