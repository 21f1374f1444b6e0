"""The ring of recorded frames: pcapng files, each with an index of the connections in it."""
