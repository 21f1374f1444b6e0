"""Values that options have by default and that others need without the schema, which is slow to load."""

FEED = "tcp://127.0.0.1:5556"
REPLAY = "tcp://127.0.0.1:5557"
METRICS = "127.0.0.1:9470"
LONGEST_FRAME = 262144  # bytes: libpcap captures no more of a frame (MAXIMUM_SNAPLEN)
