"""Batches of frames and events between two processes of a run: shared memory, sockets, their formats."""
