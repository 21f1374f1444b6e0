"""HTTP/1: messages read from reassembled bytes, and paired into transactions."""
