# cython: language_level=3
"""Counters of the data path: plain 64-bit integers, read once per batch."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
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


cdef enum Spoken:                       # a connection's protocol, by stats.SPOKEN
    SILENT
    SPEAKS_HTTP
    SPEAKS_OTHER                        # from here on the places in stats.NOT_HTTP


cdef enum:                              # places in Tally.http2; counters.pyx has their names
    BLOCKS                              # by Certainty of header_list.pxd: three places
    BLOCK_FAULTS = 3
    CUT_BLOCKS
    STREAMS
    STREAMS_REPORTED                    # an event describes them, or would without its dataset off
    STREAMS_DROPPED                     # no header section of theirs was seen, or their connection was none of HTTP/2
    STREAMS_GIVEN_UP
    RESETS                              # by side: two places
    JOINED_CONNECTIONS = 11
    FRAMING_LOSSES
    VIOLATIONS
    STRAY_FRAMES
    TABLES_EMPTIED
    JOINS_GIVEN_UP
    HTTP2_COUNTS


cdef enum:
    OTHER = 0                           # place in stats.NOT_HTTP of an unknown protocol


cdef enum:                              # outcomes of a datagram that may open a QUIC connection, by stats.QUIC_OUTCOMES
    OPENED
    FOLLOWED
    UNOPENED
    OVER_LIMIT


cdef class Tally:
    # frames
    cdef uint64_t segments
    cdef uint64_t[DATAGRAMS_END] datagrams  # of QUIC, by stats.QUIC_OUTCOMES
    cdef uint64_t udp_datagrams         # the others, which are there for flow events
    cdef uint64_t udp_payload           # of all UDP datagrams, if they have flow events
    cdef uint64_t bad_header
    cdef uint64_t no_connection
    cdef uint64_t bad_checksum          # dropped for it
    cdef uint64_t duplicate_frames
    cdef uint64_t checksums_bad
    cdef uint64_t checksums_offloaded
    cdef uint64_t checksums_unverified
    cdef uint64_t urgent
    cdef uint64_t resets_ignored
    cdef uint64_t fins_ignored
    # connections
    cdef uint64_t flows                 # now
    cdef uint64_t half_open             # of these, connections that are still half-open
    cdef uint64_t flows_opened
    cdef uint64_t one_sided             # ended, and one direction was never seen
    cdef uint64_t[SPOKEN_END] connections       # ended, by protocol
    cdef uint64_t[SPOKEN_END] speaking          # now, by protocol; without those that have sent no byte yet
    cdef uint64_t ended_fin
    cdef uint64_t ended_rst
    cdef uint64_t ended_timeout
    cdef uint64_t ended_evicted
    cdef uint64_t ended_half_open
    cdef uint64_t ended_reused
    cdef uint64_t ended_shutdown
    # payload bytes: payload = delivered + duplicate + conflicting + out_of_window +
    #   unacknowledged + late + evicted + past_limit + ignored + pending
    cdef uint64_t payload
    cdef uint64_t delivered
    cdef uint64_t duplicate
    cdef uint64_t conflicting
    cdef uint64_t out_of_window
    cdef uint64_t unacknowledged
    cdef uint64_t late
    cdef uint64_t evicted
    cdef uint64_t past_limit
    cdef uint64_t ignored
    cdef uint64_t pending               # now
    # flow events: payload of TCP and UDP = reported + refused + off + open
    cdef uint64_t flow_reported
    cdef uint64_t flow_refused          # in events that were not written, because their connection was over its share
    cdef uint64_t flow_off              # that came while the dataset was off
    cdef uint64_t flow_open             # of connections, since their last event, now
    cdef bint counts_flows              # the dataset is on
    cdef uint64_t off_since             # both payloads when it was turned off
    # loss
    cdef uint64_t gaps
    cdef uint64_t gap_bytes
    cdef uint64_t out_of_order
    cdef uint64_t ack_unseen
    cdef uint64_t acked_unseen          # bytes that a receiver acknowledged and that were never captured
    cdef uint64_t midstream
    # messages: started = complete + truncated + failed + open
    cdef uint64_t started
    cdef uint64_t complete
    cdef uint64_t truncated
    cdef uint64_t failed
    cdef uint64_t head_bytes            # gathered of incomplete heads, now
    cdef uint64_t waiting_bytes         # of messages that wait for their other half, now
    cdef uint64_t given_up              # transactions that left without it, because the waiting bytes exceeded their limit
    cdef uint64_t requests[METHODS_END]
    cdef uint64_t responses[CLASSES_END]
    cdef uint64_t pairings[PAIRINGS_END]
    cdef uint64_t parse_errors
    cdef uint64_t[ANOMALIES_END] anomalies  # transactions that have one, by its bit
    cdef uint64_t resyncs
    cdef uint64_t retracted             # complete messages that were text in a body, and are in no event
    cdef uint64_t[KINDS_END] not_http   # streams, by place in stats.NOT_HTTP
    cdef uint64_t[KINDS_END] not_http_bytes     # of these streams, and bytes before HTTP
    cdef uint64_t skipped_bytes         # of HTTP streams, outside every message
    cdef uint64_t tunnels               # left HTTP by CONNECT or an upgrade
    cdef uint64_t tunnels_too_deep      # of these, by CONNECT and not entered
    cdef uint64_t tunnel_bytes          # of those that no application reads; a detected protocol counts its own bytes
    cdef uint64_t websockets            # begun
    cdef uint64_t websockets_ended
    cdef uint64_t websocket_bytes       # frames with their headers
    cdef uint64_t websocket_frames
    cdef uint64_t websocket_messages    # whole ones
    cdef uint64_t websocket_losses      # of the place of the next frame
    cdef uint64_t websocket_resyncs     # after these
    cdef uint64_t[WEBSOCKET_ANOMALIES_END] websocket_anomalies  # ended connections that have one, by its bit
    cdef uint64_t body_request
    cdef uint64_t body_response
    cdef uint64_t[HTTP2_COUNTS] http2
    cdef uint64_t streams_open          # of HTTP/2, now
    cdef uint64_t table_bytes           # of HTTP/2 header tables, now
    cdef uint64_t[BODIES_END] bodies    # inspected, by stats.BODY_OUTCOMES
    cdef uint64_t out_of_time           # of these, bodies without decoding time left
    cdef uint64_t decoded               # bytes of bodies after content decoding
    cdef uint64_t response_buckets[BUCKETS_END]
    cdef uint64_t response_sum_ns
    cdef uint64_t made[TOPICS_END]
    cdef uint64_t over_share[TOPICS_END]    # of these, dropped because their connection was over its share
    cdef void spoke(self, uint8_t* before, int what) noexcept nogil
    cdef void spoke_last(self, uint8_t* before, bint any_bytes) noexcept nogil
    cdef void count_flows(self, bint on) noexcept nogil
    cdef void odd(self, uint64_t anomalies) noexcept nogil
    cdef void odd_websocket(self, uint32_t anomalies) noexcept nogil
    cdef void response_time(self, uint64_t ns) noexcept nogil
