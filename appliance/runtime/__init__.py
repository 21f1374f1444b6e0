"""The runtime of every process of a run: its run directory, log and sandbox."""
