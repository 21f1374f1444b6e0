"""The Packet API of the library: layers over dpkt, printed, dumped and serialised."""
