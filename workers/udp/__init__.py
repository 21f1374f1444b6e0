"""UDP: the flows of datagrams, for flow events."""
