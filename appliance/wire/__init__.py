"""Bytes of a frame: locate the TCP segment, hash its flow, verify checksums, reassemble IP fragments."""
