"""The keeper process: it copies the frames of chosen events out of the ring, for longer."""
