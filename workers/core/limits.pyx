# cython: language_level=3
"""The limits of [tcp], [http], [events] and [websocket], as numbers for the data path.

The notes in appliance/config/section_*.py explain each of them.
"""
from appliance.config.section_tcp import CHECKSUMS


cdef class Limits:
    """Built once from sections of the configuration; times in ns, sizes in bytes."""

    def __init__(self, tcp, http, events, websocket):
        self.max_connections = tcp.max_connections
        self.idle_timeout_ns = int(tcp.idle_timeout_s * 1e9)
        self.closed_linger_ns = int(tcp.closed_linger_s * 1e9)
        self.gap_timeout_ns = int(tcp.gap_timeout_s * 1e9)
        self.settle_ns = tcp.settle_ms * 1_000_000
        self.half_open_timeout_ns = int(tcp.half_open_timeout_s * 1e9)
        self.max_half_open = tcp.max_half_open
        self.last_wins = tcp.overlap == "last"
        self.checksums = CHECKSUMS.index(tcp.checksums)
        self.max_pending_bytes = tcp.max_pending_bytes
        self.max_total_pending_bytes = tcp.max_total_pending_bytes
        self.max_pending_segments = tcp.max_pending_segments
        self.max_head_bytes = http.max_head_bytes
        self.max_total_head_bytes = http.max_total_head_bytes
        self.max_headers = http.max_headers
        self.max_total_waiting_bytes = http.max_total_waiting_bytes
        self.max_streams = http.max_streams
        self.max_streams_bytes = http.max_streams_bytes
        self.max_total_table_bytes = http.max_total_table_bytes
        self.max_join_bytes = http.max_join_bytes
        self.max_connect_depth = http.max_connect_depth
        self.event_interval_ns = int(events.interval_s * 1e9)
        self.flows = "flow" in events.datasets
        self.udp_timeout_ns = int(events.udp_timeout_s * 1e9)
        self.max_udp_flows = events.max_udp_flows
        self.max_url_bytes = websocket.max_url_bytes
