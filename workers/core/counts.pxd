# cython: language_level=3
"""The fields of the counters, and their places. Written by ops/counters.py from appliance/stats/pipeline_counters.py."""
from libc.stdint cimport uint64_t

cdef enum:                              # lengths of lists in appliance/stats/names.py
    METHODS_END = 10
    CLASSES_END = 5
    PAIRINGS_END = 5
    BUCKETS_END = 14
    TOPICS_END = 9
    KINDS_END = 5
    SPOKEN_END = 7
    BODIES_END = 6
    ANOMALIES_END = 52
    DATAGRAMS_END = 4
    WEBSOCKET_ANOMALIES_END = 13

cdef enum:                              # a connection's protocol, by stats.SPOKEN
    SILENT = 0
    SPEAKS_HTTP = 1
    SPEAKS_OTHER = 2
    SPEAKS_TLS = 3
    SPEAKS_SSH = 4
    SPEAKS_SMTP = 5
    SPEAKS_HTTP2 = 6

cdef enum:                              # of an unknown protocol, in stats.NOT_HTTP
    OTHER = 0

cdef enum:                              # outcomes of a datagram that may open a QUIC connection, by stats.QUIC_OUTCOMES
    OPENED = 0
    FOLLOWED = 1
    UNOPENED = 2
    OVER_LIMIT = 3

cdef enum:                              # places in PipelineCounts.http2
    BLOCKS = 0
    BLOCK_FAULTS = 3
    CUT_BLOCKS = 4
    STREAMS = 5
    STREAMS_REPORTED = 6
    STREAMS_DROPPED = 7
    STREAMS_GIVEN_UP = 8
    RESETS = 9
    JOINED_CONNECTIONS = 11
    JOINS_GIVEN_UP = 12
    FRAMING_LOSSES = 13
    VIOLATIONS = 14
    STRAY_FRAMES = 15
    TABLES_EMPTIED = 16
    HTTP2_COUNTS = 17


cdef class PipelineCounts:
    cdef uint64_t segments                      # slot segments
    cdef uint64_t bad_header                    # slot rejected
    cdef uint64_t no_connection                 # slot rejected
    cdef uint64_t bad_checksum                  # slot rejected
    cdef uint64_t duplicate_frames              # Identical copies of frames, as from a mirror port that copies both directions.
    cdef uint64_t checksums_bad                 # Segments with a wrong, offloaded or truncated checksum.
    cdef uint64_t checksums_offloaded           # Segments with a wrong, offloaded or truncated checksum.
    cdef uint64_t checksums_unverified          # Segments with a wrong, offloaded or truncated checksum.
    cdef uint64_t urgent                        # Segments with urgent data, which stays in the stream.
    cdef uint64_t resets_ignored                # RST segments ignored: out of window, or their sender kept sending.
    cdef uint64_t fins_ignored                  # FIN segments ignored, because their sender sent data behind them.
    cdef uint64_t flows                         # Connections followed now.
    cdef uint64_t half_open                     # Half-open connections followed now.
    cdef uint64_t flows_opened                  # Connections opened.
    cdef uint64_t ended_fin                     # Connections ended, by the cause of the end.
    cdef uint64_t ended_rst                     # Connections ended, by the cause of the end.
    cdef uint64_t ended_timeout                 # Connections ended, by the cause of the end.
    cdef uint64_t ended_evicted                 # Connections ended, by the cause of the end.
    cdef uint64_t ended_half_open               # Connections ended, by the cause of the end.
    cdef uint64_t ended_reused                  # Connections ended, by the cause of the end.
    cdef uint64_t ended_shutdown                # Connections ended, by the cause of the end.
    cdef uint64_t one_sided                     # Ended connections with only one captured direction.
    cdef uint64_t payload                       # Payload bytes received.
    cdef uint64_t delivered                     # Payload bytes, by outcome.
    cdef uint64_t duplicate                     # Payload bytes, by outcome.
    cdef uint64_t conflicting                   # Payload bytes, by outcome.
    cdef uint64_t out_of_window                 # Payload bytes, by outcome.
    cdef uint64_t unacknowledged                # Payload bytes, by outcome.
    cdef uint64_t late                          # Payload bytes, by outcome.
    cdef uint64_t evicted                       # Payload bytes, by outcome.
    cdef uint64_t past_limit                    # Payload bytes, by outcome.
    cdef uint64_t ignored                       # Payload bytes, by outcome.
    cdef uint64_t pending                       # Out-of-order bytes in buffers.
    cdef uint64_t flow_reported                 # Payload bytes of connections, by their place in flow events.
    cdef uint64_t flow_refused                  # Payload bytes of connections, by their place in flow events.
    cdef uint64_t flow_off                      # Payload bytes of connections, by their place in flow events.
    cdef uint64_t flow_open                     # Payload bytes that the next flow events report.
    cdef uint64_t gaps                          # Gaps in streams: bytes declared missing.
    cdef uint64_t gap_bytes                     # Known bytes missing in gaps.
    cdef uint64_t out_of_order                  # Out-of-order segments.
    cdef uint64_t ack_unseen                    # slot ack_unseen
    cdef uint64_t acked_unseen                  # slot acked_unseen_bytes
    cdef uint64_t midstream                     # Streams captured without their start.
    cdef uint64_t udp_datagrams                 # UDP datagrams of flow events that open no QUIC connection.
    cdef uint64_t udp_payload                   # Payload bytes of UDP datagrams received for flow events.
    cdef uint64_t[4] datagrams                  # UDP datagrams that may open a QUIC connection, by outcome.
    cdef uint64_t started                       # Messages started.
    cdef uint64_t complete                      # Finished messages, by outcome.
    cdef uint64_t truncated                     # Finished messages, by outcome.
    cdef uint64_t failed                        # Finished messages, by outcome.
    cdef uint64_t head_bytes                    # Bytes of incomplete message heads in memory.
    cdef uint64_t waiting_bytes                 # Bytes of messages that wait for their request or response.
    cdef uint64_t given_up                      # Transactions published alone, because the limit of waiting bytes was reached.
    cdef uint64_t[10] requests                  # Requests.
    cdef uint64_t[5] responses                  # Responses.
    cdef uint64_t[5] pairings                   # Transactions, by the method of pairing request and response.
    cdef uint64_t parse_errors                  # Messages that violate the HTTP/1 grammar.
    cdef uint64_t resyncs                       # Resynchronisations at the next message after a gap or an error.
    cdef uint64_t retracted                     # Complete messages later recognised as text in a body; in no event.
    cdef uint64_t[5] not_http                   # Streams of another protocol than HTTP, by protocol.
    cdef uint64_t[5] not_http_bytes             # Bytes of streams of another protocol than HTTP, by protocol.
    cdef uint64_t[7] connections                # Ended connections, by protocol.
    cdef uint64_t[7] speaking                   # Open connections with payload, by protocol.
    cdef uint64_t skipped_bytes                 # Bytes of HTTP connections outside any message, after a gap or an error.
    cdef uint64_t tunnels                       # Connections that left HTTP by CONNECT or an upgrade.
    cdef uint64_t tunnels_too_deep              # CONNECT tunnels not entered, because http.max_connect_depth was reached.
    cdef uint64_t tunnel_bytes                  # Bytes of tunnels and upgrades that no protocol of the worker reads.
    cdef uint64_t websockets                    # WebSocket connections begun.
    cdef uint64_t websockets_ended              # WebSocket connections ended.
    cdef uint64_t websocket_bytes               # Bytes of WebSocket connections behind their upgrade.
    cdef uint64_t websocket_frames              # WebSocket frames.
    cdef uint64_t websocket_messages            # Whole WebSocket messages.
    cdef uint64_t websocket_losses              # slot websocket_losses
    cdef uint64_t websocket_resyncs             # Resynchronisations at a WebSocket frame header after a loss.
    cdef uint64_t[13] websocket_anomalies       # Ended WebSocket connections with an anomaly, by its name.
    cdef uint64_t[17] http2                     # by the places above
    cdef uint64_t streams_open                  # Streams of HTTP/2 open now.
    cdef uint64_t table_bytes                   # Bytes of HTTP/2 header tables in memory.
    cdef uint64_t[52] anomalies                 # Transactions with an anomaly, by its name.
    cdef uint64_t body_request                  # slot body_bytes
    cdef uint64_t body_response                 # slot body_bytes
    cdef uint64_t[6] bodies                     # Inspected bodies, by outcome.
    cdef uint64_t out_of_time                   # Bodies with outcome limit because decoding time ran out.
    cdef uint64_t decoded                       # Bytes of message bodies after content decoding.
    cdef uint64_t[14] response_buckets          # slot response_seconds.le
    cdef uint64_t response_sum_ns               # slot response_seconds.sum_ns
    cdef uint64_t[9] made                       # slot made
    cdef uint64_t[9] over_share                 # slot dropped_share
