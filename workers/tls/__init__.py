"""The clear part of TLS handshakes: records, messages, fingerprints, certificates."""
