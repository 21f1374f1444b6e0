"""HTTP/2 (RFC 9113) and HPACK (RFC 7541), read by an observer that may join late and lose bytes."""
