"""TCP: segments, connections, and the reassembly of both directions."""
